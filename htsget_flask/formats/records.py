"""The records of BAM (SAMv1 4.2), BCF (VCFv4.3 6.3) and VCF (VCFv4.5 1.6.1): their size, and where they lie."""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.errors import FormatError
from htsget_flask.formats.vcf_spans import find_vcf_spans

Int64Array = npt.NDArray[np.int64]

_SIZE = struct.Struct("<I")
# Size, reference, position, name length, quality, bin, cigar length, flags, sequence length, next reference, position.
_BAM = struct.Struct("<iiiBBHHHiii")
_BCF_SIZES = struct.Struct("<II")  # of both parts
_BCF = struct.Struct("<IIiii")  # sizes of both parts, reference, position, length on the reference
# A BAM record without name, CIGAR, bases and tags.
BAM_FIXED = np.dtype(
    [
        ("size", "<i4"),
        ("reference", "<i4"),
        ("position", "<i4"),
        ("name_length", "u1"),
        ("quality", "u1"),
        ("bin", "<u2"),
        ("operations", "<u2"),
        ("flags", "<u2"),
        ("bases", "<i4"),
        ("next_reference", "<i4"),
        ("next_position", "<i4"),
        ("template_length", "<i4"),
    ]
)
_OPERATION = np.dtype("<u4")
_BCF_ROW = np.dtype([("sizes", "V8"), ("reference", "<i4"), ("start", "<i4"), ("length", "<i4")])
# Without the fields that state the sizes.
_BAM_FIXED_SIZE, _BCF_FIXED_SIZE = 32, 24
_UNMAPPED = 4
# M, D, N, = and X move along the reference (SAMv1 1.4.6): a bit for each.
_MOVES = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8
# The type of strings in BCF (VCFv4.3 6.3.3), and the length in front of which another number has the length.
_STRING, _LONG = 7, 15

_DAMAGED = "a record is damaged"


class RecordSpans(NamedTuple):
    """Where records of one reference lie, 0-based, half-open; they are the first of those that were parsed.

    `reference`: as the records name it, an id or in VCF a name. `starts`, `ends`: int64[records].
    """

    reference: int | bytes
    starts: Int64Array
    ends: Int64Array


class RecordLayout(NamedTuple):
    """How a format's records follow each other in the uncompressed data.

    `size`: of the record at an offset, in bytes; None where the data do not hold enough of it. `offsets`: of the
    records that start before a limit, where the first starts at 0. `spans`: of the whole records at these offsets up to
    the first of another reference; the last offset is the end of the records. `may_start`: whether a record can start
    at an offset, where ids of references are below a limit; a record whose fixed part goes beyond the data may.
    `terminator`: what the last bytes of a record contain where no length precedes it, else empty.
    """

    size: Callable[[bytes, int], int | None]
    offsets: Callable[[bytes, int], list[int]]
    spans: Callable[[bytes, Int64Array], RecordSpans]
    may_start: Callable[[bytes, int, int], bool]
    terminator: bytes


# A BAM record's reference is in its first bytes.
REFERENCE_END = 8


def is_unplaced(record: bytes) -> bool:
    """Whether a BAM record, of which the first `REFERENCE_END` bytes are enough, has no reference."""
    return record[4:REFERENCE_END] == b"\xff\xff\xff\xff"


def _bam_size(data: bytes, offset: int) -> int | None:
    return _SIZE.unpack_from(data, offset)[0] + 4 if len(data) - offset >= _SIZE.size else None


def _bam_offsets(data: bytes, limit: int) -> list[int]:
    offsets, offset, last, unpack = [], 0, len(data) - _SIZE.size, _SIZE.unpack_from
    while offset < limit:
        offsets.append(offset)
        if offset > last:
            break
        (size,) = unpack(data, offset)
        if size < _BAM_FIXED_SIZE:
            raise FormatError(_DAMAGED)
        offset += size + 4
    return offsets


def _bam_spans(data: bytes, offsets: Int64Array) -> RecordSpans:
    rows = _rows(data, offsets[:-1], BAM_FIXED)
    count = _run_length(rows["reference"])
    rows = rows[:count]
    operations = rows["operations"].astype(np.int64)
    first = offsets[:count] + BAM_FIXED.itemsize + rows["name_length"]
    if (first + 4 * operations > offsets[1 : count + 1]).any():
        raise FormatError(_DAMAGED)
    operations[rows["flags"] & _UNMAPPED != 0] = 0
    bounds = np.concatenate(([0], np.cumsum(operations)))
    cigar = _rows(data, np.repeat(first - 4 * bounds[:-1], operations) + 4 * np.arange(bounds[-1]), _OPERATION)
    moves = np.concatenate(([0], np.cumsum((cigar >> 4) * (_MOVES >> (cigar & 0xF) & 1), dtype=np.int64)))
    starts = rows["position"].astype(np.int64)
    return RecordSpans(
        int(rows["reference"][0]), starts, starts + np.maximum(moves[bounds[1:]] - moves[bounds[:-1]], 1)
    )


def _rows(data: bytes, offsets: Int64Array, row: "np.dtype[Any]") -> npt.NDArray[Any]:
    """What lies at these offsets, as rows of a type."""
    limit = len(data) - row.itemsize + 1
    if len(offsets) and offsets[-1] >= limit:
        raise FormatError(_DAMAGED)
    return np.ndarray((max(limit, 0),), row, data, strides=(1,))[offsets]


def _run_length(references: npt.NDArray[Any]) -> int:
    """How many of the first records have the reference of the first one."""
    is_same = references == references[0]
    return len(is_same) if is_same.all() else int(np.argmin(is_same))


def _bam_may_start(data: bytes, offset: int, id_limit: int) -> bool:
    if len(data) - offset < _BAM.size:
        return True
    size, reference, start, name_length, _, _, operations, _, bases, next_reference, next_start = _BAM.unpack_from(
        data, offset
    )
    name = offset + 4 + _BAM_FIXED_SIZE
    last = name + name_length - 1
    return bool(
        size >= _BAM_FIXED_SIZE + name_length + 4 * operations + (bases + 1) // 2 + bases
        and bases >= 0
        and name_length > 0
        and data.find(b"\0", name, last + 1) == (last if last < len(data) else -1)
        and -1 <= reference < id_limit
        and -1 <= next_reference < id_limit
        and start >= -1
        and next_start >= -1
    )


def _bcf_size(data: bytes, offset: int) -> int | None:
    return 8 + sum(_BCF_SIZES.unpack_from(data, offset)) if len(data) - offset >= _BCF_SIZES.size else None


def _bcf_offsets(data: bytes, limit: int) -> list[int]:
    offsets, offset, last, unpack = [], 0, len(data) - _BCF_SIZES.size, _BCF_SIZES.unpack_from
    while offset < limit:
        offsets.append(offset)
        if offset > last:
            break
        shared, individual = unpack(data, offset)
        if shared < _BCF_FIXED_SIZE:
            raise FormatError(_DAMAGED)
        offset += 8 + shared + individual
    return offsets


def _bcf_spans(data: bytes, offsets: Int64Array) -> RecordSpans:
    rows = _rows(data, offsets[:-1], _BCF_ROW)
    rows = rows[: _run_length(rows["reference"])]
    if (rows["length"] < 0).any():
        raise FormatError(_DAMAGED)
    starts = rows["start"].astype(np.int64)
    return RecordSpans(int(rows["reference"][0]), starts, starts + rows["length"])


def _bcf_may_start(data: bytes, offset: int, id_limit: int) -> bool:
    if len(data) - offset < _BCF.size:
        return True
    shared, _, reference, start, length = _BCF.unpack_from(data, offset)
    if not (shared >= _BCF_FIXED_SIZE and 0 <= reference < id_limit and start >= -1 and length >= 0):
        return False
    # ID and REF follow, which are strings.
    position = offset + 8 + _BCF_FIXED_SIZE
    while position < len(data) and data[position] & 0xF == _STRING:
        if position > offset + 8 + _BCF_FIXED_SIZE or data[position] >> 4 == _LONG:
            return True
        position += 1 + (data[position] >> 4)
    return position >= len(data)


def _vcf_size(data: bytes, offset: int) -> int | None:
    newline = data.find(b"\n", offset)
    return newline + 1 - offset if newline >= 0 else None


def _vcf_offsets(data: bytes, limit: int) -> list[int]:
    newlines = np.flatnonzero(np.frombuffer(data, np.uint8, min(limit, len(data))) == 0x0A)
    return [0, *(newlines[newlines < limit - 1] + 1).tolist()]


def _vcf_spans(data: bytes, offsets: Int64Array) -> RecordSpans:
    return RecordSpans(*find_vcf_spans(data, offsets))


def _vcf_may_start(data: bytes, offset: int, _: int) -> bool:
    return offset > 0 and data[offset - 1] == 0x0A


BAM_RECORDS = RecordLayout(_bam_size, _bam_offsets, _bam_spans, _bam_may_start, b"")
BCF_RECORDS = RecordLayout(_bcf_size, _bcf_offsets, _bcf_spans, _bcf_may_start, b"")
VCF_RECORDS = RecordLayout(_vcf_size, _vcf_offsets, _vcf_spans, _vcf_may_start, b"\n")
