"""Listings of a storage's files, page by page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import quote

import orjson
from werkzeug.http import quote_etag

from htsget_flask.auth.access import Access
from htsget_flask.errors import InvalidInput
from htsget_flask.storage import Child, Entry, Storage, is_key

MAX_LIMIT = 1000
# Large, as programs that mirror a folder read only its first page.
MAX_ROWS = 10_000


class Listing(NamedTuple):
    """A request for at most `limit` files whose keys start with `prefix` and come after `after`."""

    prefix: str
    after: str
    limit: int


class Page(NamedTuple):
    """A page of a listing; `cursor` requests the next page, None on the last."""

    entries: Sequence[Entry]
    cursor: str | None


class FolderPage(NamedTuple):
    """A page of a folder's children; `cursor` requests the next page, None on the last."""

    children: Sequence[Child]
    cursor: str | None


class Row(NamedTuple):
    """A row of a folder's HTML page: a relative URL, and texts."""

    link: str
    name: str
    modified: str
    size: str


def parse_listing(folder: str, arguments: Mapping[str, str], unseal: Callable[[str], str]) -> Listing:
    """Parse query parameters; `unseal` returns the key that a cursor was made of, or raises ValueError.

    `folder` is empty or ends with a slash; `prefix` is relative to it.

    Raises:
        InvalidInput: for a `limit` outside 1 to 1,000, or an invalid `cursor`.
    """
    limit = arguments.get("limit", str(MAX_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit[:50]!r}")
    return Listing(folder + arguments.get("prefix", ""), parse_cursor(arguments.get("cursor"), unseal), int(limit))


def parse_cursor(cursor: str | None, unseal: Callable[[str], str]) -> str:
    """The key that a cursor was made of: a file's, or a folder's with its slash; empty without a cursor.

    Raises:
        InvalidInput: for an invalid cursor.
    """
    if cursor is None:
        return ""
    try:
        key = unseal(cursor)
    except ValueError:
        key = ""
    if not is_key(key.removesuffix("/")):
        raise InvalidInput("the cursor is not from a page of this listing")
    return key


def list_files(
    storage: Storage,
    listing: Listing,
    is_shown: Callable[[str], bool],
    seal: Callable[[str], str],
    scan_limit: int | None,
) -> Page:
    """A page of a storage's files, in the order of their keys: those for which `is_shown` is true.

    It ends after `scan_limit` files (None: no limit), however few are shown. `seal` makes a cursor of a key, which may
    belong to a file that is not shown.
    """
    entries: list[Entry] = []
    last = ""
    for scanned, entry in enumerate(storage.entries(listing.prefix, after=listing.after)):
        if scanned == scan_limit:
            return Page(entries, seal(last))
        if is_shown(entry.key):
            if len(entries) == listing.limit:
                return Page(entries, seal(last))
            entries.append(entry)
        last = entry.key
    return Page(entries, None)


def list_folder(storage: Storage, name: str, folder: str, after: str, access: Access) -> FolderPage:
    """A page of the direct children of a folder of the storage with this name, in the order of the keys.

    A limited caller sees the files that the grants allow, and the folders with such files anywhere below. The page ends
    after `MAX_ROWS` rows, or after `access.listing_limit` decisions, even without a row.

    Raises:
        NotFound: if there is no such folder.
    """
    children: list[Child] = []
    last, decisions = after, 0
    for child in storage.children(folder, after=after):
        if len(children) == MAX_ROWS:
            return FolderPage(children, access.seal(last))
        for key in _candidate_keys(storage, child, after, access):
            if decisions == access.listing_limit:
                return FolderPage(children, access.seal(last))
            decisions += 1
            if access.allows_whole("files", f"{name}/{key}"):
                children.append(child)
                last = child.key
                break
            last = key
    return FolderPage(children, None)


def _candidate_keys(storage: Storage, child: Child, after: str, access: Access) -> Iterator[str]:
    """The keys of files that make a child visible to a caller that may see one of them."""
    if child.stat is None and access.is_limited:
        return (entry.key for entry in storage.entries(child.key, after=after))
    return iter((child.key,))


def folder_rows(page: FolderPage, folder: str) -> Iterator[Row]:
    """The rows of a folder's HTML page: sizes in bytes, times in UTC."""
    for key, stat in page.children:
        name = key.removeprefix(folder)
        # Quote colons, or the text before one would be a scheme; only folders end with a slash.
        link = quote(name.removesuffix("/"), safe="") + ("/" if stat is None else "")
        modified = "" if stat is None else _time(stat.modified) or ""
        yield Row(link, name, modified.rstrip("Z").replace("T", " "), "" if stat is None else str(stat.size))


def page_json(page: Page, base: str) -> bytes:
    """A page as JSON; `base` is the URL of the storage's files, with a slash at its end.

    `size` is in bytes; `modified` is in RFC 3339, null for years outside of it; `etag` is quoted, as in the header.
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
