"""What a request asks of a sequence: in which media type, and which part (refget 2.0.0, "Get sequence")."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

from werkzeug.exceptions import BadRequest, NotAcceptable, RequestedRangeNotSatisfiable
from werkzeug.exceptions import NotImplemented as NotSupported

VERSIONS = ("2.0.0", "1.0.1", "1.0.0")
# The first one where a client takes any.
TEXT_TYPES = (*(f"text/vnd.ga4gh.refget.v{version}+plain" for version in VERSIONS), "text/plain")
JSON_TYPES = (*(f"application/vnd.ga4gh.refget.v{version}+json" for version in VERSIONS), "application/json")

_MAX_POSITION = (1 << 32) - 1
# Leading zeros apart, no more digits than the largest position has.
_NUMBER = re.compile(r"0*([0-9]{1,10})", re.ASCII)
_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))", re.ASCII | re.IGNORECASE)
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII | re.IGNORECASE)


class Part(NamedTuple):
    """Letters `start` to `end` of a sequence (0-based, half-open); where `start` is behind `end`, over its end."""

    start: int
    end: int


def choose_type(accept: str | None, offered: Sequence[str]) -> str:
    """The best of the offered media types for an Accept header (RFC 9110 section 12.5.1).

    Of those that the client likes best the one that it names most exactly, then first.

    Raises:
        NotAcceptable: when it takes none of them.
    """
    if accept is None or accept == "*/*" or not accept.strip():
        return offered[0]
    accepted = [_media_range(text) for text in accept.lower().split(",")]
    best: tuple[float, int, int, int] = (0.0, 0, 0, 0)
    chosen = None
    for place, media_type in enumerate(offered):
        # The most exact range decides over a type (RFC 9110: text/plain;q=0 takes it out of text/*).
        matching = [
            (exactness, -number, quality)
            for number, (name, quality) in enumerate(accepted)
            if (exactness := _exactness(name, media_type))
        ]
        if matching:
            exactness, number, quality = max(matching)
            rank = (quality, exactness, number, -place)
            if quality > 0 and (chosen is None or rank > best):
                chosen, best = media_type, rank
    if chosen is None:
        raise NotAcceptable(f"this is available as {', '.join(offered)} only")
    return chosen


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in text.split(";"))
    qualities = [float(found[1]) for parameter in parameters if (found := _QUALITY.fullmatch(parameter))]
    return name, qualities[0] if qualities else 1.0


def _exactness(media_range: str, media_type: str) -> int:
    if media_range == media_type:
        return 3
    if media_range == media_type.partition("/")[0] + "/*":
        return 2
    return int(media_range == "*/*")


def parse_bounds(query: str) -> tuple[int | None, int | None]:
    """The `start` and `end` of a query string, None where one is not given.

    Raises:
        BadRequest: when one is not a number of 32 bits, or is given twice.
    """
    values: list[int | None] = []
    arguments = parse_qsl(query, keep_blank_values=True)
    for name in ("start", "end"):
        given = [value for key, value in arguments if key == name]
        if len(given) > 1:
            raise BadRequest(f"{name} is given {len(given)} times")
        values.append(_number(given[0], name) if given else None)
    return values[0], values[1]


def bounded_part(start: int | None, end: int | None, length: int, is_circular: bool, circular_supported: bool) -> Part:
    """The part that `start` and `end` ask for.

    Raises:
        RequestedRangeNotSatisfiable, NotSupported: as the specification words them, in its order.
    """
    if start is not None and start >= length:
        raise RequestedRangeNotSatisfiable(description=f"start lies behind the sequence of {length} letters")
    if end is not None and end > length:
        raise RequestedRangeNotSatisfiable(description=f"end lies behind the sequence of {length} letters")
    part = Part(start or 0, length if end is None else end)
    if part.start > part.end:
        if not circular_supported:
            raise NotSupported("parts that go over the end of circular sequences are not supported")
        if not is_circular:
            raise RequestedRangeNotSatisfiable(description="start is greater than end, and the sequence is linear")
    return part


def ranged_part(text: str, length: int) -> Part:
    """The part that a Range header asks for.

    Raises:
        BadRequest: when it is anything but one range of bytes, in numbers of 32 bits.
        RequestedRangeNotSatisfiable: when there is no such part.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise BadRequest("Range must be one range of bytes")
    first, last, suffix = (_number(given, "Range") if given else None for given in found.groups())
    if first is None:
        part = Part(max(0, length - (suffix or 0)), length)
    else:
        part = Part(first, length if last is None else min(last + 1, length))
    if part.start >= part.end:
        raise RequestedRangeNotSatisfiable(length, description=f"no such part of the sequence of {length} letters")
    return part


def check_limit(part: Part, length: int, limit: int | None) -> None:
    """Refuse a part that is longer than this server sends.

    Raises:
        RequestedRangeNotSatisfiable: when it is.
    """
    size = part.end - part.start + (length if part.start > part.end else 0)
    if limit is not None and size > limit:
        raise RequestedRangeNotSatisfiable(description=f"parts of more than {limit} letters are not sent")


def _number(text: str, name: str) -> int:
    found = _NUMBER.fullmatch(text)
    number = int(found[1]) if found else _MAX_POSITION + 1
    if number > _MAX_POSITION:
        raise BadRequest(f"{name} must be a whole number from 0 to {_MAX_POSITION}, not {text[:50]!r}")
    return number
