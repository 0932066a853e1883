"""Conditional requests (RFC 9110 section 13): preconditions, evaluated against the validators of a resource."""

import re
from datetime import datetime

from werkzeug.http import parse_date
from werkzeug.wrappers import Request

from htsget_flask.web.answer import Environ

# The header fields of preconditions, as WSGI names them.
CONDITIONS = tuple(f"HTTP_IF_{name}" for name in ["MATCH", "NONE_MATCH", "MODIFIED_SINCE", "UNMODIFIED_SINCE", "RANGE"])

# The three forms of RFC 9110 5.6.7: werkzeug also accepts dates of mail, and raises OverflowError for long years.
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"
)


def failed_precondition(environ: Environ, *, etag: str, last_modified: str | None) -> int | None:
    """The status with which the preconditions of a GET or HEAD request end it: 412, 304, or None to go on.

    `etag` is strong, without quotes; `last_modified` is the header's value, None where the resource has none:
    conditions on a date are ignored then. The order is that of section 13.2.2; werkzeug's own evaluates Range before
    If-Match.
    """
    if "HTTP_IF_MATCH" in environ:
        if not Request(environ, populate_request=False).if_match.contains(etag):
            return 412
    else:
        date = http_date(environ.get("HTTP_IF_UNMODIFIED_SINCE"))
        if date is not None and (modified := http_date(last_modified)) is not None and modified > date:
            return 412
    if "HTTP_IF_NONE_MATCH" in environ:
        if Request(environ, populate_request=False).if_none_match.contains_weak(etag):
            return 304
    else:
        date = http_date(environ.get("HTTP_IF_MODIFIED_SINCE"))
        if date is not None and (modified := http_date(last_modified)) is not None and modified <= date:
            return 304
    return None


def if_range_holds(environ: Environ, *, etag: str, last_modified: str | None) -> bool:
    """Whether If-Range is absent or holds: only the identical strong ETag or date does (section 13.1.5).

    Compared as text: werkzeug's IfRange drops the weakness of an ETag before its version 3.2, and takes any text for
    one.
    """
    condition: str | None = environ.get("HTTP_IF_RANGE")
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == f'"{etag}"'
    date = http_date(condition)
    return date is not None and date == http_date(last_modified)


def drop_odd_dates(environ: Environ) -> None:
    """Remove conditions whose date is not an HTTP-date: section 13.1 ignores them, and werkzeug may fail on them.

    Range is removed together with its If-Range, which does not hold then (13.1.5).
    """
    for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"):
        if name in environ and http_date(environ[name]) is None:
            del environ[name]
    condition = environ.get("HTTP_IF_RANGE", '"')
    if '"' not in condition and http_date(condition) is None:
        del environ["HTTP_IF_RANGE"]
        environ.pop("HTTP_RANGE", None)


def http_date(value: str | None) -> datetime | None:
    """The time of a header's value; None where it is absent or not an HTTP-date, which is to be ignored."""
    if value is None or not _HTTP_DATE.fullmatch(value.strip()):
        return None
    return parse_date(value)
