"""One table of range and precondition requests (RFC 9110 sections 13 and 14), for everything that serves bytes."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from tests.support.client import Http, Response

MIN_SIZE = 500
"""The size in bytes that a resource needs for the cases."""

_ALL = slice(None)
_FIRST_TWO = slice(0, 2)


class Case(NamedTuple):
    """A request's header fields, the status of its answer, and the part of the resource that is its body.

    Fields are templates: `{etag}` with its quotes, `{size}`, `{last}` = size - 1, and dates in the three forms of
    HTTP. `undated` is the status where the resource has no Last-Modified, `refget` that of a sequence, where they
    differ: refget refuses malformed ranges, and numbers of more than 32 bits.
    """

    fields: Mapping[str, str]
    status: int
    part: slice = _ALL
    undated: int | None = None
    refget: int | None = None


def _ranges(status: int, values: Mapping[str, slice], refget: int | None = None) -> list[Case]:
    return [Case({"Range": value}, status, part, refget=refget) for value, part in values.items()]


CASES = [
    Case({}, 200),
    *_ranges(
        206,
        {
            "bytes=0-": _ALL,
            "bytes=0-{last}": _ALL,
            "bytes=0-0": slice(0, 1),
            "bytes=5-99": slice(5, 100),
            "bytes=100-": slice(100, None),
            "bytes=-7": slice(-7, None),
            "bytes=-{size}": _ALL,
            "bytes=-999999999": _ALL,
            "bytes=10-999999999": slice(10, None),
            "bytes={last}-{last}": slice(-1, None),
            "bytes={last}-": slice(-1, None),
            "Bytes=0000000000000007-08": slice(7, 9),
            "BYTES=5-9": slice(5, 10),
        },
    ),
    *_ranges(
        206,
        {
            "bytes=1 - 2": slice(1, 3),
            "Bytes = 0-99": slice(0, 100),
            "bytes=0-4294967296": _ALL,
            "bytes=-4294967296": _ALL,
            f"bytes=0-{10**20}": _ALL,
            f"bytes=-{10**20}": _ALL,
        },
        refget=400,
    ),
    *_ranges(
        416,
        dict.fromkeys(
            [
                "bytes={size}-",
                "bytes={size}-{size}",
                "bytes=999999999-",
                "bytes=4294967295-",
                "bytes=99999999-999999999",
                "bytes=-0",
            ],
            _ALL,
        ),
    ),
    *_ranges(416, {"bytes=4294967296-": _ALL, "bytes= -00 ": _ALL}, refget=400),
    # Fields other than a single range of bytes are ignored (14.2).
    *_ranges(
        200,
        dict.fromkeys(
            [
                "",
                "x",
                "0-5",
                "bytes",
                "bytes=",
                "bytes=-",
                "bytes=1",
                "bytes=x-1",
                "bytes=a-b",
                "bytes=ab-19",
                "bytes=0x1-",
                "bytes=--5",
                "bytes=-10-",
                "bytes=-10--19",
                "bytes=10--19",
                "bytes==10-19",
                "bytes 0-1",
                "bytes=0-0,",
                "bytes=0-1,3-4",
                "bytes=0-5,10-15",
                "bytes=0-1,-5",
                "bytes=\xb2-3",
                "bytes=" + "9" * 5000 + "-",
                "items=0-5",
                "records=0-1",
                "units=20-30",
            ],
            _ALL,
        ),
        refget=400,
    ),
    *_ranges(200, {"bytes=5-4": _ALL, "bytes=5-3": _ALL, "bytes={last}-0": _ALL}, refget=416),
    Case({"If-Match": "{etag}"}, 200),
    Case({"If-Match": '"x", {etag}'}, 200),
    Case({"If-Match": "*"}, 200),
    Case({"If-Match": "W/{etag}"}, 412),
    Case({"If-Match": '"x"'}, 412),
    Case({"If-Match": ""}, 412),
    Case({"If-Match": '"x"', "If-None-Match": "{etag}"}, 412),
    Case({"If-Match": '"x"', "Range": "bytes=0-1"}, 412),
    Case({"If-Match": "{etag}", "Range": "bytes=0-1"}, 206, _FIRST_TWO),
    Case({"If-Match": "{etag}", "If-Unmodified-Since": "{before}"}, 200),
    Case({"If-Match": "{etag}", "If-None-Match": "{etag}"}, 304),
    Case({"If-Unmodified-Since": "{modified}"}, 200),
    Case({"If-Unmodified-Since": "{after}"}, 200),
    Case({"If-Unmodified-Since": "{before}"}, 412, undated=200),
    Case({"If-Unmodified-Since": "{before}", "If-None-Match": "{etag}"}, 412, undated=304),
    Case({"If-Unmodified-Since": "yesterday"}, 200),
    Case({"If-None-Match": "{etag}"}, 304),
    Case({"If-None-Match": "W/{etag}"}, 304),
    Case({"If-None-Match": '"x", {etag}'}, 304),
    Case({"If-None-Match": "*"}, 304),
    Case({"If-None-Match": '"x"'}, 200),
    Case({"If-None-Match": "{etag}", "Range": "bytes=0-1"}, 304),
    Case({"If-None-Match": '"x"', "If-Modified-Since": "{after}"}, 200),
    Case({"If-Modified-Since": "{modified}"}, 304, undated=200),
    Case({"If-Modified-Since": "{after}"}, 304, undated=200),
    Case({"If-Modified-Since": "{before}"}, 200),
    Case({"If-Modified-Since": "{rfc850}"}, 304, undated=200),
    Case({"If-Modified-Since": "{asctime}"}, 304, undated=200),
    Case({"If-Modified-Since": "Sun, 13 Sep 2020 12:26:40 +0200"}, 200),
    Case({"If-Modified-Since": "Sun, 13 Sep 99999999999 12:26:40 GMT"}, 200),
    Case({"If-Modified-Since": "Sun, 99 Sep 2020 12:26:40 GMT"}, 200),
    Case({"If-Modified-Since": ""}, 200),
    Case({"If-Range": "{etag}", "Range": "bytes=0-1"}, 206, _FIRST_TWO),
    Case({"If-Range": "{modified}", "Range": "bytes=0-1"}, 206, _FIRST_TWO, undated=200),
    Case({"If-Range": "{rfc850}", "Range": "bytes=0-1"}, 206, _FIRST_TWO, undated=200),
    Case({"If-Range": "W/{etag}", "Range": "bytes=0-1"}, 200),
    Case({"If-Range": '"x"', "Range": "bytes=0-1"}, 200),
    Case({"If-Range": "{after}", "Range": "bytes=0-1"}, 200),
    Case({"If-Range": "{before}", "Range": "bytes=0-1"}, 200),
    Case({"If-Range": "nonsense", "Range": "bytes=0-1"}, 200),
    Case({"If-Range": "", "Range": "bytes=0-1"}, 200),
    Case({"If-Range": '"x"', "Range": "bytes=999999999-"}, 200),
    Case({"If-Range": "{etag}", "Range": "bytes=999999999-"}, 416),
    Case({"If-Range": "{etag}"}, 200),
]


def case_id(case: Case) -> str:
    """A case's name in reports."""
    return " ".join(f"{name}:{value[:40]}" for name, value in case.fields.items()) or "no fields"


def check_case(
    case: Case, http: Http, url: str, content: bytes, *, etag: str, last_modified: str | None, is_refget: bool = False
) -> Response:
    """Send the request for a resource with this content and these validators, and check its answer."""
    assert len(content) >= MIN_SIZE
    modified = parsedate_to_datetime(last_modified or "Sun, 13 Sep 2020 12:26:40 GMT")
    values = {
        "etag": etag,
        "size": str(len(content)),
        "last": str(len(content) - 1),
        "modified": _http_date(modified),
        "before": _http_date(modified - timedelta(seconds=1)),
        "after": _http_date(modified + timedelta(seconds=1)),
        "rfc850": modified.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        "asctime": modified.strftime("%a %b %e %H:%M:%S %Y"),
    }
    status = case.status
    if last_modified is None and case.undated is not None:
        status = case.undated
    if is_refget and case.refget is not None:
        status = case.refget
    answer = http.get(url, {name: value.format_map(values) for name, value in case.fields.items()})
    assert answer.status == status
    if status in (200, 206):
        part = case.part if status == 206 else _ALL
        # Compared apart: pytest would take minutes to print the difference.
        is_equal = answer.body == content[part]
        assert is_equal
        assert answer.headers["content-length"] == str(len(answer.body))
    start, end, _ = case.part.indices(len(content))
    ranges = {206: f"bytes {start}-{end - 1}/{len(content)}", 416: f"bytes */{len(content)}"}
    assert answer.headers.get("content-range") == ranges.get(status)
    if status in (200, 206, 304):
        assert answer.headers["etag"] == etag
    if status == 304:
        assert answer.body == b""
    if status in (400, 412, 416):
        assert len(answer.body) < MIN_SIZE
    return answer


def _http_date(date: datetime) -> str:
    return date.strftime("%a, %d %b %Y %H:%M:%S GMT")
