"""The records of BAM (SAMv1 4.2), BCF (VCFv4.3 6.3) and VCF (VCFv4.5 1.6.1): their size, and where they lie."""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from htsget_flask.errors import FormatError

_SIZE = struct.Struct("<I")
# Size, reference, position, name length, quality, bin, cigar length, flags, sequence length, next reference, position.
_BAM = struct.Struct("<iiiBBHHHiii")
_BCF_SIZES = struct.Struct("<II")  # of both parts
_BCF = struct.Struct("<IIiii")  # sizes of both parts, reference, position, length on the reference
# Without the fields that state the sizes.
_BAM_FIXED_SIZE, _BCF_FIXED_SIZE = 32, 24
_UNMAPPED = 4
# M, D, N, = and X move along the reference (SAMv1 1.4.6).
_MOVES = frozenset((0, 2, 3, 7, 8))
_POSITION = re.compile(rb"[0-9]{1,18}")
_END = re.compile(rb"(?:^|;)END=([0-9]{1,18})(?:;|$)")
_SVLEN = re.compile(rb"(?:^|;)SVLEN=([^;]*)")
_NUMBER = re.compile(rb"-?([0-9]{1,18})")
# The symbolic alleles whose SVLEN counts bases of the reference, with all of their subtypes.
_SPANNING = re.compile(rb"<(?:CNV|DEL|DUP|INV)(?::[^>]*)?>")
# Those of gVCF, whose FORMAT/LEN counts bases of the reference.
_UNSPECIFIED = frozenset((b"<*>", b"<NON_REF>"))
# The search for a value after more of them takes hundreds of megabytes.
_MAX_KEYS = 10_000


class RecordSpan(NamedTuple):
    """Where a record lies: the reference as the record names it (an id, in VCF a name), 0-based, half-open."""

    reference: int | bytes
    start: int
    end: int


class RecordLayout(NamedTuple):
    """How a format's records follow each other in the uncompressed data.

    `size`: of the record at an offset, in bytes; None where the data do not hold enough of it. `span`: of a whole one.
    `may_start`: whether a record can start at an offset, where ids of references are below a limit; a record whose
    fixed part goes beyond the data may. `terminator`: what the last bytes of a record contain where no length precedes
    it, else empty.
    """

    size: Callable[[bytes, int], int | None]
    span: Callable[[bytes], RecordSpan]
    may_start: Callable[[bytes, int, int], bool]
    terminator: bytes


# A BAM record's reference is in its first bytes.
REFERENCE_END = 8


def is_unplaced(record: bytes) -> bool:
    """Whether a BAM record, of which the first `REFERENCE_END` bytes are enough, has no reference."""
    return record[4:REFERENCE_END] == b"\xff\xff\xff\xff"


def _bam_size(data: bytes, offset: int) -> int | None:
    return _SIZE.unpack_from(data, offset)[0] + 4 if len(data) - offset >= _SIZE.size else None


def _bam_span(record: bytes) -> RecordSpan:
    if len(record) < 4 + _BAM_FIXED_SIZE:
        raise FormatError("a record is damaged")
    _, reference, start, name_length, _, _, operations, flags, *_ = _BAM.unpack_from(record)
    first = 4 + _BAM_FIXED_SIZE + name_length
    end = first + 4 * operations
    if len(record) < end:
        raise FormatError("a record is damaged")
    length = 0
    if not flags & _UNMAPPED:
        for (operation,) in _SIZE.iter_unpack(record[first:end]):
            if operation & 0xF in _MOVES:
                length += operation >> 4
    return RecordSpan(reference, start, start + (length or 1))


def _bam_may_start(data: bytes, offset: int, id_limit: int) -> bool:
    if len(data) - offset < _BAM.size:
        return True
    size, reference, start, name_length, _, _, _, _, _, next_reference, next_start = _BAM.unpack_from(data, offset)
    return bool(
        size >= _BAM_FIXED_SIZE + name_length
        and name_length > 0
        and -1 <= reference < id_limit
        and -1 <= next_reference < id_limit
        and start >= -1
        and next_start >= -1
    )


def _bcf_size(data: bytes, offset: int) -> int | None:
    return 8 + sum(_BCF_SIZES.unpack_from(data, offset)) if len(data) - offset >= _BCF_SIZES.size else None


def _bcf_span(record: bytes) -> RecordSpan:
    if len(record) < _BCF.size:
        raise FormatError("a record is damaged")
    _, _, reference, start, length = _BCF.unpack_from(record)
    return RecordSpan(reference, start, start + length)


def _bcf_may_start(data: bytes, offset: int, id_limit: int) -> bool:
    if len(data) - offset < _BCF.size:
        return True
    shared, _, reference, start, length = _BCF.unpack_from(data, offset)
    return bool(shared >= _BCF_FIXED_SIZE and 0 <= reference < id_limit and start >= -1 and length >= 0)


def _vcf_size(data: bytes, offset: int) -> int | None:
    newline = data.find(b"\n", offset)
    return newline + 1 - offset if newline >= 0 else None


def _vcf_span(record: bytes) -> RecordSpan:
    """The longest of REF, INFO/END, INFO/SVLEN and FORMAT/LEN, as htslib counts it from 1.23 on."""
    fields = record.rstrip(b"\r\n").split(b"\t", 9)
    if len(fields) < 8 or not _POSITION.fullmatch(fields[1]):
        raise FormatError("a record is damaged")
    start, alleles, info = int(fields[1]) - 1, fields[4], fields[7]
    end = start + len(fields[3])
    if match := _END.search(info):
        end = max(end, int(match[1]))
    if b"<" in alleles:
        if match := _SVLEN.search(info):
            lengths = zip(_split(alleles, b","), _split(match[1], b","), strict=False)
            spans = (_number(length) for allele, length in lengths if _SPANNING.fullmatch(allele))
            end = max(end, start + max(spans, default=0))
        if not _UNSPECIFIED.isdisjoint(_split(alleles, b",")) and len(fields) > 9:
            end = max(end, start + _longest_block(fields[8], fields[9]))
    return RecordSpan(fields[0], start, end)


def _vcf_may_start(data: bytes, offset: int, _: int) -> bool:
    return data[offset - 1] == 0x0A


def _longest_block(formats: bytes, samples: bytes) -> int:
    """The greatest FORMAT/LEN of all samples; 0 without any."""
    names = b":%s:" % formats
    offset = names.find(b":LEN:")
    if offset < 0:
        return 0
    column = names.count(b":", 0, offset)
    if column > _MAX_KEYS:
        raise FormatError(f"a record has more than {_MAX_KEYS:,} keys in FORMAT")
    value = rb"(?:^|\t)(?:[^:\t]*:){%d}-?([0-9]{1,18})" % column
    return max((int(stated[1]) for stated in re.finditer(value, samples)), default=0)


def _split(text: bytes, separator: bytes) -> Iterator[bytes]:
    """The parts of a text one by one: as a list, those of the longest record would take a gigabyte."""
    start = 0
    while (end := text.find(separator, start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _number(text: bytes) -> int:
    """The number that a text starts with, without its sign; 0 where it starts with none."""
    match = _NUMBER.match(text)
    return int(match[1]) if match else 0


BAM_RECORDS = RecordLayout(_bam_size, _bam_span, _bam_may_start, b"")
BCF_RECORDS = RecordLayout(_bcf_size, _bcf_span, _bcf_may_start, b"")
VCF_RECORDS = RecordLayout(_vcf_size, _vcf_span, _vcf_may_start, b"\n")
