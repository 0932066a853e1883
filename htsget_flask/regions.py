"""Regions of references, as clients request them and as grants are limited to them."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple


class Region(NamedTuple):
    """A part of a reference: 0-based, half-open; `end` None: to the reference's end."""

    reference_name: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        return f"{self.reference_name}:{self.start}-{'' if self.end is None else self.end}"


_START = attrgetter("start")
_SAMTOOLS_REGION = re.compile(r"(.+):([0-9,]{1,20})(?:-([0-9,]{1,20})?)?", re.ASCII)


def parse_region(text: str) -> Region:
    """The region that samtools reads from a text: `NAME` or `NAME:FIRST-LAST`, 1-based, both included.

    Raises:
        ValueError: when it is not a valid region.
    """
    match = _SAMTOOLS_REGION.fullmatch(text)
    if match is None:
        return Region(text)
    first, last = (None if number is None else int(number.replace(",", "") or 0) for number in match.groups()[1:])
    if not first or (last is not None and last < first):
        raise ValueError(f"{text!r} is not a valid region")
    return Region(match[1], first - 1, last)


class RegionSet:
    """The positions of many regions, merged, so that bisection finds overlaps.

    Iteration yields the merged regions, sorted by name, then position.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        regions = list(regions)
        self._merged = merge(region for region in regions if region.end is None or region.start < region.end)
        self._by_name: dict[str, list[Region]] = {}
        for region in self._merged:
            self._by_name.setdefault(region.reference_name, []).append(region)
        # An empty region overlaps no record, but opens requests for the same region.
        self._empty = frozenset(region for region in regions if region.start == region.end)

    def __iter__(self) -> Iterator[Region]:
        return iter(self._merged)

    def __len__(self) -> int:
        return len(self._merged)

    def opens(self, region: Region) -> bool:
        """Whether the set overlaps a region; an empty region only has to touch the set."""
        if region.start != region.end:
            return next(self._overlaps(region), None) is not None
        granted, first = self._from(region)
        return region in self._empty or (first < len(granted) and granted[first].start <= region.start)

    def restrict(self, regions: Iterable[Region]) -> list[Region]:
        """The intersection of regions with the set, merged, sorted by name, then position."""
        return [part for region in merge(regions) for part in self._overlaps(region)]

    def _overlaps(self, region: Region) -> Iterator[Region]:
        """The intersection of the set with a region, in order."""
        granted, first = self._from(region)
        for index in range(first, len(granted)):
            _, start, end = granted[index]
            if region.end is not None and start >= region.end:
                break
            ends = [one for one in (end, region.end) if one is not None]
            part = Region(region.reference_name, max(start, region.start), min(ends, default=None))
            if part.end is None or part.start < part.end:
                yield part

    def _from(self, region: Region) -> tuple[list[Region], int]:
        """The merged regions of a reference, and the index of the first that ends at a region's start or later."""
        granted = self._by_name.get(region.reference_name, [])
        first = bisect_right(granted, region.start, key=_START)
        if first:
            end = granted[first - 1].end
            first -= end is None or region.start <= end
        return granted, first


def merge(regions: Iterable[Region]) -> list[Region]:
    """The same positions as regions that do not touch, sorted by name, then position."""
    merged: list[Region] = []
    for region in sorted(regions, key=lambda one: (one.reference_name, one.start)):
        last = merged[-1] if merged else None
        if last is None or last.reference_name != region.reference_name:
            merged.append(region)
        elif last.end is not None:
            if region.start > last.end:
                merged.append(region)
            else:
                merged[-1] = last._replace(end=None if region.end is None else max(last.end, region.end))
    return merged
