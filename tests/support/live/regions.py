"""The spans of records, parsed from lines of SAM or VCF, and regions to request."""

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlencode

UNMAPPED = 4

_ADVANCES_REFERENCE = re.compile(r"([0-9]+)[MDN=X]")
_END = re.compile(r"(?:^|;)END=([0-9]+)")


class Region(NamedTuple):
    """An interval of a reference: 0-based, half-open; None is an open bound."""

    reference_name: str
    start: int | None = None
    end: int | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """The query parameters that request it."""
        parameters = {"referenceName": self.reference_name, "start": self.start, "end": self.end}
        return {name: value for name, value in parameters.items() if value is not None}

    def overlaps(self, record: "Region") -> bool:
        """Whether a record overlaps it."""
        assert record.start is not None and record.end is not None
        return (
            self.reference_name == record.reference_name
            and (self.start is None or self.start < record.end)
            and (self.end is None or self.end > record.start)
        )


def endpoint_of(format_: str) -> str:
    """The endpoint that serves a format: `reads` or `variants`."""
    return "reads" if format_ in ("BAM", "CRAM") else "variants"


@lru_cache(maxsize=1 << 17)
def record_span(line: str, endpoint: str) -> Region:
    """The span of the record in a line; a record without a length spans one base."""
    if endpoint == "reads":
        _, flag, name, position, _, cigar, _ = line.split("\t", 6)
        start = int(position) - 1
        spans = [] if int(flag) & UNMAPPED else _ADVANCES_REFERENCE.findall(cigar)
        return Region(name, start, start + max(1, sum(map(int, spans))))
    name, position, _, reference, _, _, _, info = line.split("\t", 8)[:8]
    start = int(position) - 1
    end = _END.search(info)
    return Region(name, start, max(start + 1, int(end[1]) if end else start + len(reference)))


def overlapping(region: Region, lines: Sequence[str], endpoint: str) -> list[str]:
    """The lines whose records overlap a region."""
    return [line for line in lines if region.overlaps(record_span(line, endpoint))]


def some_regions(lines: Sequence[str], endpoint: str, seed: str) -> list[Region]:
    """Regions of all kinds, with and without bounds, chosen from the records of a file."""
    rng = random.Random(seed)
    spans = [span for span in (record_span(line, endpoint) for line in lines) if span.reference_name != "*"]
    if not spans:
        return []
    first, last, any_, long = spans[0], spans[-1], rng.choice(spans), max(spans, key=_length)
    return [
        Region(first.reference_name),
        Region(last.reference_name, last.start, None),
        Region(any_.reference_name, max(0, (any_.start or 0) - 500), (any_.end or 0) + 500),
        Region(long.reference_name, (long.end or 0) - 1, (long.end or 0)),
    ]


def _length(region: Region) -> int:
    return (region.end or 0) - (region.start or 0)


def query(**parameters: object) -> str:
    """The query of a URL with these parameters, without those that are None."""
    present = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(present)}" if present else ""
