"""Listings of a storage's files, page by page."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from urllib.parse import quote

import orjson
from werkzeug.http import quote_etag

from htsget_flask.auth.access import Access
from htsget_flask.errors import InvalidInput
from htsget_flask.storage import Child, Entry, Storage, is_key

# Large, as rclone and fsspec read only the first page of a folder; at most 9 MB of HTML, made in 0.3 s. The page is one
# string: an error must not follow half of it.
MAX_ROWS = 10_000


def parse_cursor(cursor: str | None, access: Access) -> str:
    """The key that a cursor was made of: a file's, or a folder's with its slash; empty without a cursor.

    Raises:
        InvalidInput: for an invalid cursor.
    """
    if cursor is None:
        return ""
    try:
        key = access.unseal(cursor)
    except ValueError:
        key = ""
    if not is_key(key.removesuffix("/")):
        raise InvalidInput("the cursor is not from a page of this listing")
    return key


def list_files(
    storage: Storage, name: str, prefix: str, after: str, limit: int, access: Access
) -> tuple[list[Entry], str | None]:
    """At most `limit` files of the storage with this name whose keys start with `prefix` and come after `after`.

    With them the cursor of the next page, None on the last. A limited caller sees the files that the grants allow. The
    page ends after `access.listing_limit` files, however few are shown; the cursor may be of a file that is not shown.
    """
    entries: list[Entry] = []
    last, scan_limit = "", access.listing_limit
    for scanned, entry in enumerate(storage.entries(prefix, after=after)):
        if scanned == scan_limit:
            return entries, access.seal(last)
        if access.allows_whole("files", f"{name}/{entry.key}"):
            if len(entries) == limit:
                return entries, access.seal(last)
            entries.append(entry)
        last = entry.key
    return entries, None


def list_folder(storage: Storage, name: str, folder: str, after: str, access: Access) -> tuple[list[Child], str | None]:
    """A page of the direct children of a folder of the storage with this name, in the order of the keys.

    With them the cursor of the next page, None on the last. A limited caller sees the files that the grants allow, and
    the folders with such files anywhere below. The page ends after `MAX_ROWS` rows, or after `access.listing_limit`
    decisions, even without a row.

    Raises:
        NotFound: if there is no such folder.
    """
    children: list[Child] = []
    last, decisions = after, 0
    for child in storage.children(folder, after=after):
        if len(children) == MAX_ROWS:
            return children, access.seal(last)
        keys: Iterable[str] = (child.key,)
        if child.stat is None and access.is_limited:
            keys = (entry.key for entry in storage.entries(child.key, after=after))
        for key in keys:
            if decisions == access.listing_limit:
                return children, access.seal(last)
            decisions += 1
            if access.allows_whole("files", f"{name}/{key}"):
                children.append(child)
                last = child.key
                break
            last = key
    return children, None


def folder_rows(children: Sequence[Child], folder: str) -> Iterator[tuple[str, str, str, str]]:
    """The rows of a folder's HTML page: a relative URL, the name, the time in UTC and the size in bytes."""
    for key, stat in children:
        name = key.removeprefix(folder)
        # Quote colons, or the text before one would be a scheme; only folders end with a slash.
        link = quote(name.removesuffix("/"), safe="")
        if stat is None:
            yield f"{link}/", name, "", ""
        else:
            yield link, name, (_time(stat.modified) or "").rstrip("Z").replace("T", " "), str(stat.size)


def page_json(entries: Sequence[Entry], cursor: str | None, base: str) -> bytes:
    """A page of files as JSON; `base` is the URL of the storage's files, with a slash at its end.

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
        for key, stat in entries
    ]
    return orjson.dumps({"files": files, "cursor": cursor})


def _time(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return None
