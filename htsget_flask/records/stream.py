"""Records of BGZF files as a stream: the data of chunks in batches of whole records, and batches as BGZF blocks."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import MAX_BLOCK_DATA, deflate, read_blocks, split_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.records import RecordLayout
from htsget_flask.records.block_records import MAX_RECORD_SIZE

# In bytes.
_BATCH = 1 << 20
# In bytes of data: no block of records is longer, unless its file was made to exhaust the disk.
_MAX_DATA = 4 << 30


def read_data(file: BinaryIO, chunk: Chunk) -> Iterator[bytes]:
    """The uncompressed data of a chunk, BGZF block by block.

    Raises:
        FormatError: when the chunk does not start and end in BGZF blocks, or they are damaged.
    """
    (coffset, uoffset), (last, last_uoffset) = split_offset(chunk.begin), split_offset(chunk.end)
    blocks, total = read_blocks(file, coffset), 0
    while (coffset, uoffset) < (last, last_uoffset):
        block = next(blocks, None)
        if block is None:
            raise FormatError("the index does not fit the data: it goes beyond the end")
        if max(uoffset, last_uoffset if coffset == last else 0) > len(block.data):
            raise FormatError("the index does not fit the data: no record starts where it points")
        total += len(block.data)
        if total > _MAX_DATA:
            raise FormatError(f"a data block has more than {_MAX_DATA >> 30} GiB of records")
        yield block.data[uoffset : last_uoffset if coffset == last else None]
        coffset, uoffset = (last, last_uoffset) if coffset == last else (coffset + block.size, 0)
    if coffset > last:
        raise FormatError("the index does not fit the data: it is of another file")


def batch_records(data: Iterable[bytes], layout: RecordLayout) -> Iterator[bytes]:
    """The same data in batches of about 1 MiB, each of whole records.

    Raises:
        FormatError: when the data end in mid-record, or a record exceeds 64 MiB.
    """
    parts: list[bytes] = []
    length, needed = 0, _BATCH
    for part in data:
        parts.append(part)
        length += len(part)
        if length >= needed:
            batch, rest = _split(b"".join(parts), layout)
            parts, length = [rest], len(rest)
            if length > MAX_RECORD_SIZE:
                raise FormatError(f"a record exceeds {MAX_RECORD_SIZE >> 20} MiB")
            # A long record is not parsed again before the data have doubled.
            needed = max(_BATCH, 2 * length)
            if batch:
                yield batch
    batch, rest = _split(b"".join(parts), layout) if length else (b"", b"")
    if rest:
        raise FormatError("the index does not fit the data: a record goes beyond the end")
    if batch:
        yield batch


def _split(data: bytes, layout: RecordLayout) -> tuple[bytes, bytes]:
    """The whole records, and the start of the last one if it is not whole."""
    last = layout.offsets(data, len(data))[-1]
    size = layout.size(data, last)
    end = last if size is None or last + size > len(data) else last + size
    return data[:end], data[end:]


def write_bgzf(batches: Iterable[bytes], target: BinaryIO) -> None:
    """Write data as BGZF blocks, the same ones however the data are divided into batches."""
    rest = b""
    for batch in batches:
        data = rest + batch
        whole = len(data) - len(data) % MAX_BLOCK_DATA
        target.write(deflate(data[:whole]))
        rest = data[whole:]
    target.write(deflate(rest))
