"""Which files a storage holds, page by page."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

import orjson
from werkzeug.http import quote_etag

from htsget_flask.errors import InvalidInput
from htsget_flask.storage import Entry, Storage, is_key

MAX_LIMIT = 1000


class Listing(NamedTuple):
    """A request for the files whose keys start with `prefix`: at most `limit` of them, those behind `after`."""

    prefix: str
    after: str
    limit: int


class Page(NamedTuple):
    """A part of a listing; `cursor` asks for the next one, None where there is none."""

    entries: Sequence[Entry]
    cursor: str | None


def parse_listing(arguments: Mapping[str, str]) -> Listing:
    """The request that query parameters spell.

    Raises:
        InvalidInput: for a `limit` outside 1 to 1,000, or a `cursor` that no page had.
    """
    limit = arguments.get("limit", str(MAX_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit[:50]!r}")
    cursor = arguments.get("cursor")
    return Listing(arguments.get("prefix", ""), "" if cursor is None else _key_of(cursor), int(limit))


def list_files(storage: Storage, listing: Listing, is_shown: Callable[[str], bool]) -> Page:
    """The page of a storage's files that is asked for, in the order of their keys: those that are to be shown."""
    shown = (entry for entry in storage.entries(listing.prefix, after=listing.after) if is_shown(entry.key))
    found = list(islice(shown, listing.limit + 1))
    entries = found[: listing.limit]
    return Page(entries, _cursor_of(entries[-1].key) if len(found) > len(entries) else None)


def page_json(page: Page, base: str) -> bytes:
    """A page as JSON; `base` is the URL that keys are relative to, with a slash at its end.

    `size` is in bytes; `modified` as RFC 3339 has it, null for years that it has not; `etag` as in the header.
    """
    files = [
        {
            "key": key,
            "url": base + quote(key),
            "size": stat.size,
            "modified": _time(stat.modified),
            "etag": quote_etag(stat.etag),
        }
        for key, stat in page.entries
    ]
    return orjson.dumps({"files": files, "cursor": page.cursor})


def _time(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return None


def _cursor_of(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _key_of(cursor: str) -> str:
    try:
        key = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key = ""
    if not is_key(key):
        raise InvalidInput("the cursor is none that a page of this listing had")
    return key
