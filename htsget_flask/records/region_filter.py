"""Records of sorted BAM, BCF and VCF files that overlap a region: exactly those, not whole BGZF blocks."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import MAX_BLOCK_DATA, deflate, read_blocks, split_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.records import RecordLayout

# In bytes.
_MAX_RECORD_SIZE = 64 << 20
# Compressed and sent together.
_BATCH = 4 * MAX_BLOCK_DATA


class RecordFilter(NamedTuple):
    """Records that overlap `start` to `end` (None: the reference's end) and do not start before `min_start`.

    `reference`: as the records name it, an id or in VCF a name. Positions are 0-based, half-open.
    """

    reference: int | bytes
    start: int
    end: int | None
    min_start: int


def filter_records(
    layout: RecordLayout, file: BinaryIO, chunks: list[Chunk], record_filter: RecordFilter
) -> Iterator[bytes]:
    """The matching records of chunks, as BGZF blocks; memory is bounded by one record.

    Raises:
        FormatError: when the file is damaged.
    """
    reference, start, end, min_start = record_filter
    batch = bytearray()
    for chunk in chunks:
        for record in _records(file, chunk, layout):
            span = layout.span(record)
            if span.reference != reference:
                continue
            if end is not None and span.start >= end:
                break
            if span.end > start and span.start >= min_start:
                batch += record
                if len(batch) >= _BATCH:
                    yield deflate(bytes(batch))
                    batch.clear()
    if batch:
        yield deflate(bytes(batch))


def _records(file: BinaryIO, chunk: Chunk, layout: RecordLayout) -> Iterator[bytes]:
    """The records of a chunk, which starts and ends with one."""
    parts: list[bytes] = []
    length, size = 0, None
    for part in _data(file, chunk):
        parts.append(part)
        length += len(part)
        # Joined once a record is whole: joining each part as it comes takes time quadratic in the record's size.
        if length < size if size is not None else layout.terminator not in part:
            _check_size(length if size is None else size)
            continue
        data, offset = b"".join(parts), 0
        while (size := layout.size(data, offset)) is not None and offset + size <= len(data):
            _check_size(size)
            yield data[offset : offset + size]
            offset += size
        _check_size(size or 0)
        parts = [data[offset:]]
        length = len(parts[0])
    if length:
        raise FormatError("the index does not fit the data: a record goes beyond the end")


def _check_size(size: int) -> None:
    if size > _MAX_RECORD_SIZE:
        raise FormatError(f"a record exceeds {_MAX_RECORD_SIZE >> 20} MiB")


def _data(file: BinaryIO, chunk: Chunk) -> Iterator[bytes]:
    """The uncompressed data of a chunk, BGZF block by block."""
    (coffset, uoffset), (last, last_uoffset) = split_offset(chunk.begin), split_offset(chunk.end)
    blocks = read_blocks(file, coffset)
    while (coffset, uoffset) < (last, last_uoffset):
        block = next(blocks, None)
        if block is None:
            raise FormatError("the index does not fit the data: it goes beyond the end")
        yield block.data[uoffset : last_uoffset if coffset == last else None]
        coffset, uoffset = (last, last_uoffset) if coffset == last else (coffset + block.size, 0)
    if coffset > last:
        raise FormatError("the index does not fit the data: it is of another file")
