"""The records of regions of random sorted files, against a plain search through all records."""

import itertools
import os
import random
from pathlib import Path
from typing import NamedTuple

import pysam
import pytest

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.region_records import earlier_records, extent_of, record_starts
from htsget_flask.errors import FileFaultError
from htsget_flask.formats.bgzf import virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.records.region import RegionFilter
from htsget_flask.records.stream import read_data
from tests.support.files.bam import (
    MATCH,
    SKIP,
    UNMAPPED,
    Read,
    Reference,
    bam_data,
    bam_deep,
    bam_header,
    bam_record,
)
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, cut_unevenly, write_bgzf
from tests.support.files.indexes import make_index
from tests.support.files.vcf import bcf_data, vcf_header
from tests.support.opened import CountingFile, offsets_by_pysam

LENGTH = 20_000_000
REFERENCES = (Reference("chr1", LENGTH), Reference("chr2", LENGTH))


class Row(NamedTuple):
    """A record, its bytes, and where it lies (0-based, half-open)."""

    data: bytes
    reference_id: int
    start: int
    end: int


def random_spans(kind: str, rng: random.Random) -> list[tuple[int, int]]:
    """Starts and lengths of records, sorted."""
    position, spans = rng.randrange(1000), []
    for _ in range(rng.randint(100, 400)):
        length = rng.randint(1, 150)
        if kind == "dense":
            position += rng.randrange(4)
        elif kind == "sparse":
            position += int(10 ** rng.uniform(0, 5.3))
        elif kind == "long":
            position += rng.randrange(3000)
            length = int(10 ** rng.uniform(0, 6.2))
        elif kind == "gaps":
            position += rng.randrange(1_000_000, 6_000_000) if rng.random() < 0.01 else rng.randrange(50)
        else:
            position += rng.choice((0, 0, 0, 0, 0, 0, 0, 9000))
        if position + length >= LENGTH:
            break
        spans.append((position, length))
    return spans


def bam_rows(kind: str, rng: random.Random) -> list[Row]:
    rows: list[Row] = []
    for reference_id in (0, 1):
        for start, length in random_spans(kind, rng):
            cigar: tuple[tuple[int, int], ...] = ((MATCH, length),)
            flag, bases, end = 0, min(length, 40), start + length
            if length > 40:
                cigar = ((MATCH, 20), (SKIP, length - 40), (MATCH, 20))
            if rng.random() < 0.05:
                flag, end = UNMAPPED, start + 1
            read = Read(f"r{len(rows)}", flag, reference_id, start, cigar, bases)
            rows.append(Row(bam_record(read, rng), reference_id, start, end))
    for number in range(rng.randrange(200)):
        rows.append(Row(bam_record(Read(f"u{number}", UNMAPPED, -1, -1, (), 30), rng), -1, -1, 0))
    return rows


def vcf_rows(kind: str, rng: random.Random) -> list[Row]:
    rows = []
    for reference_id, reference in enumerate(REFERENCES):
        for start, length in random_spans(kind, rng):
            letters, info = "A" * min(length, 30), f"DP={rng.randrange(100)}"
            if length > 30:
                info += f";END={start + length}"
            text = f"{reference.name}\t{start + 1}\t.\t{letters}\tC\t.\t.\t{info}\tGT\t0/1\n"
            rows.append(Row(text.encode(), reference_id, start, start + length))
    return rows


CONTIGS = [f"##contig=<ID={name},length={length}>" for name, length in REFERENCES]


def write(folder: Path, suffix: str, kind: str, seed: int, min_shift: int | None) -> tuple[Path, list[Row]]:
    """A random file in blocks of random sizes with its index, a CSI if its `min_shift` is given, and its records."""
    rng = random.Random(f"{suffix} {kind} {seed}")
    path = folder / f"x{suffix}"
    rows = (bam_rows if suffix == ".bam" else vcf_rows)(kind, rng)
    data = b"".join(row.data for row in rows)
    header = bam_header(REFERENCES) if suffix == ".bam" else vcf_header(CONTIGS, ("one",))
    if suffix == ".bcf":
        data, header = bcf_data(folder, header + data), b""
    largest = rng.choice((60, 700, 9_000, 60_000))
    write_bgzf(path, cut_unevenly(header + data, 20, largest, str(seed)), level=1)
    if min_shift is None:
        make_index(path)
    elif suffix == ".bam":
        pysam.index("-c", "-m", str(min_shift), str(path))
    else:
        preset = "bcf" if suffix == ".bcf" else "vcf"
        pysam.tabix_index(str(path), preset=preset, csi=True, min_shift=min_shift, force=True)  # type: ignore[arg-type]
    if suffix == ".bcf":
        with CountingFile(path) as file:
            whole = b"".join(read_data(file.content, Chunk(file.header.end, virtual_offset(file.tail, 0))))
        offset, packed = 0, []
        for row in rows:
            size = 8 + sum(int.from_bytes(whole[offset + at : offset + at + 4], "little") for at in (0, 4))
            packed.append(row._replace(data=whole[offset : offset + size]))
            offset += size
        rows = packed
    return path, rows


def read_region(file: CountingFile, region: RegionFilter) -> bytes:
    extent = extent_of(file, region)
    if extent is None:
        return b""
    return b"".join((*earlier_records(file, region, extent), *read_data(file.content, extent.chunk)))


def random_region(rows: list[Row], rng: random.Random) -> RegionFilter:
    near = rng.choice(rows)
    start = max(0, rng.choice((near.start, near.end, near.end - 1, near.start + 1, rng.randrange(LENGTH))))
    if rng.random() < 0.3:
        start = start >> 14 << 14
    width = rng.choice((1, 2, 16_384, int(10 ** rng.uniform(0, 7.3))))
    end = rng.choice((start + width, start + width, max(start + 1, rng.choice(rows).start), None))
    return RegionFilter(rng.randrange(2), start, end, rng.choice((0, 0, max(0, start - 100), start)))


class TestARegionsRecords:
    @pytest.mark.parametrize("kind", ["dense", "sparse", "long", "gaps", "equal"])
    @pytest.mark.parametrize(
        ("suffix", "min_shift"), [(".bam", None), (".bam", 9), (".vcf.gz", None), (".vcf.gz", 12), (".bcf", 17)]
    )
    def test_are_those_that_overlap_it(self, suffix: str, min_shift: int | None, kind: str, tmp_path: Path) -> None:
        for seed in range(2):
            path, rows = write(tmp_path, suffix, kind, seed, min_shift)
            rng = random.Random(seed)
            cache = ByteCache(rng.choice((1 << 14, 64 << 20)))
            for number in range(50):
                region = random_region(rows, rng)
                _, start, end, min_start = region
                expected = b"".join(
                    row.data
                    for row in rows
                    if row.reference_id == region.reference_id
                    and row.end > start
                    and row.start >= min_start
                    and (end is None or row.start < end)
                )
                with CountingFile(path, cache, tmp_path / "cache" if number % 2 else None) as file:
                    assert read_region(file, region) == expected, (seed, region)

    def test_of_a_reference_that_is_not_in_the_file_are_a_fault(self, tmp_path: Path) -> None:
        path, _ = write(tmp_path, ".bam", "sparse", 1, None)
        with CountingFile(path) as file, pytest.raises(FileFaultError, match="no such reference"):
            read_region(file, RegionFilter(7, 0, 1 << 20, 0))


class TestUnsortedRecords:
    """The index is that of the sorted file; two records of the same size are swapped."""

    def write(self, folder: Path, one: int, other: int) -> Path:
        rng = random.Random(2)
        names = [f"r{number:04}" for number in range(800)]
        records = [
            bam_record(Read(name, 0, 0, 50 * number, ((MATCH, 30),), 30), rng) for number, name in enumerate(names)
        ]
        path = folder / "x.bam"
        blocks = [b"".join(records[first : first + 8]) for first in range(0, 800, 8)]
        write_bgzf(path, [bam_header(REFERENCES), *blocks], level=0)
        index = make_index(path)
        records[one], records[other] = records[other], records[one]
        blocks = [b"".join(records[first : first + 8]) for first in range(0, 800, 8)]
        write_bgzf(path, [bam_header(REFERENCES), *blocks], level=0)
        os.utime(index, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
        return path

    @pytest.mark.parametrize(("one", "other"), [(401, 402), (399, 400), (392, 407), (383, 412)])
    def test_are_a_fault(self, one: int, other: int, tmp_path: Path) -> None:
        path = self.write(tmp_path, one, other)
        for start, end in ((one * 50, one * 50 + 1), (19_000, 20_080), (20_060, 20_061)):
            with CountingFile(path) as file, pytest.raises(FileFaultError, match="not sorted"):
                read_region(file, RegionFilter(0, start, end, 0))

    def test_elsewhere_are_not_read(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, 399, 400)
        with CountingFile(path) as file:
            extent = extent_of(file, RegionFilter(0, 1000, 1051, 0))
            assert extent is not None
            assert len(b"".join(read_data(file.content, extent.chunk))) == 2 * len(
                bam_record(Read("r0000", 0, 0, 0, ((MATCH, 30),), 30), random.Random(1))
            )


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bam_deep(tmp_path_factory.mktemp("deep"))


# Of 10 kB: a window of the index has 164 reads of about 1.4 kB.
WINDOW = 24


class TestFewBlocksAreRead:
    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0, 1),
            (70000, 70001),
            (8000, 590000),
            (100000, 4900000),
            (3, 2000000),
            (0, 5050000),
            (300000, LENGTH),
            (599000, 4999000),
            (700000, 5000001),
            (100000, None),
            (16384, 32768),
        ],
    )
    def test_about_a_window_at_each_end(self, deep: Path, start: int, end: int | None) -> None:
        with CountingFile(deep) as file:
            extent = extent_of(file, RegionFilter(0, start, end, 0))
            assert extent is not None
            assert len(file.coffsets) <= 2 * WINDOW + 12

    def test_none_twice_in_a_folder_of_workers(self, deep: Path, tmp_path: Path) -> None:
        region = RegionFilter(0, 100_000, 110_000, 0)
        with CountingFile(deep, sidecars=tmp_path) as file:
            first = extent_of(file, region)
            assert len(file.coffsets) > 5
        with CountingFile(deep, sidecars=tmp_path) as file:
            assert extent_of(file, region) == first
            # Those in which the ends lie are parsed again.
            assert len(file.coffsets) <= 3


class TestRecordStarts:
    STEP = 300_000

    def test_are_the_same_for_all_chunks(self, deep: Path) -> None:
        offsets = set(offsets_by_pysam(deep))
        with CountingFile(deep) as file:
            whole = Chunk(file.header.end, virtual_offset(file.tail, 0))
            starts = record_starts(file, whole, self.STEP)
        assert offsets.issuperset(starts)
        sizes = [(after >> 16) - (before >> 16) for before, after in itertools.pairwise(starts)]
        assert len(sizes) > 20
        assert max(sizes) <= 2 * self.STEP
        rng = random.Random(5)
        ordered = sorted(offsets)
        for _ in range(40):
            begin, end = sorted(rng.sample(ordered, 2))
            with CountingFile(deep) as file:
                assert record_starts(file, Chunk(begin, end), self.STEP) == [
                    start for start in starts if begin < start < end
                ]

    def test_are_found_without_an_index(self, deep: Path, tmp_path: Path) -> None:
        path = tmp_path / "x.bam"
        path.write_bytes(deep.read_bytes())
        with CountingFile(path) as file:
            starts = record_starts(file, Chunk(file.header.end, virtual_offset(file.tail, 0)), self.STEP)
        assert len(starts) > 20
        assert set(offsets_by_pysam(deep)).issuperset(starts)

    def test_are_found_among_records_longer_than_blocks(self, tmp_path: Path) -> None:
        path, rng = tmp_path / "x.bam", random.Random(6)
        reads = (Read(f"r{number}", UNMAPPED, -1, -1, (), rng.randint(30_000, 60_000)) for number in range(80))
        write_bgzf(path, cut(bam_data((), reads), MAX_BLOCK_DATA), level=1)
        with CountingFile(path) as file:
            starts = record_starts(file, Chunk(file.header.end, virtual_offset(file.tail, 0)), self.STEP)
        assert len(starts) > 5
        assert set(offsets_by_pysam(path)).issuperset(starts)
