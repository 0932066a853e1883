"""Records of sorted files picked by their place on a reference: exactly those that overlap, not whole BGZF blocks."""

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import MAX_BLOCK_DATA, deflate, read_blocks, split_offset
from htsget_flask.formats.binning import Chunk

# In bytes.
_LONGEST_RECORD = 64 << 20
# A search for the value after more of them would take hundreds of megabytes.
_MAX_KEYS = 10_000
# Compressed and sent together.
_BATCH = 4 * MAX_BLOCK_DATA

_SIZE = struct.Struct("<I")
_BAM = struct.Struct("<IiiBBHHHI")  # size, reference, position, name length, quality, bin, cigar length, flags, ...
_BAM_FIXED_SIZE = 36
_BCF_SIZES = struct.Struct("<II")  # of both parts
_BCF = struct.Struct("<IIiii")  # sizes of both parts, reference, position, length on the reference
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


class Place(NamedTuple):
    """Where a record is: the reference as the format names it, 0-based, half-open."""

    reference: int | bytes
    start: int
    end: int


class _Layout(NamedTuple):
    """How a format's records follow each other.

    `size` is the size in bytes of the record at an offset; None where the data do not say it yet. `place` is that of a
    whole record. `end` is what the last bytes of a record contain where nothing before says its size.
    """

    size: Callable[[bytes, int], int | None]
    place: Callable[[bytes], Place]
    end: bytes


class Wanted(NamedTuple):
    """Records that overlap `start` to `end` (None: the reference's end) and do not start before `after`."""

    reference: int | bytes
    start: int
    end: int | None
    after: int


def select(format_name: str, file: BinaryIO, chunks: list[Chunk], wanted: Wanted) -> Iterator[bytes]:
    """The wanted records of chunks of a BAM, BCF or VCF file, as BGZF blocks; memory is bounded by one record.

    Raises:
        FormatError: when the file is damaged.
    """
    layout = _LAYOUTS[format_name]
    batch = bytearray()
    for chunk in chunks:
        for record in _records(file, chunk, layout):
            found = layout.place(record)
            if found.reference == wanted.reference and wanted.end is not None and found.start >= wanted.end:
                break
            if found.reference == wanted.reference and found.end > wanted.start and found.start >= wanted.after:
                batch += record
                if len(batch) >= _BATCH:
                    yield deflate(bytes(batch))
                    batch.clear()
    if batch:
        yield deflate(bytes(batch))


def _records(file: BinaryIO, chunk: Chunk, layout: _Layout) -> Iterator[bytes]:
    """The records of a chunk, which starts and ends with one."""
    pieces: list[bytes] = []
    held, size = 0, None
    for more in _data(file, chunk):
        pieces.append(more)
        held += len(more)
        # Joined once a record is whole: each time that a piece comes would take time quadratic in its size.
        if held < size if size is not None else layout.end not in more:
            _check_size(held if size is None else size)
            continue
        data, offset = b"".join(pieces), 0
        while (size := layout.size(data, offset)) is not None and offset + size <= len(data):
            _check_size(size)
            yield data[offset : offset + size]
            offset += size
        _check_size(size or 0)
        pieces = [data[offset:]]
        held = len(pieces[0])
    if held:
        raise FormatError("the index does not fit the data: a record goes beyond the end")


def _check_size(size: int) -> None:
    if size > _LONGEST_RECORD:
        raise FormatError(f"a record exceeds {_LONGEST_RECORD >> 20} MiB")


def _data(file: BinaryIO, chunk: Chunk) -> Iterator[bytes]:
    """The uncompressed data of a chunk, BGZF block by block."""
    (coffset, cut), (last, last_cut) = split_offset(chunk.begin), split_offset(chunk.end)
    blocks = read_blocks(file, coffset)
    while (coffset, cut) < (last, last_cut):
        block = next(blocks, None)
        if block is None:
            raise FormatError("the index does not fit the data: it reaches behind the end")
        yield block.data[cut : last_cut if coffset == last else None]
        coffset, cut = (last, last_cut) if coffset == last else (coffset + block.size, 0)
    if coffset > last:
        raise FormatError("the index does not fit the data: it is of another file")


def _bam_size(data: bytes, offset: int) -> int | None:
    return _SIZE.unpack_from(data, offset)[0] + 4 if len(data) - offset >= _SIZE.size else None


def _bam(record: bytes) -> Place:
    """SAMv1 4.2."""
    if len(record) < _BAM_FIXED_SIZE:
        raise FormatError("a record is damaged")
    _, reference, start, name_length, _, _, operations, flags, _ = _BAM.unpack_from(record)
    first = _BAM_FIXED_SIZE + name_length
    end = first + 4 * operations
    if len(record) < end:
        raise FormatError("a record is damaged")
    length = 0
    if not flags & _UNMAPPED:
        for (operation,) in _SIZE.iter_unpack(record[first:end]):
            if operation & 0xF in _MOVES:
                length += operation >> 4
    return Place(reference, start, start + (length or 1))


def _bcf_size(data: bytes, offset: int) -> int | None:
    return 8 + sum(_BCF_SIZES.unpack_from(data, offset)) if len(data) - offset >= _BCF_SIZES.size else None


def _bcf(record: bytes) -> Place:
    """VCFv4.3 6.3."""
    if len(record) < _BCF.size:
        raise FormatError("a record is damaged")
    _, _, reference, start, length = _BCF.unpack_from(record)
    return Place(reference, start, start + length)


def _vcf_size(data: bytes, offset: int) -> int | None:
    newline = data.find(b"\n", offset)
    return newline + 1 - offset if newline >= 0 else None


def _vcf(record: bytes) -> Place:
    """VCFv4.5 1.6.1: the longest of REF, INFO/END, INFO/SVLEN and FORMAT/LEN, as htslib counts it from 1.23 on."""
    fields = record.rstrip(b"\r\n").split(b"\t", 9)
    if len(fields) < 8 or not _POSITION.fullmatch(fields[1]):
        raise FormatError("a record is damaged")
    start, alleles, info = int(fields[1]) - 1, fields[4], fields[7]
    end = start + len(fields[3])
    if found := _END.search(info):
        end = max(end, int(found[1]))
    if b"<" in alleles:
        if found := _SVLEN.search(info):
            lengths = zip(_split(alleles, b","), _split(found[1], b","), strict=False)
            spans = (_number(length) for allele, length in lengths if _SPANNING.fullmatch(allele))
            end = max(end, start + max(spans, default=0))
        if not _UNSPECIFIED.isdisjoint(_split(alleles, b",")) and len(fields) > 9:
            end = max(end, start + _longest_block(fields[8], fields[9]))
    return Place(fields[0], start, end)


def _longest_block(formats: bytes, samples: bytes) -> int:
    """The greatest FORMAT/LEN of all samples; 0 without any."""
    names = b":%s:" % formats
    found = names.find(b":LEN:")
    if found < 0:
        return 0
    column = names.count(b":", 0, found)
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
    found = _NUMBER.match(text)
    return int(found[1]) if found else 0


_LAYOUTS = {
    "BAM": _Layout(_bam_size, _bam, b""),
    "BCF": _Layout(_bcf_size, _bcf, b""),
    "VCF": _Layout(_vcf_size, _vcf, b"\n"),
}
