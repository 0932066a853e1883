"""The letters of sequences that were found, for those who send them and for those who decode with them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from htsget_flask.errors import FileFaultError, FormatError, NotFound, ServiceUnavailable
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.lookup import Fasta, Found, Stored
from htsget_flask.storage import Stat, StoredFile, VersionError

_MD5 = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)


class LibraryBases:
    """The sequences of a library as those who decode records need them: by MD5, none but what is at hand."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def has(self, md5: str) -> bool:
        """Whether a sequence is at hand; ServiceUnavailable where that is not known yet."""
        if not _MD5.fullmatch(md5):
            return False
        try:
            self._library.find(md5)
        except NotFound:
            return False
        return True

    def letters(self, md5: str, start: int, end: int) -> Iterator[bytes]:
        """Letters `start` to `end` (0-based, half-open) of a sequence, upper-case, in pieces.

        Raises:
            FileFaultError: when it is not there any more, or cannot be read.
        """
        try:
            found = self._library.find(md5)
            with open_found(found) as file:
                yield from read_found(file, found, [(min(start, found.length), min(end, found.length))])
        except (NotFound, ServiceUnavailable, VersionError) as error:
            raise FileFaultError("a reference that was at hand is not there now", location=f"MD5 {md5}") from error


def look_at_stored(store: Stored, found: Found, *, max_age: float = 0) -> Stat:
    """The present version of a stored sequence's file, or the one that was present `max_age` seconds ago.

    Raises:
        FileFaultError: when there is none, when it cannot be read, and when it is not as long as the sequence.
    """
    storage, key = store.storage, store.key(found.md5)
    with _told(found):
        stat = storage.stat(key, max_age=max_age)
        if stat.size != found.length and max_age:
            # It may have been mended since.
            stat = storage.stat(key)
    if stat.size != found.length:
        raise FileFaultError("a sequence of the store is not whole", location=store.location(found.md5))
    return stat


def open_found(found: Found, *, is_fresh: bool = True) -> StoredFile:
    """The file that the sequence is in; unless `is_fresh`, of the version that the store's storage remembers.

    Raises:
        VersionError: when the file was replaced, or a FASTA file removed; reading it may raise it too.
        FileFaultError: when it cannot be read.
    """
    source = found.source
    if isinstance(source, Fasta):
        with _told(found):
            return source.open()
    stat = look_at_stored(source, found, max_age=0 if is_fresh else source.storage.max_age)
    with _told(found):
        return source.storage.open(source.key(found.md5), etag=stat.etag)


@contextmanager
def _told(found: Found) -> Iterator[None]:
    location = found.source.location(found.md5)
    try:
        yield
    except NotFound:
        if isinstance(found.source, Fasta):
            raise VersionError from None
        raise FileFaultError("a sequence of the store's list is not there", location=location) from None
    except OSError as error:
        raise FileFaultError(f"it cannot be read: {error.strerror}", location=location) from error


def read_found(file: BinaryIO, found: Found, parts: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The letters of all parts (0-based, half-open), piece by piece.

    Raises:
        FileFaultError: when the file does not hold them any more.
    """
    try:
        for start, end in parts:
            yield from found.source.letters(file, found.layout, start, end)
    except FormatError as error:
        raise FileFaultError(str(error), location=found.source.location(found.md5)) from error
