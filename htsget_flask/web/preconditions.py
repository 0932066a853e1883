"""Conditional requests: what RFC 9110 section 13 makes of the validators of a resource."""

import re
from datetime import datetime
from typing import TYPE_CHECKING

from werkzeug.http import parse_date, parse_etags

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# As WSGI calls the header fields of a request.
CONDITIONS = (
    "HTTP_IF_MATCH",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_IF_RANGE",
)

# RFC 9110 5.6.7, all three forms; werkzeug takes whatever mail programs write, and fails on years of many digits.
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"
)


def failed_precondition(environ: "WSGIEnvironment", *, etag: str, last_modified: str | None) -> int | None:
    """The status that a GET or HEAD request ends with by its own conditions: 412, 304, or None to go on.

    `etag` is without quotes and strong; `last_modified` is the header's value, None where the resource has none:
    conditions on a date are then not heeded. The order is that of section 13.2.2.
    """
    if_match = environ.get("HTTP_IF_MATCH")
    if if_match is not None:
        if not parse_etags(if_match).contains(etag):
            return 412
    else:
        unmodified_since = http_date(environ.get("HTTP_IF_UNMODIFIED_SINCE"))
        if unmodified_since is not None and _is_later(last_modified, unmodified_since):
            return 412
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match is not None:
        if parse_etags(if_none_match).contains_weak(etag):
            return 304
    else:
        modified_since = http_date(environ.get("HTTP_IF_MODIFIED_SINCE"))
        if modified_since is not None and _is_later(last_modified, modified_since) is False:
            return 304
    return None


def if_range_holds(environ: "WSGIEnvironment", *, etag: str, last_modified: str | None) -> bool:
    """Whether If-Range, where it is given, holds: only the very same strong etag or date does (section 13.1.5)."""
    condition: str | None = environ.get("HTTP_IF_RANGE")
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == f'"{etag}"'
    date = http_date(condition)
    return date is not None and date == http_date(last_modified)


def _is_later(last_modified: str | None, date: datetime) -> bool | None:
    """Whether the resource was modified after a date; None where that is not known."""
    modified = http_date(last_modified)
    return None if modified is None else modified > date


def drop_odd_dates(environ: "WSGIEnvironment") -> None:
    """Remove conditions whose date is not an HTTP-date: section 13.1 ignores them, and werkzeug may fail on them.

    A Range goes with its If-Range, which then does not hold (13.1.5).
    """
    for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"):
        if name in environ and http_date(environ[name]) is None:
            del environ[name]
    condition = environ.get("HTTP_IF_RANGE", '"')
    if '"' not in condition and http_date(condition) is None:
        del environ["HTTP_IF_RANGE"]
        environ.pop("HTTP_RANGE", None)


def http_date(value: str | None) -> datetime | None:
    """The time that a header names; None where it is absent or no HTTP-date, which is to be ignored."""
    if value is None or not _HTTP_DATE.fullmatch(value.strip()):
        return None
    return parse_date(value)
