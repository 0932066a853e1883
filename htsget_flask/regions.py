"""Regions of references: what clients ask for, and what a grant is limited to."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Region(NamedTuple):
    """A part of a reference: 0-based, half-open; `end` None: to the reference's end."""

    reference_name: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        return f"{self.reference_name}:{self.start}-{'' if self.end is None else self.end}"


_SPELLED = re.compile(r"(.+):([0-9,]{1,20})(?:-([0-9,]{1,20})?)?", re.ASCII)


def parse_region(text: str) -> Region:
    """The region that samtools would take a text for: `NAME` or `NAME:FIRST-LAST`, counted from 1, both included.

    Raises:
        ValueError: when it is none.
    """
    found = _SPELLED.fullmatch(text)
    if found is None:
        return Region(text)
    first, last = (None if number is None else int(number.replace(",", "") or 0) for number in found.groups()[1:])
    if not first or (last is not None and last < first):
        raise ValueError(f"{text!r} is no region")
    return Region(found[1], first - 1, last)


def overlap(one: Region, other: Region) -> Region | None:
    """What two regions have in common; None for nothing."""
    if one.reference_name != other.reference_name:
        return None
    start = max(one.start, other.start)
    ends = [end for end in (one.end, other.end) if end is not None]
    end = min(ends) if ends else None
    return Region(one.reference_name, start, end) if end is None or start < end else None


def is_open(asked: Region, granted: Region) -> bool:
    """Whether a granted region opens something of the one asked for; or all of it, of one without a position."""
    if asked.start != asked.end:
        return overlap(asked, granted) is not None
    is_below = granted.end is None or asked.start <= granted.end
    return asked.reference_name == granted.reference_name and granted.start <= asked.start and is_below


def restrict(asked: Iterable[Region], granted: Sequence[Region]) -> list[Region]:
    """What of the regions asked for lies in the granted ones, merged, each reference's in order."""
    parts = (overlap(one, other) for one in asked for other in granted)
    return merge(part for part in parts if part is not None)


def merge(regions: Iterable[Region]) -> list[Region]:
    """The same positions as regions that do not touch, in the order of names, then positions."""
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
