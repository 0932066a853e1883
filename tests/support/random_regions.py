"""Regions to request of a file, most of them with an edge where a record has one."""

import os
import random
from collections.abc import Iterable

from tests.support.client import UNPLACED, Record, Region

# The last position that BAI and TBI indexes can have: the programs refuse regions after it.
_MAX_POSITION = (1 << 29) - 1


def region_count(full: int) -> int:
    """How many random regions a test tries of each file: all in CI, else a third, so that all tests take minutes.

    HTSGET_FLASK_TEST_REGIONS is another number.
    """
    return int(os.environ.get("HTSGET_FLASK_TEST_REGIONS", full if "CI" in os.environ else full // 3))


def random_regions(records: Iterable[Record], count: int, *, seed: str) -> list[Region]:
    """`count` regions of 1 base to whole references, chosen from the records of a file; none if it has no placed ones.

    A third of them, at most, are at the first and the last record of a reference, after its last record, and whole
    references.
    """
    rng = random.Random(seed)
    by_name: dict[str, list[Record]] = {}
    for record in records:
        if record.reference_name != UNPLACED:
            by_name.setdefault(record.reference_name, []).append(record)
    names = list(by_name)
    regions: list[Region] = []
    for name in rng.sample(names, min(10, len(names))):
        first, last = by_name[name][0], by_name[name][-1]
        end = max(record.end for record in by_name[name])
        regions += [
            (name, None, None),
            (name, max(0, first.start), max(0, first.start) + 1),
            (name, None, first.end),
            (name, last.start, last.start + 1),
            (name, last.end - 1, None),
            (name, end, end + 1000),
            (name, end - 1, end),
        ]
    rng.shuffle(regions)
    regions = regions[: count // 3]
    while names and len(regions) < count:
        regions.append(_random_region(rng, by_name[rng.choice(names)]))
    return [region for region in regions if max(region[1] or 0, region[2] or 0) <= _MAX_POSITION or _is_long(by_name)]


def _is_long(records: dict[str, list[Record]]) -> bool:
    """Whether the file has records that only a CSI index can have."""
    return any(record.end > _MAX_POSITION for some in records.values() for record in some)


def _random_region(rng: random.Random, records: list[Record]) -> Region:
    record = rng.choice(records)
    length = int(10 ** rng.uniform(0, 4.5 if rng.random() < 0.85 else 6.5))
    start, end = _near(rng, record), _near(rng, rng.choice(records))
    match rng.randrange(10):
        # From an edge of a record to one of another.
        case 0 | 1 | 2:
            start, end = min(start, end), max(start, end)
        case 3 | 4 | 5:
            end = start + length
        case 6:
            start, end = max(0, start - length), start
        case 7:
            start, end = record.start + rng.randrange(-length, 200), record.start + length
        # Near the edges of an index's windows.
        case 8:
            start = (record.start >> 14 << 14) + rng.randrange(-1, 2)
            end = start + rng.choice((1, 2, 1 << 14, (1 << 14) + 1, 3 << 14))
        case 9:
            return record.reference_name, *rng.choice([(start, None), (None, start), (start, start)])
    start = max(0, start)
    return record.reference_name, start, max(end, start + 1)


def _near(rng: random.Random, record: Record) -> int:
    """A position at a record's start or end, or next to it."""
    return max(0, rng.choice((record.start, record.end)) + rng.randrange(-1, 2))
