"""Storages of files: the protocol that each kind implements, and the grammar of keys."""

import io
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from htsget_flask.errors import NotFound
from htsget_flask.ranges import ByteRange

MAX_KEY_LENGTH = 1024

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\0-\x1f\x7f]+"
_KEY = re.compile(rf"(?=.{{1,{MAX_KEY_LENGTH}}}\Z){_SEGMENT}(?:/{_SEGMENT})*", re.DOTALL)


class Stat(NamedTuple):
    """One version of a file: `size` in bytes, `modified` in seconds since the epoch, `etag` without quotes."""

    size: int
    modified: float
    etag: str


class Entry(NamedTuple):
    """A file of a storage."""

    key: str
    stat: Stat


class Child(NamedTuple):
    """A file or a folder directly in a folder; a folder's key ends with `/`, and its `stat` is None."""

    key: str
    stat: Stat | None


class SignedUrl(NamedTuple):
    """A URL that is valid for a limited time; clients send `headers` with each request for it, next to a Range."""

    url: str
    headers: Mapping[str, str]


class SendfileHeaders(NamedTuple):
    """How an answer makes the web server in front send a file.

    `method`: the X-Sendfile-Type of requests from a web server that follows `fields`. `renamed`: fields of the answer
    that it needs under another name, or omitted (None).
    """

    method: str
    fields: Mapping[str, str]
    renamed: Mapping[str, str | None]


class VersionError(Exception):
    """The file was replaced: the requested version does not exist any more."""


class StoredFile(BinaryIO):
    """The bytes of one version of a file: seekable, unbuffered, read-only. Reading may raise VersionError."""

    # typing.BinaryIO declares these three; nothing uses them.
    name: Any = ""
    mode = "rb"

    def write(self, data: object) -> int:
        raise io.UnsupportedOperation("write")

    @abstractmethod
    def stream(self, span: ByteRange) -> Iterator[bytes]:
        """The bytes of a range, in order. The call itself raises the storage's errors, before any byte is used.

        Raises:
            OSError: during iteration, when the file ends early.
        """

    def prefetch(self, spans: Sequence[ByteRange]) -> None:
        """Start to read these ranges at once, instead of those of an earlier call.

        Does nothing where a read costs no request.
        """

    def request(self, spans: Sequence[ByteRange]) -> "Sequence[Future[bytes]]":
        """Start to read these ranges at once, each by a request, where reads are requests."""
        raise io.UnsupportedOperation("request")

    def sendfile_headers(self, span: ByteRange) -> SendfileHeaders | None:
        """How the web server in front sends these bytes; None where it cannot."""
        return None


class Storage(Protocol):
    """Files by key, a relative path with `/` between its segments.

    An absent key raises NotFound, a remote storage that does not answer StorageError; every other fault (a broken
    disk, a denied permission) propagates unchanged. `max_age`: how stale, in seconds, a remembered version may be for
    callers that tolerate it. `mtime_is_meaningful`: whether `Stat.modified` is when the content was written; else it is
    the time of an upload. `reads_are_requests`: whether each read is a request over a network.
    """

    max_age: float
    mtime_is_meaningful: bool
    reads_are_requests: bool

    @property
    def origin(self) -> str | None:
        """The origin (RFC 6454) of signed URLs; None where there are none."""

    def stat(self, key: str, *, max_age: float = 0, sibling_prefix: str | None = None) -> Stat:
        """The current version of a file, or the one that was current at most `max_age` seconds ago.

        `sibling_prefix`: a prefix of this key and of the keys that are looked up next, so that one request can answer
        all of these lookups.
        """

    def open(self, key: str, *, etag: str | None = None) -> StoredFile:
        """The file's bytes; VersionError when `etag` is given and is not that of the current version."""

    def signed_url(self, key: str, version: Stat, *, pinned: bool = True) -> SignedUrl | None:
        """The URL at which clients may fetch this version of the file; None: this server delivers the bytes.

        `pinned`: the URL delivers this version or an error, which may take its header fields. Otherwise it has none,
        for clients that send no field but Range, and may deliver a version that has replaced this one.
        """

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        """The files whose keys start with `prefix` and sort after `after`, in the order of their keys' code points.

        Hidden files are left out. The files are found lazily: the first ones of many cost little.
        """

    def children(self, folder: str = "", *, after: str = "") -> Iterator[Child]:
        """The files and folders directly in a folder that sort after `after`, in the order of the keys' code points.

        `folder` ends with `/`, or is empty for the top. Hidden files and folders are left out. A folder that contains
        `after` is included, as more may follow in it. The iterator raises NotFound if there is no such folder, and
        may be empty for it where `after` is given.
        """

    def location(self, key: str) -> str:
        """The file as its operator knows it (a path, a bucket's URL), for logs and for commands, never for clients."""

    def local_path(self, key: str) -> Path | None:
        """The file's path, for other programs and for files next to it; None where it is not on this machine."""


def is_key(key: str) -> bool:
    """Whether the key obeys the grammar of all keys.

    Segments joined by `/`, none of them empty, `.` or `..`; no control characters, at most 1,024 bytes of UTF-8.
    """
    if not _KEY.fullmatch(key):
        return False
    try:
        return key.isascii() or len(key.encode()) <= MAX_KEY_LENGTH
    except UnicodeEncodeError:
        return False


def is_hidden(key: str) -> bool:
    """Whether the name of a file, or of a folder above it, starts with a dot."""
    return key.startswith(".") or "/." in key


def validate_key(key: str) -> None:
    """Raise NotFound unless the key obeys the grammar."""
    if not is_key(key):
        raise NotFound("no such file")
