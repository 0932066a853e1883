"""The linear index of BAI and TBI (SAMv1 5.1.3): for each window of 16 kb the least offset of the records in it."""

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]
UInt64Array = npt.NDArray[np.uint64]

# Read at once, to bound the memory.
_MAX_WINDOWS = 1 << 18
_ABSENT = np.uint64((1 << 64) - 1)


def read_windows(pairs: UInt64Array, positions: Int64Array, counts: Int64Array) -> UInt64Array:
    """The windows of all references one after the other.

    `pairs` are the file's numbers of 64 bits, one at each word of 32 bits. `positions` and `counts`: the index in
    `pairs` of each reference's first window, and the number of its windows.
    """
    nonempty = np.flatnonzero(counts)
    positions, counts = positions[nonempty], counts[nonempty]
    ends = np.cumsum(counts)
    windows = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
    first = 0
    while first < len(counts):
        start = int(ends[first] - counts[first])
        last = max(first + 1, int(np.searchsorted(ends, start + _MAX_WINDOWS, "right")))
        windows[start : int(ends[last - 1])] = _read_some(pairs, positions[first:last], counts[first:last])
        first = last
    return windows


def _read_some(pairs: UInt64Array, positions: Int64Array, counts: Int64Array) -> UInt64Array:
    ends: Int64Array = np.cumsum(counts)
    starts = ends - counts
    ranks = np.arange(ends[-1])
    windows: UInt64Array = pairs[np.repeat(positions - 2 * starts, counts) + 2 * ranks]
    # Writers leave 0 or all ones for a window in which no record starts: the next window's offset applies.
    empty = (windows == 0) | (windows == _ABSENT)
    if empty.any():
        first_filled = np.minimum.reduceat(np.where(windows != 0, ranks, ends[-1]), starts)
        empty &= ranks >= np.repeat(first_filled, counts)
        following = np.where(empty, np.repeat(ends - 1, counts), ranks)
        windows = windows[np.minimum.accumulate(following[::-1])[::-1]]
    return windows


def imply_loffsets(
    depth: int, bins: UInt32Array, references: UInt32Array, reference_windows: Int64Array, windows: UInt64Array
) -> UInt64Array:
    """What CSI states, and BAI and TBI imply: the linear index at each bin's leftmost window, 0 past its end."""
    levels = [np.arange(1 << 3 * level) << 3 * (depth - level) for level in range(depth + 1)]
    leftmost = reference_windows[references] + np.concatenate(levels)[bins]
    inside = leftmost < reference_windows[references + 1]
    return np.where(inside, np.append(windows, np.uint64(0))[np.minimum(leftmost, len(windows))], np.uint64(0))
