"""Regions hold the records that samtools and bcftools print for them, no more and no less."""

import gzip
import random
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.datasets import region_records
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.htsget import block_bytes, block_delivery, record_spans, ticket
from htsget_flask.htsget.block_bytes import write_records
from htsget_flask.htsget.data_blocks import Records
from tests.support import referenced
from tests.support.app import http_for
from tests.support.client import SUFFIXES, UNPLACED, Region, fetch, fetch_ticket, is_subsequence, join
from tests.support.files import FORMATS, GOOD, GOOD_BGZF, GOOD_CRAM
from tests.support.files.spans import SPANS
from tests.support.live.regions import endpoint_of
from tests.support.live.tools import DATA
from tests.support.random_regions import region_count
from tests.support.served import ServedFile, is_empty, small_limits

pytestmark = pytest.mark.regions

REGIONS = region_count(300)
REAL = (
    "reads/htsnexus_test_NA12878.bam",
    "reads/NA12878.chr20.sample.bam",
    "variants/spec-v4.3.vcf.gz",
    "variants/spec-v4.3.bcf",
    "variants/sample1-bcbio-cancer.vcf.gz",
    "variants/sample1-bcbio-cancer.bcf",
)


class Case(ServedFile):
    """A file that is served with a setting of `exact`."""

    def __init__(self, name: str, folder: Path, *, exact: bool | str, path: Path | None = None) -> None:
        super().__init__(name, folder, path=path)
        self.http = self.serve(htsget={"exact": exact})
        self.header = fetch(self.http, self.ticket_path, format=self.format, **{"class": "header"})
        self.raw_lines = raw_lines(self.path) if self.format == "VCF" else []

    def get(self, region: Region, *, inline: bool) -> list[str]:
        """The answer's records for a region by GET."""
        parameters: dict[str, Any] = dict(zip(("referenceName", "start", "end"), region, strict=True))
        inline_parameter = {} if inline else {"inline": "false"}
        return self.read(fetch(self.http, self.ticket_path, format=self.format, **parameters, **inline_parameter))

    def post(self, regions: Sequence[Region], *, inline: bool) -> list[str]:
        """The answer's records for regions by POST."""
        body = [{"referenceName": name, "start": start, "end": end} for name, start, end in regions]
        query = {"format": self.format, "regions": body, "inline": inline}
        return self.read(fetch(self.http, self.ticket_path, method="POST", json=query))

    def read(self, body: bytes) -> list[str]:
        """The lines that the programs print of an answer, whose header and end are the file's."""
        assert body.startswith(self.header)
        lines = self.delivered(body, self.format)
        if self.format == "VCF":
            # Every byte of a line, which bcftools would format.
            assert is_subsequence(raw_lines(self.answer("VCF")), self.raw_lines)
        return lines


def raw_lines(path: Path) -> list[str]:
    """The records of a compressed VCF file as they are, without the line feeds."""
    data = gzip.decompress(path.read_bytes()).decode().removesuffix("\n")
    return [line for line in data.split("\n") if not line.startswith("#")]


@pytest.fixture(scope="module", params=[*GOOD_BGZF, *SPANS, *REAL])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A file of BGZF blocks."""
    folder = tmp_path_factory.mktemp("exact")
    path = copy_real(request.param, folder) if request.param in REAL else None
    return Case(request.param, folder, exact=True, path=path)


def copy_real(name: str, folder: Path) -> Path:
    """A copy of a file that other software wrote, with its index."""
    source = DATA / name
    if not source.is_file():
        pytest.skip(f"there is no ../shared/data/{name}")
    data = folder / "data"
    data.mkdir()
    for path in source.parent.glob(f"{source.name}*"):
        shutil.copy2(path, data)
    return data / source.name


@pytest.fixture(scope="module", params=[*GOOD_CRAM, *referenced.OPTIONS])
def cram(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A CRAM file, whose references are available."""
    return Case(request.param, tmp_path_factory.mktemp("exact"), exact="all")


def check_one_by_one(case: Case, regions: Sequence[Region]) -> None:
    for number, region in enumerate(regions):
        with small_limits() if number % 5 > 1 else nullcontext():
            if number % 3 == 0 and not is_empty(region):
                delivered = case.post([region], inline=number % 4 > 0)
            else:
                delivered = case.get(region, inline=number % 4 > 0)
        # Compared apart: pytest would take minutes to print the difference.
        is_equal = delivered == case.expected([region])
        assert is_equal, region


def check_together(case: Case, regions: Sequence[Region]) -> None:
    """Several regions in one request: any, some that overlap, and some that touch."""
    rng = random.Random(case.path.name)
    rows = [region for region in regions if not is_empty(region)]
    groups = [rng.sample(rows, min(rng.randrange(2, 7), len(rows))) for _ in range(len(rows) // 6)]
    for name, start, end in rows[:: max(1, len(rows) // 10)]:
        begin, last = start or 0, end or (start or 0) + 100_000
        middle = (begin + last) // 2
        if begin < middle < last:
            groups.append([(name, begin, middle), (name, middle, last)])
            groups.append([(name, middle, last), (name, begin, middle + 1), (name, last, last + 1)])
    for number, group in enumerate(groups):
        with small_limits() if number % 3 else nullcontext():
            delivered = case.post(group, inline=number % 2 > 0)
        is_equal = delivered == case.expected(group)
        assert is_equal, group


class TestExactlyTheRegion:
    def test_one_by_one(self, case: Case) -> None:
        check_one_by_one(case, case.regions(REGIONS))

    def test_together(self, case: Case) -> None:
        check_together(case, case.regions(REGIONS // 3, "together"))

    def test_unplaced_reads(self, case: Case) -> None:
        """All of them, also where the index does not say how many there are: samtools finds none then."""
        if case.format != "BAM":
            pytest.skip("variants have none")
        unplaced: Region = (UNPLACED, None, None)
        expected = [line for line in case.lines if line.split("\t", 3)[2] == UNPLACED]
        for inline in (True, False):
            assert case.get(unplaced, inline=inline) == expected
        for region in case.regions(3)[:1]:
            assert case.post([unplaced, region], inline=True) == case.expected([region]) + expected


@pytest.mark.parametrize("name", ["bam_spliced", "vcf_symbolic", "bcf_symbolic"])
def test_too_many_records_before_a_region_for_the_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Records] = []

    def write(file: OpenFile, block: Records, tools: Any, target: Any) -> None:
        written.append(block)
        write_records(file, block, tools, target)

    for module in (block_bytes, region_records):
        monkeypatch.setattr(module, "MAX_ROWS_IN_MEMORY", 0)
    monkeypatch.setattr(record_spans, "_MAX_ROWS", 0)
    monkeypatch.setattr(block_delivery, "write_records", write)
    # Some end in mid-record, where a range of the file follows.
    monkeypatch.setattr(ticket, "_LONGEST_CUT", 1 << 16)
    case = Case(name, tmp_path, exact=True)
    check_one_by_one(case, case.regions(40))
    assert {block.span is None for block in written} == ({True, False} if name == "bam_spliced" else {True})


class TestExactlyTheRegionOfCram:
    def test_one_by_one(self, cram: Case) -> None:
        check_one_by_one(cram, cram.regions(REGIONS // 10))

    def test_together(self, cram: Case) -> None:
        check_together(cram, cram.regions(REGIONS // 10, "together"))


@pytest.mark.parametrize("name", GOOD)
def test_whole_files_and_headers_do_not_depend_on_it(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path, format_name = GOOD[name](data), FORMATS[name]
    path_of_ticket = f"/{endpoint_of(format_name)}/{path.name.removesuffix(SUFFIXES[format_name])}"
    answers: dict[tuple[str, ...], set[bytes]] = {}
    for exact in (False, True, "all"):
        http = http_for(data, htsget={"exact": exact})
        for parameters in ({}, {"inline": "false"}, {"class": "header"}):
            ticket = fetch_ticket(http, path_of_ticket, format=format_name, **parameters)
            answers.setdefault(tuple(parameters), set()).add(join(http, ticket))
    assert [len(bodies) for bodies in answers.values()] == [1, 1, 1]
