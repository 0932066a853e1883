"""The `htsget` client from the Python Package Index, as a program and as a library."""

import gzip
import re
from pathlib import Path

import htsget
import pytest

from tests.support.live.regions import Region, overlapping
from tests.support.live.server import Server
from tests.support.live.tools import lines, run, view

pytestmark = pytest.mark.live

NAME, START, END = "chr1", 250_000, 252_000
REGION = Region(NAME, START, END)
FILES = [
    ("reads/NA00001", "BAM", "NA00001.bam"),
    ("reads/NA00001", "CRAM", "NA00001.cram"),
    ("variants/cohort", "VCF", "cohort.vcf.gz"),
    ("variants/cohort", "BCF", "cohort.bcf"),
]


@pytest.mark.parametrize(("dataset", "format_", "name"), FILES)
class TestTheClientWritesTheRecordsOfTheFile:
    def test_the_whole_file(
        self, demo_server: Server, demo_folder: Path, tmp_path: Path, dataset: str, format_: str, name: str
    ) -> None:
        run("htsget", f"{demo_server.url}/{dataset}", "--format", format_, "-O", name, cwd=tmp_path)
        is_equal = content(tmp_path / name) == content(demo_folder / name)
        assert is_equal

    def test_a_region(
        self, demo_server: Server, demo_folder: Path, tmp_path: Path, dataset: str, format_: str, name: str
    ) -> None:
        bounds = ("--reference-name", NAME, "--start", START, "--end", END)
        run("htsget", f"{demo_server.url}/{dataset}", "--format", format_, *bounds, "-O", name, cwd=tmp_path)
        check_region(tmp_path / name, demo_folder / name)

    def test_a_region_by_the_md5_of_its_reference(
        self, demo_server: Server, demo_folder: Path, tmp_path: Path, dataset: str, format_: str, name: str
    ) -> None:
        header = run("samtools", "view", "-H", demo_folder / "NA00001.bam", cwd=tmp_path)
        match = re.search(rf"SN:{NAME}\t.*M5:(\w+)", header)
        assert match
        bounds = ("-m", match[1], "--start", START, "--end", END, "--max-retries", 0)
        arguments = (f"{demo_server.url}/{dataset}", "--format", format_, *bounds, "-O", name)
        if format_ in ("BAM", "CRAM"):
            run("htsget", *arguments, cwd=tmp_path)
            check_region(tmp_path / name, demo_folder / name)
        else:
            # The header has no checksums: an error, not the whole file.
            with pytest.raises(AssertionError, match="no checksums"):
                run("htsget", *arguments, cwd=tmp_path)

    def test_as_a_library(
        self, demo_server: Server, demo_folder: Path, tmp_path: Path, dataset: str, format_: str, name: str
    ) -> None:
        with (tmp_path / name).open("wb") as file:
            htsget.get(
                f"{demo_server.url}/{dataset}",
                file,
                reference_name=NAME,
                start=START,
                end=END,
                data_format=format_,
                max_retries=0,
            )
        check_region(tmp_path / name, demo_folder / name)


def content(path: Path) -> bytes:
    """The content of a file, uncompressed if it is BGZF."""
    return path.read_bytes() if path.suffix == ".cram" else gzip.decompress(path.read_bytes())


def check_region(answer: Path, path: Path) -> None:
    """Check that an answer has the records that a file has in the region."""
    endpoint = "reads" if path.suffix in (".bam", ".cram") else "variants"
    program = {"reads": ("samtools", "view"), "variants": ("bcftools", "view", "-H")}[endpoint]
    records = lines(*program, path, f"{NAME}:{START + 1}-{END}", cwd=answer.parent)
    delivered = view(answer, cwd=answer.parent)
    assert records
    # CRAM is delivered in whole containers.
    assert (overlapping(REGION, delivered, endpoint) if path.suffix == ".cram" else delivered) == records
