"""htsjdk's own htsget client: the reads of BAM, of CRAM as BAM, and of regions."""

from pathlib import Path

import pytest

from tests.live.conftest import Alone
from tests.support.live import htsjdk
from tests.support.live.server import Server
from tests.support.live.tools import lines
from tests.support.view import view

pytestmark = pytest.mark.live

NAME, START, END = "chr1", 250_000, 252_000
UNMAPPED = 4


def mapped(reads: list[str]) -> list[str]:
    """Those that htsjdk's queries return: it drops unmapped reads that have the position of their mate."""
    return [read for read in reads if not int(read.split("\t", 2)[1]) & UNMAPPED]


def by_tag(reads: list[str]) -> list[str]:
    """Reads with their tags sorted: htsjdk has another order."""
    columns = (read.split("\t") for read in reads)
    return ["\t".join([*read[:11], *sorted(read[11:])]) for read in columns]


class TestBam:
    def test_all_reads(self, demo_server: Server, demo_folder: Path, tmp_path: Path) -> None:
        reads = htsjdk.view(f"{demo_server.url}/reads/NA00001", cwd=tmp_path)
        expected = lines("samtools", "view", demo_folder / "NA00001.bam", cwd=tmp_path)
        is_equal = by_tag(reads) == by_tag(expected)
        assert is_equal

    def test_a_region(self, demo_server: Server, demo_folder: Path, tmp_path: Path) -> None:
        reads = htsjdk.view(f"{demo_server.url}/reads/NA00001", NAME, START + 1, END, cwd=tmp_path)
        region = f"{NAME}:{START + 1}-{END}"
        expected = lines("samtools", "view", demo_folder / "NA00001.bam", region, cwd=tmp_path)
        assert by_tag(mapped(reads)) == by_tag(mapped(expected)) != []


class TestCramAsBam:
    def test_all_reads(self, alone: Alone, tmp_path: Path) -> None:
        reads = htsjdk.view(f"{alone.server.url}/reads/referenced", cwd=tmp_path)
        expected = view(alone.folder / "referenced.cram", "CRAM", reference=alone.reference)
        assert by_tag(reads) == by_tag(expected) != []

    def test_a_region(self, alone: Alone, tmp_path: Path) -> None:
        reads = htsjdk.view(f"{alone.server.url}/reads/NA00001", NAME, START + 1, END, cwd=tmp_path)
        region = f"{NAME}:{START + 1}-{END}"
        expected = lines("samtools", "view", alone.folder / "NA00001.cram", region, cwd=tmp_path)
        assert by_tag(mapped(reads)) == by_tag(mapped(expected)) != []
