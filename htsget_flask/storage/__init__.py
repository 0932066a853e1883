"""Where files lie: the storage protocol and the grammar of keys."""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple, Protocol

from htsget_flask.errors import NotFound

MAX_KEY_LENGTH = 1024

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\0-\x1f\x7f]+"
_KEY = re.compile(rf"(?=.{{1,{MAX_KEY_LENGTH}}}\Z){_SEGMENT}(?:/{_SEGMENT})*", re.DOTALL)


class Stat(NamedTuple):
    """One version of a file: `size` in bytes, `modified` in seconds since the epoch, `etag` without quotes."""

    size: int
    modified: float
    etag: str


class Entry(NamedTuple):
    """A file in a storage."""

    key: str
    stat: Stat


class SignedUrl(NamedTuple):
    """A URL of one version of a file for a limited time; `headers` go with each request for it, besides a Range."""

    url: str
    headers: Mapping[str, str]


class VersionError(Exception):
    """The file was replaced: the version asked for does not exist any more."""


class Storage(Protocol):
    """Files by key, a relative path with `/` between its segments.

    An absent key raises NotFound; every other fault (a broken disk, a denied permission) propagates as what it is.
    """

    def stat(self, key: str, *, max_age: float = 0) -> Stat:
        """The present version of a file, or the one that was present at most `max_age` seconds ago."""

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        """The file's bytes, seekable and unbuffered; VersionError when `etag` is given and is not the present one."""

    def signed_url(self, key: str, version: Stat) -> SignedUrl | None:
        """Where clients may fetch this version of the file themselves; None: this server delivers the bytes."""

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        """The files whose keys start with `prefix` and come behind `after`, in the order of their keys' code points.

        Hidden ones are not among them. They are found as they are asked for: the first ones of very many cost little.
        """

    def location(self, key: str) -> str:
        """The file as its keeper knows it (a path, a bucket's URL), for logs and for commands, never for clients."""


def is_key(key: str) -> bool:
    """Whether the key obeys the grammar: nothing else can name a file.

    Segments joined by `/`, none of them empty, `.` or `..`; no control characters, at most 1,024 bytes of UTF-8.
    """
    if not _KEY.fullmatch(key):
        return False
    try:
        return key.isascii() or len(key.encode()) <= MAX_KEY_LENGTH
    except UnicodeEncodeError:
        return False


def is_hidden(key: str) -> bool:
    """Whether a file was put aside: its name or that of a folder above it starts with a dot."""
    return key.startswith(".") or "/." in key


def validate_key(key: str) -> None:
    """Raise NotFound unless the key obeys the grammar."""
    if not is_key(key):
        raise NotFound("no such file")
