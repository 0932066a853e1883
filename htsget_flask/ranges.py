"""Byte ranges: half-open, in bytes."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes `start` to `end` of a file: 0-based, half-open.

    Raises:
        ValueError: unless 0 <= start <= end.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a byte range: {self.start}-{self.end}")

    def __len__(self) -> int:
        return self.end - self.start


def coalesce(ranges: Iterable[ByteRange], *, max_gap: int = 0) -> list[ByteRange]:
    """The union of the ranges, sorted; neighbours at most `max_gap` bytes apart become one. Empty ranges vanish."""
    intervals = merge_intervals(((one.start, one.end) for one in ranges), max_gap=max_gap)
    return [ByteRange(start, end) for start, end in intervals]


def merge_intervals(intervals: Iterable[tuple[int, int]], *, max_gap: int = 0) -> list[tuple[int, int]]:
    """The same for half-open intervals of any unit."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if start == end:
            continue
        if merged and start - merged[-1][1] <= max_gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
