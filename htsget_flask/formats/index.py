"""BAI, TBI and CSI indexes as flat sorted arrays, and the chunks that they list for a region.

An index of a whole genome has 200,000 bins. As arrays it is small and can be mapped from a file, and a query is a few
binary searches.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.array_file import ArrayFields
from htsget_flask.formats.binning import Chunk, bin_ranges, first_bin, max_position, merge_chunks, parent

# Up to this many chunks a loop is at least as fast as numpy.
_FEW_CHUNKS = 128
_NO_LIMIT = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Index(ArrayFields):
    """A BAI, TBI or CSI index. All arrays are flat; references come in order, bins ascend within each.

    `shape`: int64[3], min_shift, depth, records without coordinate.
    `reference_bins`: int64[references + 1], where each reference's bins lie in `bins`.
    `bins`: uint32, bin numbers. `bin_chunks`: int64[bins + 1], where each bin's chunks lie in the chunk arrays.
    `loffsets`: uint64 for each bin, the least virtual offset of the records that overlap its leftmost window.
    `chunk_begins`, `chunk_ends`: uint64 virtual offsets. `extent`: uint64[2], the least of the begins, and the greatest
    of the ends and of the last offsets in the statistics.
    `reference_windows`: int64[references + 1], where each reference's windows lie in `windows` (empty for CSI).
    `windows`: uint64, the linear index.
    `statistics`: uint64[references, 5], from the pseudo-bin: whether it exists, the virtual offsets of the first record
    and after the last, the numbers of mapped and unmapped records.
    `names`: the reference names of a TBI or of a CSI on VCF, each followed by NUL, as bytes; else empty.
    """

    shape: npt.NDArray[np.int64]
    reference_bins: npt.NDArray[np.int64]
    bins: npt.NDArray[np.uint32]
    bin_chunks: npt.NDArray[np.int64]
    loffsets: npt.NDArray[np.uint64]
    chunk_begins: npt.NDArray[np.uint64]
    chunk_ends: npt.NDArray[np.uint64]
    extent: npt.NDArray[np.uint64]
    reference_windows: npt.NDArray[np.int64]
    windows: npt.NDArray[np.uint64]
    statistics: npt.NDArray[np.uint64]
    names: npt.NDArray[np.uint8]

    views: "_Views" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", _Views.of(self))

    @property
    def reference_count(self) -> int:
        """The number of references in the index."""
        return len(self.reference_bins) - 1

    def reference_names(self) -> Iterator[str]:
        """The names in the index, in order."""
        names, start = self.names.tobytes(), 0
        while (end := names.find(b"\0", start)) >= 0:
            yield names[start:end].decode("utf-8", "replace")
            start = end + 1

    def first_offset(self) -> int | None:
        """The least virtual offset of an indexed record; None when there is none."""
        return int(self.extent[0]) if len(self.chunk_begins) else None

    def last_offset(self) -> int:
        """The virtual offset after the last record with a coordinate, where those without start; 0 without records."""
        return int(self.extent[1])

    def record_starts(self, begin: int, end: int, reference_id: int | None = None) -> list[int]:
        """The virtual offsets between two others at which records start by the index, ascending.

        `reference_id`: only those of its records.
        """
        begins = self.chunk_begins
        if reference_id is not None:
            first, last = (int(self.bin_chunks[self.reference_bins[reference_id + step]]) for step in (0, 1))
            begins = begins[first:last]
        return np.unique(begins[(begins > np.uint64(begin)) & (begins < np.uint64(end))]).tolist()  # type: ignore[no-any-return]

    def first_position(self, reference_id: int) -> int | None:
        """A 0-based position at or before the first record of a reference, in its window; None without records."""
        if reference_id >= self.reference_count:
            return None
        views = self.views
        bins = self.bins[views.reference_bins[reference_id] : views.reference_bins[reference_id + 1]]
        leaves = bins[bins >= first_bin(views.depth)]
        if len(leaves):
            return (int(leaves[0]) - first_bin(views.depth)) << views.min_shift
        return 0 if len(bins) else None

    def chunks(self, reference_id: int, start: int, end: int | None) -> list[Chunk]:
        """The chunks that hold the records overlapping positions `start` to `end` (0-based, half-open; None: open).

        They are those that htslib reads: cut on the left by the linear index or loffset, on the right by the first
        record that must lie after `end`; merged where one ends in the block in which the next begins.
        """
        views = self.views
        if not 0 <= reference_id < self.reference_count or start >= views.limit or (end is not None and end <= start):
            return []
        first, last = views.reference_bins[reference_id], views.reference_bins[reference_id + 1]
        least = _least_offset(views, reference_id, first, last, start)
        last_position = views.limit if end is None else min(end, views.limit)
        limit = _NO_LIMIT if last_position != end else _greatest_offset(views, first, last, end)
        bins, bin_chunks = views.bins, views.bin_chunks
        spans = []
        for first_overlapping, last_overlapping in bin_ranges(start, last_position, views.min_shift, views.depth):
            low = bisect_left(bins, first_overlapping, first, last)
            if low < last and bins[low] <= last_overlapping:
                high = bisect_right(bins, last_overlapping, low, last)
                spans.append((bin_chunks[low], bin_chunks[high]))
        if sum(high - low for low, high in spans) <= _FEW_CHUNKS:
            return _merge_few(views, spans, least, limit)
        return _merge_many(self, spans, least, limit)


class _Views(NamedTuple):
    """An index's arrays as memoryviews: access to single items is several times as fast as in numpy."""

    min_shift: int
    depth: int
    limit: int
    reference_bins: memoryview
    bins: memoryview
    bin_chunks: memoryview
    loffsets: memoryview
    chunk_begins: memoryview
    chunk_ends: memoryview
    reference_windows: memoryview
    windows: memoryview
    statistics: memoryview

    @classmethod
    def of(cls, index: Index) -> "_Views":
        min_shift, depth = int(index.shape[0]), int(index.shape[1])
        arrays = (getattr(index, name) for name in cls._fields[3:])
        return cls(min_shift, depth, max_position(min_shift, depth), *(array.reshape(-1).data for array in arrays))


def _least_offset(views: _Views, reference_id: int, first: int, last: int, start: int) -> int:
    """Records that overlap positions from `start` on lie at or after this virtual offset."""
    bins = views.bins
    bin_id = first_bin(views.depth) + (start >> views.min_shift)
    nearest = -1
    while True:
        # The nearest existing bin among the siblings on the left, else the same for the parent.
        oldest_sibling = (parent(bin_id) << 3) + 1 if bin_id else 0
        index = bisect_right(bins, bin_id, first, last) - 1
        if index >= first and bins[index] >= oldest_sibling:
            nearest = index
            break
        if not bin_id:
            break
        bin_id = parent(bin_id)
    least: int = views.loffsets[nearest] if nearest >= 0 else 0
    low, high = views.reference_windows[reference_id], views.reference_windows[reference_id + 1]
    window = low + (start >> views.min_shift)
    if window >= high:
        return least
    loffset, windows = least, views.windows
    least = max(loffset, windows[window])
    has_statistics, unmapped = views.statistics[5 * reference_id], views.statistics[5 * reference_id + 4]
    if unmapped or not has_statistics:
        # Placed unmapped records are not in the linear index: an earlier window's offset covers them.
        earlier = bisect_left(windows, least, low, window) - 1
        if earlier >= low:
            least = windows[earlier]
        elif nearest >= 0:
            least = loffset
        if nearest >= 0:
            least = max(least, loffset)
    return least


def _greatest_offset(views: _Views, first: int, last: int, end: int) -> int:
    """Records that overlap positions before `end` lie before this virtual offset."""
    bins, bin_chunks = views.bins, views.bin_chunks
    bin_id = first_bin(views.depth) + ((end - 1) >> views.min_shift) + 1
    if bin_id >= first_bin(views.depth + 1):
        return _NO_LIMIT
    while True:
        while bin_id % 8 == 1:
            bin_id = parent(bin_id)
        if bin_id == 0:
            return _NO_LIMIT
        youngest_sibling = (parent(bin_id) << 3) + 8
        index = bisect_left(bins, bin_id, first, last)
        while index < last and bins[index] <= youngest_sibling:
            if bin_chunks[index] < bin_chunks[index + 1]:
                begin: int = views.chunk_begins[bin_chunks[index]]
                return begin
            index += 1
        bin_id = youngest_sibling + 1


def _merge_few(views: _Views, spans: list[tuple[int, int]], least: int, limit: int) -> list[Chunk]:
    """As `_merge_many`, whose cost is fixed: a ticket for a new window takes 100 us by this loop, 130 us by numpy."""
    chunks = []
    for low, high in spans:
        for begin, end in zip(views.chunk_begins[low:high], views.chunk_ends[low:high], strict=True):
            if end > least and begin < limit:
                chunks.append(Chunk(begin if begin > least else least, end if end < limit else limit))
    return merge_chunks(chunks)


def _merge_many(index: Index, spans: list[tuple[int, int]], least: int, limit: int) -> list[Chunk]:
    """The chunks at these spans of the arrays, cut to the virtual offsets `least` to `limit`, and merged."""
    begins = np.concatenate([index.chunk_begins[low:high] for low, high in spans])
    ends = np.concatenate([index.chunk_ends[low:high] for low, high in spans])
    lower, upper = np.uint64(least), np.uint64(limit)
    overlap = (ends > lower) & (begins < upper)
    begins, ends = np.maximum(begins[overlap], lower), np.minimum(ends[overlap], upper)
    if not len(begins):
        return []
    order = np.lexsort((ends, begins))
    begins = begins[order]
    ends = np.maximum.accumulate(ends[order])
    shift = np.uint64(16)
    apart = np.flatnonzero(begins[1:] >> shift > ends[:-1] >> shift)
    return [
        Chunk(begin, end)
        for begin, end in zip(
            begins[np.concatenate(([0], apart + 1))].tolist(),
            ends[np.concatenate((apart, [len(ends) - 1]))].tolist(),
            strict=True,
        )
    ]
