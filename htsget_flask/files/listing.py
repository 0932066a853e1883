"""Which files a storage holds, page by page."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
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


def parse_listing(arguments: Mapping[str, str], unseal: Callable[[str], str]) -> Listing:
    """The request that query parameters spell; `unseal` tells the key that a cursor was made of, or raises ValueError.

    Raises:
        InvalidInput: for a `limit` outside 1 to 1,000, or a `cursor` that no page had.
    """
    limit = arguments.get("limit", str(MAX_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit[:50]!r}")
    cursor = arguments.get("cursor")
    return Listing(arguments.get("prefix", ""), "" if cursor is None else _key_of(cursor, unseal), int(limit))


def list_files(
    storage: Storage, listing: Listing, is_shown: Callable[[str], bool], seal: Callable[[str], str], most: int | None
) -> Page:
    """The page of a storage's files that is asked for, in the order of their keys: those that are to be shown.

    Once it looked at `most` files (None: all) it ends, however few are shown. `seal` makes a cursor of a key, which
    may be that of a file that is not shown.
    """
    entries: list[Entry] = []
    last = ""
    for looked, entry in enumerate(storage.entries(listing.prefix, after=listing.after)):
        if looked == most:
            return Page(entries, seal(last))
        if is_shown(entry.key):
            if len(entries) == listing.limit:
                return Page(entries, seal(last))
            entries.append(entry)
        last = entry.key
    return Page(entries, None)


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


def _key_of(cursor: str, unseal: Callable[[str], str]) -> str:
    try:
        key = unseal(cursor)
    except ValueError:
        key = ""
    if not is_key(key):
        raise InvalidInput("the cursor is none that a page of this listing had")
    return key
