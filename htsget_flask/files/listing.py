"""Which files a storage holds, page by page."""

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
# Programs that mirror a folder by its page read no other one.
MAX_ROWS = 10_000


class Listing(NamedTuple):
    """A request for the files whose keys start with `prefix`: at most `limit` of them, those behind `after`."""

    prefix: str
    after: str
    limit: int


class Page(NamedTuple):
    """A part of a listing; `cursor` asks for the next one, None where there is none."""

    entries: Sequence[Entry]
    cursor: str | None


class FolderPage(NamedTuple):
    """A part of what lies in a folder; `cursor` is that of the next part, None where there is none."""

    children: Sequence[Child]
    cursor: str | None


class Row(NamedTuple):
    """A line of a folder's page: a relative URL, and texts."""

    link: str
    name: str
    modified: str
    size: str


def parse_listing(folder: str, arguments: Mapping[str, str], unseal: Callable[[str], str]) -> Listing:
    """The request that query parameters spell; `unseal` tells the key that a cursor was made of, or raises ValueError.

    `folder` is empty or ends with a slash; `prefix` counts from there.

    Raises:
        InvalidInput: for a `limit` outside 1 to 1,000, or a `cursor` that no page had.
    """
    limit = arguments.get("limit", str(MAX_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit[:50]!r}")
    return Listing(folder + arguments.get("prefix", ""), parse_cursor(arguments.get("cursor"), unseal), int(limit))


def parse_cursor(cursor: str | None, unseal: Callable[[str], str]) -> str:
    """The key that a cursor was made of: that of a file, or of a folder with its slash; empty without a cursor.

    Raises:
        InvalidInput: for a cursor that no page had.
    """
    if cursor is None:
        return ""
    try:
        key = unseal(cursor)
    except ValueError:
        key = ""
    if not is_key(key.removesuffix("/")):
        raise InvalidInput("the cursor is none that a page of this listing had")
    return key


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


def list_folder(storage: Storage, name: str, folder: str, after: str, access: Access) -> FolderPage:
    """The next part of what lies directly in a folder of the storage with this name, in the order of the keys.

    A limited caller is shown the files that they may have, and the folders with such files anywhere below. The part
    ends after `MAX_ROWS` rows, or `access.listing_limit` decisions, even if these lead to no row.

    Raises:
        NotFound: if there is no such folder.
    """
    children: list[Child] = []
    last, decisions = after, 0
    for child in storage.children(folder, after=after):
        if len(children) == MAX_ROWS:
            return FolderPage(children, access.seal(last))
        for key in _deciding(storage, child, after, access):
            if decisions == access.listing_limit:
                return FolderPage(children, access.seal(last))
            decisions += 1
            if access.allows_whole("files", f"{name}/{key}"):
                children.append(child)
                last = child.key
                break
            last = key
    return FolderPage(children, None)


def _deciding(storage: Storage, child: Child, after: str, access: Access) -> Iterator[str]:
    """The keys of which the caller has to have one for the child to be shown."""
    if child.stat is None and access.is_limited:
        return (entry.key for entry in storage.entries(child.key, after=after))
    return iter((child.key,))


def folder_rows(page: FolderPage, folder: str) -> Iterator[Row]:
    """The lines of a folder's page: sizes in bytes, times in UTC."""
    for key, stat in page.children:
        name = key.removeprefix(folder)
        # A colon would make a scheme of what is before it; a slash is at the end of folders only.
        link = quote(name.removesuffix("/"), safe="") + ("/" if stat is None else "")
        modified = "" if stat is None else _time(stat.modified) or ""
        yield Row(link, name, modified.rstrip("Z").replace("T", " "), "" if stat is None else str(stat.size))


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
