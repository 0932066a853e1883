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
    """The union of the ranges, sorted; ranges at most `max_gap` bytes apart are merged, empty ones dropped."""
    merged: list[ByteRange] = []
    for current in sorted(ranges):
        if current.start == current.end:
            continue
        if merged and current.start - merged[-1].end <= max_gap:
            merged[-1] = ByteRange(merged[-1].start, max(merged[-1].end, current.end))
        else:
            merged.append(current)
    return merged
