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


class Child(NamedTuple):
    """A file or a folder that lies directly in a folder; a folder's key ends with `/`, and its `stat` is None."""

    key: str
    stat: Stat | None


class SignedUrl(NamedTuple):
    """A URL of one version of a file for a limited time; `headers` go with each request for it, besides a Range."""

    url: str
    headers: Mapping[str, str]


class VersionError(Exception):
    """The file was replaced: the version asked for does not exist any more."""


class Storage(Protocol):
    """Files by key, a relative path with `/` between its segments.

    An absent key raises NotFound, a storage elsewhere that does not answer StorageError; every other fault (a broken
    disk, a denied permission) propagates as what it is. `max_age`: so many seconds old what is remembered of a file's
    version may be, where that does no harm. `is_remote`: whether each read is a request to somewhere else, and
    `Stat.modified` the time of an upload, which tells nothing of the age of the content.
    """

    max_age: float
    is_remote: bool

    @property
    def origin(self) -> str | None:
        """The origin (RFC 6454) of signed URLs; None where there are none."""

    def stat(self, key: str, *, max_age: float = 0, family: str | None = None) -> Stat:
        """The present version of a file, or the one that was present at most `max_age` seconds ago.

        `family` is a prefix of this key and of those that will be asked for next: one look may do for all.
        """

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        """The file's bytes, seekable and unbuffered; VersionError when `etag` is given and is not the present one.

        Of a remote storage it is a `remote.RemoteFile`, and VersionError may come from reading it.
        """

    def signed_url(self, key: str, version: Stat) -> SignedUrl | None:
        """Where clients may fetch this version of the file themselves; None: this server delivers the bytes."""

    def redirect_url(self, key: str, version: Stat) -> str | None:
        """The like for clients that send no header fields but a Range; another version may have taken its place."""

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        """The files whose keys start with `prefix` and come behind `after`, in the order of their keys' code points.

        Hidden ones are not among them. They are found as they are asked for: the first ones of very many cost little.
        """

    def children(self, folder: str = "", *, after: str = "") -> Iterator[Child]:
        """What lies directly in a folder and comes after `after`, in the order of the keys' code points.

        `folder` ends with `/`, or is empty for the top. Hidden files and folders are left out. A folder that `after`
        lies in is included, as more may follow in it. The iterator raises NotFound if there is no such folder, and
        may be empty for it where `after` is given.
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
