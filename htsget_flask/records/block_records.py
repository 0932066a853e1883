"""The records that start in one BGZF block: where each one lies in the file, and on its reference."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import BgzfBlock, split_offset, virtual_offset
from htsget_flask.formats.records import RecordLayout

UNSORTED = "its records are not sorted by position"

# In bytes.
MAX_RECORD_SIZE = 64 << 20
# For the records that start in one block, with empty blocks before them: most records take one or two, those of 64 MiB
# some thousand.
_MAX_BLOCKS = 20_000
# How many records in a row are no coincidence.
_MIN_CHAIN = 4

ReadBlock = Callable[[int], BgzfBlock]
"""The BGZF block at a byte offset."""


class BlockRecords(NamedTuple):
    """The records of one reference that follow each other and start in one BGZF block, sorted by position.

    `begin`: the virtual offset of the first record; `next`: after the last one. `reference`: as the records name it.
    `data`: the records one after the other; `offsets`: int64[records + 1], where each one starts in them, and the end
    of the last one. `starts`, `ends`: int64[records], 0-based, half-open. `is_block`: whether `data` are those of the
    BGZF block, and not a copy.
    """

    begin: int
    next: int
    reference: int | bytes
    data: bytes
    offsets: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    is_block: bool = False

    @property
    def memory(self) -> int:
        """The memory in bytes, without the block that a cache has too."""
        return 24 * len(self.offsets) + (0 if self.is_block else len(self.data))

    def offset_of(self, position: int) -> int | None:
        """The virtual offset of the first record that starts at or after a position; None without such a record."""
        index = int(self.starts.searchsorted(position))
        return self.begin + int(self.offsets[index]) if index < len(self.starts) else None

    def select(self, position: int, min_start: int) -> list[bytes]:
        """The records that overlap a position, and start before it but not before `min_start`."""
        # BAM can state positions before a reference's first base.
        low, high = self.starts.searchsorted((min_start or -1, position)).tolist()
        indices = low + np.flatnonzero(self.ends[low:high] > position)
        bounds = zip(self.offsets[indices].tolist(), self.offsets[indices + 1].tolist(), strict=True)
        return [self.data[first:last] for first, last in bounds]


def read_block_records(
    read_block: ReadBlock, begin: int, limit: int, layout: RecordLayout, id_limit: int
) -> BlockRecords | None:
    """The records from a virtual offset on that start in the same BGZF block, or in the next one that has data.

    None if there is no such block before the byte offset `limit`. `id_limit`: ids of references are below it.

    Raises:
        FormatError: when no record starts there, or records are damaged or not sorted by position.
    """
    read_block = _limited(read_block)
    coffset, uoffset = split_offset(begin)
    if coffset >= limit:
        return None
    block = read_block(coffset)
    while uoffset == len(block.data):
        coffset, uoffset = coffset + block.size, 0
        if coffset >= limit:
            return None
        block = read_block(coffset)
    if uoffset > len(block.data) or not (uoffset == 0 or layout.may_start(block.data, uoffset, id_limit)):
        raise FormatError("the index does not fit the data: no record starts where it points")
    first = virtual_offset(coffset, uoffset)
    starts = layout.offsets(block.data[uoffset:], len(block.data) - uoffset)
    data, after = _read_records(read_block, layout, first, limit, block, starts[-1])
    offsets = np.array([*starts, len(data)], np.int64)
    spans = layout.spans(data, offsets)
    count = len(spans.starts)
    if (spans.starts[1:] < spans.starts[:-1]).any():
        raise FormatError(UNSORTED)
    if count < len(starts):
        after = first + starts[count]
    columns = offsets[: count + 1], spans.starts, spans.ends
    return BlockRecords(first, after, spans.reference, data, *columns, is_block=data is block.data)


def find_record(data: bytes, layout: RecordLayout, id_limit: int) -> int | None:
    """The offset of a record in the data of a BGZF block, which may start in mid-record: usually the first one.

    That is where several records follow each other up to the end of the data, which does not happen by chance; None if
    there are too few.
    """
    excluded: set[int] = set()
    for start in range(len(data)):
        chain, offset = [], start
        while offset < len(data) and offset not in excluded and layout.may_start(data, offset, id_limit):
            chain.append(offset)
            size = layout.size(data, offset)
            offset = len(data) if size is None else offset + size
        if offset >= len(data) and len(chain) >= _MIN_CHAIN:
            return start
        # No chain is followed twice: that would take time quadratic in the size of the data.
        excluded.update(chain)
    return None


def _limited(read_block: ReadBlock) -> ReadBlock:
    """The same function for a bounded number of calls."""
    numbers = iter(range(_MAX_BLOCKS))

    def read(coffset: int) -> BgzfBlock:
        if next(numbers, None) is None:
            raise FormatError(f"a record, or the gap before it, has more than {_MAX_BLOCKS:,} BGZF blocks")
        return read_block(coffset)

    return read


def _read_records(
    read_block: ReadBlock, layout: RecordLayout, first: int, limit: int, block: BgzfBlock, last: int
) -> tuple[bytes, int]:
    """The data from virtual offset `first`, in `block`, to the end of the record at offset `last` in them.

    The second value is the virtual offset after this record. At byte offset `limit` the last line of VCF may end.
    """
    coffset, uoffset = split_offset(first)
    parts = [block.data[uoffset:] if uoffset else block.data]
    length, size = len(parts[0]), layout.size(parts[0], last)
    while size is None or last + size > length:
        _check_size(length - last if size is None else size)
        if coffset + block.size >= limit and layout.terminator:
            size = length - last
            break
        coffset += block.size
        block = read_block(coffset)
        parts.append(block.data)
        length += len(block.data)
        # Joined once the size is known: joining each part as it comes takes time quadratic in the record's size.
        if size is None and layout.terminator in block.data:
            size = layout.size(b"".join(parts), last)
    _check_size(size)
    rest = length - last - size
    end = virtual_offset(coffset, len(block.data) - rest) if rest else virtual_offset(coffset + block.size, 0)
    data = b"".join(parts) if len(parts) > 1 else parts[0]
    return (data[: last + size] if rest else data), end


def _check_size(size: int) -> None:
    if size > MAX_RECORD_SIZE:
        raise FormatError(f"a record exceeds {MAX_RECORD_SIZE >> 20} MiB")
