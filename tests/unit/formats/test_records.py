"""Where records lie, as numpy columns: against pysam for real files, against a plain model for random ones."""

import gzip
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pysam
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import split_offset
from htsget_flask.formats.records import BAM_RECORDS, BCF_RECORDS, VCF_RECORDS, RecordLayout, RecordSpans, is_unplaced
from htsget_flask.formats.table import FORMATS
from tests.support.files import FORMATS as FORMAT_OF
from tests.support.files import GOOD_BAM, GOOD_BCF, GOOD_VCF
from tests.support.files.bam import DELETION, INSERTION, MATCH, SKIP, SOFT_CLIP, UNMAPPED, Read, bam_record

Span = tuple[int | str, int, int]
RNG = random.Random(1)


def spans_of(data: bytes, layout: RecordLayout) -> list[tuple[int | bytes, int, int]]:
    """The spans of all records, which are parsed a reference at a time."""
    offsets = np.array([*layout.offsets(data, len(data)), len(data)], np.int64) if data else np.zeros(1, np.int64)
    found: list[tuple[int | bytes, int, int]] = []
    while len(offsets) > 1:
        first = offsets[0]
        spans = layout.spans(data[first:], offsets - first)
        assert spans.starts.dtype == spans.ends.dtype == np.int64
        assert 0 < len(spans.starts) == len(spans.ends) < len(offsets)
        found += [
            (spans.reference, start, end) for start, end in zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)
        ]
        offsets = offsets[len(spans.starts) :]
    return found


def spans_of_pysam(path: Path, format_name: str) -> list[tuple[int | bytes, int, int]]:
    if format_name == "BAM":
        with pysam.AlignmentFile(str(path), check_sq=False, ignore_truncation=True) as reads:
            return [
                (
                    read.reference_id,
                    read.reference_start,
                    read.reference_end
                    if read.reference_end is not None and not read.is_unmapped and read.cigartuples
                    else read.reference_start + 1,
                )
                for read in reads.fetch(until_eof=True)
            ]
    with pysam.VariantFile(str(path), ignore_truncation=True) as variants:
        return [
            (
                variant.chrom.encode() if format_name == "VCF" else variant.rid,
                variant.start,
                variant.start + variant.rlen,
            )
            for variant in variants
        ]


@pytest.mark.filterwarnings("ignore:no BGZF EOF marker")
@pytest.mark.parametrize("name", sorted({*GOOD_BAM, *GOOD_VCF, *GOOD_BCF}))
def test_real_files(name: str, tmp_path: Path) -> None:
    path = {**GOOD_BAM, **GOOD_VCF, **GOOD_BCF}[name](tmp_path)
    format_ = FORMATS[FORMAT_OF[name]]
    layout = format_.records
    assert layout is not None
    with path.open("rb") as file:
        header = format_.read_header(file)
        coffset, uoffset = split_offset(header.end)
        file.seek(coffset)
        data = gzip.decompress(file.read())[uoffset:]
    found = spans_of(data, layout)
    assert found == spans_of_pysam(path, format_.name)
    offsets = layout.offsets(data, len(data)) if data else []
    limit = header.references.id_limit
    for offset, following in zip(offsets[:300], [*offsets, len(data)][1:], strict=False):
        assert layout.size(data, offset) in (following - offset, None)
        assert offset == 0 or layout.may_start(data, offset, limit)
        assert not data or layout is not BAM_RECORDS or not layout.may_start(data, offset + 1, limit)
    # Up to a limit, and in data that end in mid-record.
    for cut in random.Random(name).sample(range(1, len(data)), 20) if data else ():
        assert layout.offsets(data, cut) == [offset for offset in offsets if offset < cut]
        assert layout.offsets(data[:cut], cut) == [offset for offset in offsets if offset < cut]


class TestBam:
    def test_spans_of_random_records(self) -> None:
        rng = random.Random(7)
        for _ in range(20):
            reads = []
            for number in range(rng.randrange(1, 120)):
                cigar = tuple(
                    (
                        rng.choice((MATCH, INSERTION, DELETION, SKIP, SOFT_CLIP, 5, 6, 7, 8, 9)),
                        rng.choice((1, 9, 1 << 27)),
                    )
                    for _ in range(rng.choice((0, 0, 1, 3, 40)))
                )
                reads.append(
                    Read(
                        "r" * rng.randrange(1, 254),
                        rng.choice((0, 16, UNMAPPED, UNMAPPED | 1)),
                        number // 50 if number < 110 else -1,
                        rng.choice((0, -1, 5, (1 << 31) - 1)),
                        cigar,
                        rng.randrange(5),
                    )
                )
            expected = [
                (
                    read.reference_id,
                    read.start,
                    read.start
                    + max(
                        1,
                        0
                        if read.flag & UNMAPPED
                        else sum(length for operation, length in read.cigar if operation in (0, 2, 3, 7, 8)),
                    ),
                )
                for read in reads
            ]
            assert spans_of(b"".join(_record(read) for read in reads), BAM_RECORDS) == expected

    def test_the_reference_in_the_first_bytes(self) -> None:
        assert is_unplaced(_record(Read("u", UNMAPPED, -1, -1, (), 3))[:8])
        assert not is_unplaced(_record(Read("r", UNMAPPED, 0, -1, (), 3))[:8])

    @pytest.mark.parametrize(
        ("offset", "change"),
        [
            (0, b"\x1f\0\0\0"),
            (0, b"\0\0\0\0"),
            (12, b"\xff"),
            (16, b"\xff\xff"),
            (0, b"\x20\0\0\0"),
        ],
    )
    def test_damaged(self, offset: int, change: bytes) -> None:
        record = _record(Read("r", 0, 0, 5, ((MATCH, 3),), 3))
        damaged = record[:offset] + change + record[offset + len(change) :]
        for data in (damaged, damaged + record, record + damaged):
            with pytest.raises(FormatError, match="damaged"):
                spans_of(data, BAM_RECORDS)

    def test_where_one_may_start(self) -> None:
        record = _record(Read("name", 0, 1, 5, ((MATCH, 3),), 3))
        assert BAM_RECORDS.may_start(record, 0, 2)
        assert all(BAM_RECORDS.may_start(record[:size], 0, 2) for size in range(len(record)))
        changes: Sequence[tuple[int, bytes]] = [
            (0, b"\x25"),
            (4, b"\x02"),
            (4, b"\xfe\xff\xff\xff"),
            (8, b"\xfe\xff\xff\xff"),
            (12, b"\0"),
            (12, b"\x04"),
            (12, b"\x06"),
            (16, b"\xff\xff"),
            (20, b"\xff\xff\xff\x7f"),
            (20, b"\xff\xff\xff\xff"),
            (24, b"\x02\0\0\0"),
            (28, b"\xfe\xff\xff\xff"),
            (37, b"\0"),
            (40, b"x"),
        ]
        for offset, change in changes:
            damaged = record[:offset] + change + record[offset + len(change) :]
            assert not BAM_RECORDS.may_start(b"12" + damaged, 2, 2), (offset, change)


def _record(read: Read) -> bytes:
    """A record whose CIGAR is kept as it is; pysam's limit of its length does not apply here."""
    packed = bytearray(bam_record(read._replace(cigar=()), RNG))
    at = 36 + packed[12]
    operations = struct.pack(f"<{len(read.cigar)}I", *(length << 4 | operation for operation, length in read.cigar))
    packed[at:at] = operations
    packed[16:18] = struct.pack("<H", len(read.cigar))
    packed[:4] = struct.pack("<I", len(packed) - 4)
    return bytes(packed)


def bcf_record(reference: int, start: int, length: int, name: bytes = b"\x07", individual: int = 0) -> bytes:
    shared = struct.pack("<iiifIi", reference, start, length, 0.0, 2 << 16, 1) + name + b"\x17A\x17C\0"
    return struct.pack("<II", len(shared), individual) + shared + bytes(individual)


class TestBcf:
    def test_spans_of_random_records(self) -> None:
        rng = random.Random(9)
        for _ in range(10):
            rows = [
                (number // 30, rng.choice((-1, 0, 5, 1 << 30)), rng.choice((0, 1, 1 << 30))) for number in range(99)
            ]
            data = b"".join(bcf_record(*row, individual=rng.randrange(50)) for row in rows)
            assert spans_of(data, BCF_RECORDS) == [(row[0], row[1], row[1] + row[2]) for row in rows]

    def test_damaged(self) -> None:
        record = bcf_record(0, 5, 1)
        for damaged in (
            bcf_record(0, 5, -1),
            struct.pack("<I", 23) + record[4:],
            struct.pack("<II", 0, 0),
            record[:18],
        ):
            with pytest.raises(FormatError, match="damaged"):
                spans_of(damaged, BCF_RECORDS)
        with pytest.raises(FormatError, match="damaged"):
            spans_of(struct.pack("<I", 23) + record[4:] + record, BCF_RECORDS)

    def test_where_one_may_start(self) -> None:
        for name in (b"\x07", b"\x57rs123", b"\xf7\x11\x14" + b"x" * 20):
            record = bcf_record(1, 5, 1, name)
            assert BCF_RECORDS.may_start(record, 0, 2)
            assert all(BCF_RECORDS.may_start(record[:size], 0, 2) for size in range(len(record)))
        record = bcf_record(1, 5, 1, b"\x27rs")
        for offset, change in [
            (0, struct.pack("<I", 23)),
            (8, b"\x02"),
            (8, b"\xff\xff\xff\xff"),
            (12, b"\xfe\xff\xff\xff"),
            (16, b"\xff\xff\xff\xff"),
            (32, b"\x21"),
            (35, b"\x11"),
        ]:
            damaged = record[:offset] + change + record[offset + len(change) :]
            assert not BCF_RECORDS.may_start(b"12" + damaged, 2, 2), (offset, change)


def test_a_line_starts_after_a_newline() -> None:
    data = b"chr1\t1\nchr1\t2\n"
    assert [offset for offset in range(len(data) + 1) if VCF_RECORDS.may_start(data, offset, 0)] == [7, 14]
    assert VCF_RECORDS.size(data, 7) == 7
    assert VCF_RECORDS.size(data[:-1], 7) is None
    assert VCF_RECORDS.offsets(data, 14) == VCF_RECORDS.offsets(data, 8) == [0, 7]
    assert VCF_RECORDS.offsets(data, 7) == [0]


@pytest.mark.parametrize("layout", [BAM_RECORDS, BCF_RECORDS, VCF_RECORDS])
def test_random_bytes_are_a_fault_or_records(layout: RecordLayout) -> None:
    rng = random.Random(3)
    sound = {
        BAM_RECORDS: _record(Read("r", 0, 0, 5, ((MATCH, 3),), 3)) * 3,
        BCF_RECORDS: bcf_record(0, 5, 1) * 3,
        VCF_RECORDS: b"chr1\t5\t.\tA\t<DEL>,<*>\t.\t.\tEND=9;SVLEN=3\tGT:LEN\t0:9\n" * 3,
    }[layout]
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 9, 10, 48, 59, 255, rng.randrange(256)))
        try:
            offsets = layout.offsets(bytes(data), len(data))
            size = layout.size(bytes(data), offsets[-1])
            whole = offsets if size is None or offsets[-1] + size > len(data) else [*offsets, offsets[-1] + size]
            if len(whole) > 1:
                spans = layout.spans(bytes(data), np.array(whole, np.int64))
                assert isinstance(spans, RecordSpans)
                assert len(spans.starts)
        except FormatError:
            pass
