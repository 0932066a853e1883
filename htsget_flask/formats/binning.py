"""Bins, as BAI, TBI and CSI number them (SAMv1 5.3, CSIv1), and chunks: half-open pairs of virtual offsets."""

from collections.abc import Iterable
from typing import NamedTuple

BAI_MIN_SHIFT = 14
BAI_DEPTH = 5


class Chunk(NamedTuple):
    """The records from virtual offset `begin` up to `end`."""

    begin: int
    end: int


def first_bin(level: int) -> int:
    """The number of the first bin at a level; level 0 is the root."""
    return ((1 << 3 * level) - 1) // 7


def parent(bin_id: int) -> int:
    """The number of a bin's parent; the root has none."""
    return (bin_id - 1) >> 3


def max_position(min_shift: int, depth: int) -> int:
    """The number of positions that an index of this shape covers: its records lie before it."""
    return 1 << (min_shift + 3 * depth)


def bin_ranges(start: int, end: int, min_shift: int, depth: int) -> list[tuple[int, int]]:
    """For each level the first and last number of the bins that overlap positions `start` to `end` (half-open)."""
    shift = min_shift + 3 * depth
    first, ranges = 0, []
    for _ in range(depth + 1):
        ranges.append((first + (start >> shift), first + ((end - 1) >> shift)))
        first, shift = (first << 3) + 1, shift - 3
    return ranges


def merge_chunks(chunks: Iterable[Chunk], *, max_gap: int = 0) -> list[Chunk]:
    """The union of the chunks in file order.

    Neighbours become one where they overlap or touch, where one ends in the BGZF block in which the next begins, or
    where at most `max_gap` bytes lie between the starts of those blocks.
    """
    merged: list[Chunk] = []
    begin = end = -1
    for chunk in sorted(chunks):
        if begin >= 0 and (chunk[0] >> 16) - (end >> 16) <= max_gap:
            end = max(end, chunk[1])
        elif chunk[0] < chunk[1]:
            if begin >= 0:
                merged.append(Chunk(begin, end))
            begin, end = chunk
    if begin >= 0:
        merged.append(Chunk(begin, end))
    return merged
