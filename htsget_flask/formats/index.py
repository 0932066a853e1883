"""BAI, TBI and CSI indexes as flat sorted arrays, and the chunks they name for a region.

An index of a whole genome holds 200,000 bins: kept as arrays it is small, it is written to and mapped from a file as
it is, and a query is a few binary searches.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from htsget_flask.formats.binning import Chunk, bin_ranges, first_bin, max_position, merge_chunks, parent

# Up to so many chunks a loop is faster than the fixed cost of numpy's calls.
_FEW_CHUNKS = 128
_NO_LIMIT = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """A BAI, TBI or CSI index. All arrays are flat; references come in order, bins ascend within each.

    `shape`: int64[3], min_shift, depth, records without coordinate.
    `reference_bins`: int64[references + 1], where each reference's bins lie in `bins`.
    `bins`: uint32, bin numbers. `bin_chunks`: int64[bins + 1], where each bin's chunks lie in the chunk arrays.
    `loffsets`: uint64 for each bin, the least virtual offset of the records that overlap its leftmost window.
    `chunk_begins`, `chunk_ends`: uint64 virtual offsets.
    `reference_windows`: int64[references + 1], where each reference's windows lie in `windows` (empty for CSI).
    `windows`: uint64, the linear index.
    `statistics`: uint64[references, 5], from the pseudo-bin: whether it is there, the virtual offsets of the first
    record and behind the last, numbers of mapped and unmapped records.
    `names`: the reference names of a TBI or of a CSI on VCF, each followed by NUL, as bytes; else empty.
    """

    shape: npt.NDArray[np.int64]
    reference_bins: npt.NDArray[np.int64]
    bins: npt.NDArray[np.uint32]
    bin_chunks: npt.NDArray[np.int64]
    loffsets: npt.NDArray[np.uint64]
    chunk_begins: npt.NDArray[np.uint64]
    chunk_ends: npt.NDArray[np.uint64]
    reference_windows: npt.NDArray[np.int64]
    windows: npt.NDArray[np.uint64]
    statistics: npt.NDArray[np.uint64]
    names: npt.NDArray[np.uint8]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> "Index":
        """The index whose fields are these arrays."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def reference_count(self) -> int:
        """The number of references that the index knows."""
        return len(self.reference_bins) - 1

    def reference_names(self) -> list[str]:
        """The names that the index itself carries, in order."""
        return self.names.tobytes().decode("utf-8", "replace").split("\0")[:-1]

    def first_offset(self) -> int | None:
        """The least virtual offset of an indexed record; None when there is none."""
        return int(self.chunk_begins.min()) if len(self.chunk_begins) else None

    def last_offset(self) -> int:
        """The virtual offset behind the last record that has a coordinate: those without follow. 0 for no record."""
        last = int(self.chunk_ends.max()) if len(self.chunk_ends) else 0
        return max(last, int(self.statistics[:, 2].max())) if len(self.statistics) else last

    def chunks(self, reference_id: int, start: int, end: int | None) -> list[Chunk]:
        """The chunks that hold the records overlapping positions `start` to `end` (0-based, half-open; None: open).

        They are those that htslib itself would read: cut on the left by the linear index or loffset, on the right by
        the first record that can only lie beyond `end`; merged where one ends in the block in which the next begins.
        """
        min_shift, depth = int(self.shape[0]), int(self.shape[1])
        limit = max_position(min_shift, depth)
        if not 0 <= reference_id < self.reference_count or start >= limit or (end is not None and end <= start):
            return []
        query = _Query(self, reference_id)
        least = query.least_offset(start)
        most = query.greatest_offset(end) if end is not None and end <= limit else _NO_LIMIT
        spans = []
        for first, last in bin_ranges(start, limit if end is None else min(end, limit), min_shift, depth):
            low = bisect_left(query.bins, first, query.first, query.last)
            high = bisect_right(query.bins, last, low, query.last)
            if low < high:
                spans.append((query.bin_chunks[low], query.bin_chunks[high]))
        if sum(high - low for low, high in spans) <= _FEW_CHUNKS:
            return _merge_few(self, spans, least, most)
        return _merge_many(self, spans, least, most)


class _Query:
    """One reference's part of an index, as memoryviews: their items come several times as fast as numpy's."""

    __slots__ = ("bin_chunks", "bins", "depth", "first", "index", "last", "min_shift", "reference_id")

    def __init__(self, index: Index, reference_id: int) -> None:
        self.index = index
        self.reference_id = reference_id
        self.min_shift, self.depth = int(index.shape[0]), int(index.shape[1])
        self.bins = index.bins.data
        self.bin_chunks = index.bin_chunks.data
        self.first = int(index.reference_bins[reference_id])
        self.last = int(index.reference_bins[reference_id + 1])

    def least_offset(self, start: int) -> int:
        """Records that overlap positions from `start` on lie at or behind this virtual offset."""
        bin_id = first_bin(self.depth) + (start >> self.min_shift)
        found = -1
        while True:
            # The nearest existing bin among the siblings on the left, else the same for the parent.
            oldest_sibling = (parent(bin_id) << 3) + 1 if bin_id else 0
            place = bisect_right(self.bins, bin_id, self.first, self.last) - 1
            if place >= self.first and self.bins[place] >= oldest_sibling:
                found = place
                break
            if not bin_id:
                break
            bin_id = parent(bin_id)
        loffset = int(self.index.loffsets[found]) if found >= 0 else 0
        low, high = self.index.reference_windows[self.reference_id : self.reference_id + 2].tolist()
        has_statistics, _, _, _, unmapped = self.index.statistics[self.reference_id].tolist()
        window = low + (start >> self.min_shift)
        if window >= high:
            return loffset
        windows = self.index.windows.data
        least = max(loffset, int(windows[window]))
        if unmapped or not has_statistics:
            # Placed unmapped records are not in the linear index: an earlier window's offset covers them.
            earlier = bisect_left(windows, least, low, window) - 1
            least = int(windows[earlier]) if earlier >= low else loffset if found >= 0 else least
            if found >= 0 and least < loffset:
                least = loffset
        return least

    def greatest_offset(self, end: int) -> int:
        """Records that overlap positions before `end` lie before this virtual offset."""
        bin_id = first_bin(self.depth) + ((end - 1) >> self.min_shift) + 1
        if bin_id >= first_bin(self.depth + 1):
            return _NO_LIMIT
        while True:
            while bin_id % 8 == 1:
                bin_id = parent(bin_id)
            if bin_id == 0:
                return _NO_LIMIT
            youngest_sibling = (parent(bin_id) << 3) + 8
            place = bisect_left(self.bins, bin_id, self.first, self.last)
            while place < self.last and self.bins[place] <= youngest_sibling:
                if self.bin_chunks[place] < self.bin_chunks[place + 1]:
                    return int(self.index.chunk_begins[self.bin_chunks[place]])
                place += 1
            bin_id = youngest_sibling + 1


def _merge_few(index: Index, spans: list[tuple[int, int]], least: int, most: int) -> list[Chunk]:
    begins, ends = index.chunk_begins.data, index.chunk_ends.data
    return merge_chunks(
        Chunk(max(least, begins[place]), min(most, ends[place]))
        for low, high in spans
        for place in range(low, high)
        if ends[place] > least and begins[place] < most
    )


def _merge_many(index: Index, spans: list[tuple[int, int]], least: int, most: int) -> list[Chunk]:
    begins = np.concatenate([index.chunk_begins[low:high] for low, high in spans])
    ends = np.concatenate([index.chunk_ends[low:high] for low, high in spans])
    lower, upper = np.uint64(least), np.uint64(most)
    kept = (ends > lower) & (begins < upper)
    begins, ends = np.maximum(begins[kept], lower), np.minimum(ends[kept], upper)
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
