"""Tickets with `exact: false`, compared with pysam's records and with the chunks that htslib's index code returns."""

import random
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pysam
import pytest

from tests.support.app import http_for
from tests.support.client import (
    SUFFIXES,
    FlaskHttp,
    bgzf_blocks,
    fetch,
    fetch_ticket,
    file_header,
    header_text,
    is_subsequence,
    join,
    records,
    scan,
    truth,
)
from tests.support.files import FORMATS, GOOD, GOOD_BGZF
from tests.support.files.bam import bam_normal
from tests.support.files.bgzf import BGZF_EOF, bgzf_block
from tests.support.files.indexes import index_of
from tests.support.htslib import HtslibIndex
from tests.support.random_regions import region_count

pytestmark = pytest.mark.regions

REGIONS = region_count(200)
MAX_GAP = 1 << 16
Region = tuple[str, int | None, int | None]


class Case:
    """A file, served."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.format = FORMATS[name]
        self.folder = folder
        data = folder / "data"
        data.mkdir()
        self.path = GOOD[name](data)
        self.http = http_for(data, htsget={"exact": False})
        self.bare = http_for(data, htsget={"exact": False, "never_inline": True, "block_size": 1 << 20})
        endpoint = "reads" if self.format in ("BAM", "CRAM") else "variants"
        dataset_id = self.path.name.removesuffix(SUFFIXES[self.format])
        self.ticket_path = f"/{endpoint}/{dataset_id}"

    def fetch(self, http: FlaskHttp, regions: Sequence[Region], *, post: bool) -> bytes:
        if not post:
            ((name, start, end),) = regions
            return fetch(http, self.ticket_path, format=self.format, referenceName=name, start=start, end=end)
        body = [{"referenceName": name, "start": start, "end": end} for name, start, end in regions]
        return fetch(http, self.ticket_path, method="POST", json={"format": self.format, "regions": body})


@pytest.fixture(scope="module", params=sorted(GOOD))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def reference_names(path: Path, format_name: str) -> list[str]:
    """The names in the header, with or without records."""
    lines = file_header(path, format_name).splitlines()
    if format_name in ("BAM", "CRAM"):
        return [
            field[3:] for line in lines if line.startswith("@SQ") for field in line.split("\t") if field[:3] == "SN:"
        ]
    contigs = [line for line in lines if line.startswith("##contig=<ID=")]
    return [line[len("##contig=<ID=") :].split(",")[0].rstrip(">") for line in contigs]


def random_regions(case: Case, count: int) -> list[Region]:
    """Regions of all sizes, most of them where records are."""
    rng = random.Random(case.name)
    placed = [record for record in scan(case.path, case.format) if record.reference_name != "*"]
    names = list(
        dict.fromkeys([*reference_names(case.path, case.format), *(record.reference_name for record in placed)])
    )
    regions: list[Region] = []
    if not names:
        return regions
    for _ in range(count):
        length = int(10 ** rng.uniform(0, 4.5 if rng.random() < 0.9 else 6.5))
        if placed and rng.random() < 0.8:
            record = rng.choice(placed)
            name, start = record.reference_name, max(0, record.start + rng.randrange(-length, 200))
        else:
            name, start = rng.choice(names), rng.randrange(5_000_000)
        shape = rng.random()
        regions.append((name, None if shape < 0.05 else start, None if 0.05 <= shape < 0.1 else start + length))
    regions += [(name, None, None) for name in names[:20]]
    return regions


class TestTheWholeFileIsDelivered:
    def test_records_and_header(self, case: Case, tmp_path: Path) -> None:
        for http in (case.http, case.bare):
            body = fetch(http, case.ticket_path, format=case.format)
            assert records(body, case.format, tmp_path) == truth(case.path, case.format, None)
            assert header_text(body, case.format, tmp_path) == file_header(case.path, case.format)

    def test_header_alone_is_the_header_of_every_ticket(self, case: Case, tmp_path: Path) -> None:
        header = fetch(case.http, case.ticket_path, format=case.format, **{"class": "header"})
        assert header_text(header, case.format, tmp_path) == file_header(case.path, case.format)
        for http in (case.http, case.bare):
            tickets = [fetch_ticket(http, case.ticket_path, format=case.format)]
            for name, start, end in random_regions(case, 1)[:1]:
                region: dict[str, Any] = {"referenceName": name, "start": start, "end": end}
                tickets.append(fetch_ticket(http, case.ticket_path, format=case.format, **region))
            for ticket in tickets:
                urls = ticket["htsget"]["urls"]
                first = {"htsget": {**ticket["htsget"], "urls": urls[:1]}}
                assert urls[0]["class"] == "header"
                assert all(url["class"] == "body" for url in urls[1:])
                assert join(http, first, header_only=True) == header


class TestRegionsAreDelivered:
    def test_no_record_is_missing(self, case: Case, tmp_path: Path) -> None:
        everything = truth(case.path, case.format, None)
        # Regions in the same windows of the index have the same answer, which is read once.
        read: dict[bytes, list[str]] = {}
        for number, region in enumerate(random_regions(case, REGIONS)):
            http = case.bare if number % 4 == 0 else case.http
            body = case.fetch(http, [region], post=number % 3 == 0)
            if body not in read:
                read[body] = records(body, case.format, tmp_path)
                assert is_subsequence(read[body], everything), region
            assert is_subsequence(truth(case.path, case.format, [region]), read[body]), region

    def test_many_regions_in_one_request(self, case: Case, tmp_path: Path) -> None:
        everything = truth(case.path, case.format, None)
        regions = random_regions(case, 60)
        random.Random(1).shuffle(regions)
        for number, end in enumerate(range(6, len(regions) + 1, 6)):
            some = regions[end - 6 : end]
            http = case.bare if number % 4 == 0 else case.http
            delivered = records(case.fetch(http, some, post=True), case.format, tmp_path)
            assert is_subsequence(truth(case.path, case.format, some), delivered), some
            assert is_subsequence(delivered, everything), some

    def test_unplaced_reads(self, case: Case, tmp_path: Path) -> None:
        if case.format not in ("BAM", "CRAM"):
            pytest.skip("variants have none")
        body = case.fetch(case.http, [("*", None, None)], post=False)
        delivered = records(body, case.format, tmp_path)
        expected = truth(case.path, case.format, [("*", None, None)])
        assert is_subsequence(expected, delivered)
        if case.format == "BAM":
            assert delivered == expected


class Layout:
    """Where the data of a file's BGZF blocks lie when they are joined."""

    def __init__(self, path: Path) -> None:
        self.data = bytearray()
        self.starts: dict[int, int] = {}
        coffset = 0
        for block in bgzf_blocks(path.read_bytes()):
            self.starts[coffset] = len(self.data)
            self.data += inflate(block)
            coffset += len(block)
        self.starts[coffset] = len(self.data)

    def part(self, begin: int, end: int) -> bytes:
        first = self.starts[begin >> 16] + (begin & 0xFFFF)
        return bytes(self.data[first : self.starts[end >> 16] + (end & 0xFFFF)])


def inflate(blocks: bytes) -> bytes:
    parts = []
    while blocks:
        unpacker = zlib.decompressobj(31)
        parts.append(unpacker.decompress(blocks))
        blocks = unpacker.unused_data
    return b"".join(parts)


@lru_cache(maxsize=1)
def reference_ids(path: Path, format_name: str) -> dict[str, int]:
    """The ids by which the index knows the references that have records."""
    with HtslibIndex(path, index_path(path)) as index:
        names = index.names()
    if format_name == "VCF":
        return {name: number for number, name in enumerate(names)}
    if format_name == "BAM":
        with pysam.AlignmentFile(str(path), check_sq=False, ignore_truncation=True) as reads:
            return {name: reads.get_tid(name) for name in reads.references}
    with pysam.VariantFile(str(path), ignore_truncation=True) as variants:
        return {record.chrom: record.rid for record in variants}


def index_path(path: Path) -> Path:
    index = index_of(path)
    assert index is not None
    return index


@pytest.fixture(scope="module", params=sorted(GOOD_BGZF))
def bgzf_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.filterwarnings("ignore:no BGZF EOF marker")
class TestNoOtherChunksAreDelivered:
    """Exactly the chunks that htslib itself would read, joined where less than 64 KiB lies between them."""

    def expected(self, index: HtslibIndex, layout: Layout, ids: dict[str, int], regions: Sequence[Region]) -> bytes:
        chunks = []
        for name, start, end in regions:
            if name in ids:
                chunks += index.chunks(ids[name], start or 0, (1 << 60) if end is None else end)
        merged: list[tuple[int, int]] = []
        for begin, end in sorted(chunks):
            if merged and (begin >> 16) - (merged[-1][1] >> 16) <= MAX_GAP:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((begin, end))
        assert all(one[1] < other[0] for one, other in pairwise(merged))
        return b"".join(layout.part(begin, end) for begin, end in merged)

    def test_byte_for_byte(self, bgzf_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        case = bgzf_case
        apart = http_for(case.path.parent, htsget={"exact": False, "inline_limit": 1 << 20})
        layout, ids = Layout(case.path), reference_ids(case.path, case.format)
        header = inflate(fetch(case.http, case.ticket_path, format=case.format, **{"class": "header"}))
        regions = random_regions(case, REGIONS)
        groups: list[list[Region]] = [[region] for region in regions]
        groups += [regions[start : start + 5] for start in range(0, len(regions), 10)]
        data_of = cache(inflate)
        with HtslibIndex(case.path, index_path(case.path)) as index:
            for number, group in enumerate(filter(None, groups)):
                expected = header + self.expected(index, layout, ids, group)
                http = case.bare if number % 4 == 0 else case.http
                assert data_of(case.fetch(http, group, post=len(group) > 1)) == expected, group
                if number % 5 == 0:
                    # Chunks of many megabytes are delivered as their edges and the blocks between them.
                    with monkeypatch.context() as patch:
                        patch.setattr("htsget_flask.htsget.ticket._LONGEST_CUT", 1 << 16)
                        assert data_of(case.fetch(apart, group, post=len(group) > 1)) == expected, group


class TestALongRangeIsSplit:
    def test_where_bgzf_blocks_start(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        path = bam_normal(data)
        body, rng = bytearray(), random.Random(2)
        content = path.read_bytes()
        # An incompressible comment of several megabytes makes the file long enough.
        raw = inflate(content)
        text = raw[8 : 8 + int.from_bytes(raw[4:8], "little")]
        extra = b"@CO\t" + bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=5_000_000)) + b"\n"
        raw = raw[:4] + (len(text) + len(extra)).to_bytes(4, "little") + text + extra + raw[8 + len(text) :]
        for start in range(0, len(raw), 65280):
            body += bgzf_block(raw[start : start + 65280], level=1)
        path.write_bytes(bytes(body) + BGZF_EOF)
        # The records follow the long header: unsplit, they would start after several megabytes.
        http = http_for(data, htsget={"block_size": 1 << 20})
        ticket = fetch_ticket(http, f"/reads/{path.name.removesuffix('.bam')}")
        assert inflate(join(http, ticket)) == raw
