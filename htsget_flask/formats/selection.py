"""Records of sorted files picked by their place on a reference: exactly those that overlap, not whole BGZF blocks."""

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import MAX_BLOCK_DATA, deflate, read_blocks, split_offset
from htsget_flask.formats.binning import Chunk

_LONGEST_RECORD = 256 << 20
# Compressed and sent together.
_BATCH = 4 * MAX_BLOCK_DATA

_SIZE = struct.Struct("<I")
_BAM = struct.Struct("<IiiBBHHHI")  # size, reference, position, name length, quality, bin, cigar length, flags, ...
_BAM_FIXED_SIZE = 36
_BCF = struct.Struct("<IIiii")  # sizes of both parts, reference, position, length on the reference
_UNMAPPED = 4
# M, D, N, = and X move along the reference (SAMv1 1.4.6).
_MOVES = frozenset((0, 2, 3, 7, 8))
_END = re.compile(rb"(?:^|;)END=([0-9]{1,18})(?:;|$)")


class Place(NamedTuple):
    """Where a record is: the reference as the format names it, 0-based, half-open; and its size in bytes."""

    reference: int | bytes
    start: int
    end: int
    size: int


class Wanted(NamedTuple):
    """Records that overlap `start` to `end` (None: the reference's end) and do not start before `after`."""

    reference: int | bytes
    start: int
    end: int | None
    after: int


def select(form: str, file: BinaryIO, chunks: list[Chunk], wanted: Wanted) -> Iterator[bytes]:
    """The wanted records of chunks of a BAM, BCF or VCF file, as BGZF blocks; memory is bounded by one record.

    Raises:
        FormatError: when the file is damaged.
    """
    place = _PLACES[form]
    batch = bytearray()
    for chunk in chunks:
        for record, found in _records(file, chunk, place):
            if found.reference == wanted.reference and wanted.end is not None and found.start >= wanted.end:
                break
            if found.reference == wanted.reference and found.end > wanted.start and found.start >= wanted.after:
                batch += record
                if len(batch) >= _BATCH:
                    yield deflate(bytes(batch))
                    batch.clear()
    if batch:
        yield deflate(bytes(batch))


def _records(
    file: BinaryIO, chunk: Chunk, place: Callable[[bytes, int], Place | None]
) -> Iterator[tuple[bytes, Place]]:
    """The records of a chunk, which starts and ends with one."""
    data, offset = b"", 0
    for more in _data(file, chunk):
        data, offset = data[offset:] + more, 0
        while (found := place(data, offset)) is not None and offset + found.size <= len(data):
            yield data[offset : offset + found.size], found
            offset += found.size
        if len(data) - offset > _LONGEST_RECORD:
            raise FormatError("a record is longer than any should be")
    if offset < len(data):
        raise FormatError("the index does not fit the data: a record goes beyond the end")


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


def _bam(data: bytes, offset: int) -> Place | None:
    """SAMv1 4.2."""
    if len(data) - offset < _BAM_FIXED_SIZE:
        return None
    size, reference, start, name_length, _, _, operations, flags, _ = _BAM.unpack_from(data, offset)
    first = offset + _BAM_FIXED_SIZE + name_length
    end = first + 4 * operations
    if size + 4 < end - offset:
        raise FormatError("a record is damaged")
    if len(data) < end:
        return None
    length = 0
    if not flags & _UNMAPPED:
        for (operation,) in _SIZE.iter_unpack(data[first:end]):
            if operation & 0xF in _MOVES:
                length += operation >> 4
    return Place(reference, start, start + (length or 1), size + 4)


def _bcf(data: bytes, offset: int) -> Place | None:
    """VCFv4.3 6.3."""
    if len(data) - offset < _BCF.size:
        return None
    shared, individual, reference, start, length = _BCF.unpack_from(data, offset)
    return Place(reference, start, start + length, 8 + shared + individual)


def _vcf(data: bytes, offset: int) -> Place | None:
    """VCFv4.3 1.6.1: the reference's bases, or further to INFO/END."""
    line_end = data.find(b"\n", offset)
    if line_end < 0:
        return None
    fields = data[offset:line_end].rstrip(b"\r").split(b"\t", 8)
    if len(fields) < 8 or not fields[1].isdigit():
        raise FormatError("a record is damaged")
    start = int(fields[1]) - 1
    end = start + len(fields[3])
    if found := _END.search(fields[7].partition(b"\t")[0]):
        stated = int(found[1])
        end = stated if stated > start else end
    return Place(fields[0], start, end, line_end + 1 - offset)


_PLACES: dict[str, Callable[[bytes, int], Place | None]] = {"BAM": _bam, "BCF": _bcf, "VCF": _vcf}
