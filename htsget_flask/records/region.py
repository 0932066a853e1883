"""Where the records of a region lie in a file of BGZF blocks that is sorted by position.

All records between the first that starts at or after the region's start, and the first that starts at or after its end,
overlap the region. Only those before them have to be tested, in the blocks that the index names.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import Chunk
from htsget_flask.records.block_records import UNSORTED, BlockRecords
from htsget_flask.records.directory import Directory

ChunksOf = Callable[[int, int | None], list[Chunk]]
"""The index's chunks for the positions from a start to an end (None: the reference's end) of the reference."""

StartsOf = Callable[[int, int], Sequence[int]]
"""The virtual offsets between two others at which records start by the index, ascending."""

ReadRecords = Callable[[int], BlockRecords | None]
"""The records from a virtual offset on that start in its block."""


UNPLACED_ID = -1
"""In place of a reference's id: records without a reference, at whatever position."""


class RegionFilter(NamedTuple):
    """Records that overlap `start` to `end` (None: the reference's end) and do not start before `min_start`.

    `reference_id`: in the index, or `UNPLACED_ID`. Positions are 0-based, half-open.
    """

    reference_id: int
    start: int
    end: int | None
    min_start: int


class Extent(NamedTuple):
    """Where the records of a region lie: all in `chunk`, which may be empty, and some before it.

    `earlier`: the virtual offsets of the rows that have the latter.
    """

    earlier: Sequence[int]
    chunk: Chunk


def find_extent(
    region: RegionFilter,
    directory: Directory,
    chunks_of: ChunksOf,
    starts_of: StartsOf,
    read: ReadRecords,
    min_shift: int,
) -> Extent | None:
    """Where the records of a region lie; None if the index knows that there are none.

    `min_shift`: the bits of a position within a window of the index.

    Raises:
        FormatError: when the index does not fit the data, or records are damaged or not sorted.
    """
    _, start, end, _ = region
    chunks = chunks_of(start, end)
    if not chunks:
        return None
    last = chunks[-1].end
    earlier, first, row = _find_start(start, chunks, directory, read)
    if first is None or row is None:
        return Extent(earlier, Chunk(last, last))
    if end is not None and first < last:
        chunk = Chunk(row, last)
        window = (end - 1) >> min_shift << min_shift
        if window > start:
            # Usually records start in the region's last window.
            near = _find_before(end, window, chunks_of, directory)
            if near is None:
                near = _find_known_before(end, starts_of(first, last), directory)
            chunk = Chunk(row if near is None else near, last)
        last = _find_end(end, chunk, directory, read)
    _check_gaps(chunks, first, last, read)
    return Extent(earlier, Chunk(first, max(first, last)))


def _find_start(
    start: int, chunks: Sequence[Chunk], directory: Directory, read: ReadRecords
) -> tuple[list[int], int | None, int | None]:
    """The rows that overlap a position but begin before it, the first record from it on, and the row that has it.

    All are virtual offsets.
    """
    earlier: list[int] = []
    first = before = None
    for chunk in chunks:
        for row in directory.rows(chunk):
            if row.start >= start:
                first = row.begin
                break
            before = row
            if row.end > start:
                earlier.append(row.begin)
        if first is not None:
            break
    if before is not None and before.last >= start and (records := read(before.begin)):
        offset = records.offset_of(start)
        if offset is not None:
            return earlier, offset, before.begin
    return earlier, first, first


def _check_gaps(chunks: Sequence[Chunk], first: int, last: int, read: ReadRecords) -> None:
    """Check that no records lie between the chunks from `first` to `last`: if sorted, they would overlap the region."""
    for before, after in pairwise(chunks):
        if first <= before.end < after.begin < last:
            records = read(before.end)
            if records is None or records.begin < after.begin:
                raise FormatError(UNSORTED)


def _find_before(end: int, window: int, chunks_of: ChunksOf, directory: Directory) -> int | None:
    """The virtual offset of the last row that starts before a position; None if it has no record of the window."""
    for chunk in reversed(chunks_of(window, end)):
        before = None
        for row in directory.rows(chunk):
            if row.start >= end:
                break
            before = row
        if before is not None:
            return before.begin if before.last >= window else None
    return None


def _find_known_before(end: int, starts: Sequence[int], directory: Directory) -> int | None:
    """The last of these virtual offsets whose record starts before a position; None without one."""

    def start_of(begin: int) -> int:
        row = directory.row(begin)
        return end if row is None else row.start

    rank = bisect_left(starts, end, key=start_of)
    return starts[rank - 1] if rank else None


def _find_end(end: int, chunk: Chunk, directory: Directory, read: ReadRecords) -> int:
    """The virtual offset of the first record in a chunk that starts at or after a position, or the chunk's end."""
    last, before = chunk.end, None
    for row in directory.rows(chunk):
        if row.start >= end:
            last = row.begin
            break
        before = row
    if before is not None and before.last >= end and (records := read(before.begin)):
        offset = records.offset_of(end)
        last = last if offset is None else min(last, offset)
    return last
