"""The media type and the part of a sequence that a request is for (refget 2.0.0, "Get sequence")."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

from werkzeug.exceptions import BadRequest, NotAcceptable, RequestedRangeNotSatisfiable
from werkzeug.exceptions import NotImplemented as NotSupported

VERSIONS = ("2.0.0", "1.0.1", "1.0.0")
# The first one for a client that accepts any.
TEXT_TYPES = (*(f"text/vnd.ga4gh.refget.v{version}+plain" for version in VERSIONS), "text/plain")
JSON_TYPES = (*(f"application/vnd.ga4gh.refget.v{version}+json" for version in VERSIONS), "application/json")

_MAX_POSITION = (1 << 32) - 1
# Leading zeros, and at most as many digits as the largest position has.
_NUMBER = re.compile(r"0*([0-9]{1,10})", re.ASCII)
_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))", re.ASCII | re.IGNORECASE)
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII | re.IGNORECASE)


class Part(NamedTuple):
    """Letters `start` to `end` (0-based, half-open); with `start` after `end` across the end of a circular one."""

    start: int
    end: int


def choose_type(accept: str | None, offered: Sequence[str]) -> str:
    """The best of the offered media types for an Accept header (RFC 9110 section 12.5.1).

    Of the types with the highest quality it is the one named most exactly, then first. Parsed here: werkzeug's
    `best_match` ignores the client's order and the q=0 of an exact type, and its parser takes 33 us instead of 3.5.

    Raises:
        NotAcceptable: when the client accepts none of them.
    """
    if accept is None or accept == "*/*" or not accept.strip():
        return offered[0]
    accepted: dict[str, tuple[float, int]] = {}
    for number, text in enumerate(accept.lower().split(",")):
        name, *parameters = (part.strip() for part in text.split(";"))
        qualities = [float(match[1]) for parameter in parameters if (match := _QUALITY.fullmatch(parameter))]
        accepted.setdefault(name, (qualities[0] if qualities else 1.0, number))

    def rank(media_type: str) -> tuple[float, int, int]:
        """Its quality, and how exactly and how early the header names it."""
        # The most exact range applies to a type (RFC 9110: text/plain;q=0 excludes it from text/*).
        for exactness, name in ((3, media_type), (2, media_type.partition("/")[0] + "/*"), (1, "*/*")):
            if name in accepted:
                quality, number = accepted[name]
                return quality, exactness, -number
        return 0.0, 0, 0

    chosen = max(offered, key=rank)
    if not rank(chosen)[0]:
        raise NotAcceptable(f"the available media types are {', '.join(offered)}")
    return chosen


def parse_bounds(query: str) -> tuple[int | None, int | None]:
    """The `start` and `end` of a query string, None for one that is absent.

    Raises:
        BadRequest: when one is not a 32-bit number, or occurs twice.
    """
    bounds: dict[str, int] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in bounds:
            raise BadRequest(f"{name} occurs more than once")
        if name in ("start", "end"):
            bounds[name] = _parse_position(text, name)
    return bounds.get("start"), bounds.get("end")


def bounded_part(start: int | None, end: int | None, length: int, is_circular: bool, circular_supported: bool) -> Part:
    """The part from `start` to `end`.

    Raises:
        RequestedRangeNotSatisfiable, NotSupported: as the specification says, in its order.
    """
    if start is not None and start >= length:
        raise RequestedRangeNotSatisfiable(description=f"start is past the end of the sequence of {length} letters")
    if end is not None and end > length:
        raise RequestedRangeNotSatisfiable(description=f"end is past the end of the sequence of {length} letters")
    part = Part(start or 0, length if end is None else end)
    if part.start > part.end:
        if not circular_supported:
            raise NotSupported("sub-sequences across the end of circular sequences are not supported")
        if not is_circular:
            raise RequestedRangeNotSatisfiable(description="start is greater than end, and the sequence is linear")
    return part


def ranged_part(text: str, length: int) -> Part:
    """The part in a Range header.

    Raises:
        BadRequest: when it is anything but one range of bytes, in 32-bit numbers.
        RequestedRangeNotSatisfiable: when the sequence has no such part.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise BadRequest("Range must be one range of bytes")
    first, last, suffix = (_parse_position(digits, "Range") if digits else None for digits in match.groups())
    if first is None:
        part = Part(max(0, length - (suffix or 0)), length)
    else:
        part = Part(first, length if last is None else min(last + 1, length))
    if part.start >= part.end:
        raise RequestedRangeNotSatisfiable(length, description=f"the sequence of {length} letters has no such range")
    return part


def _parse_position(text: str, name: str) -> int:
    match = _NUMBER.fullmatch(text)
    number = int(match[1]) if match else _MAX_POSITION + 1
    if number > _MAX_POSITION:
        raise BadRequest(f"{name} must be a whole number from 0 to {_MAX_POSITION}, not {text[:50]!r}")
    return number
