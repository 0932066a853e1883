"""The letters of sequences: for answers, and for decoding CRAM records."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from htsget_flask.errors import FileFaultError, FormatError, NotFound, ServiceUnavailable
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.lookup import FastaFile, SequenceMatch, SequenceStore
from htsget_flask.storage import Stat, StoredFile, VersionError

_MD5 = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)


class LibraryBases:
    """The bases of a library's sequences by MD5, for decoders of records."""

    def __init__(self, library: Library) -> None:
        self._library = library

    @property
    def generation(self) -> int:
        """A number that changes when sequences come or go."""
        return self._library.generation

    def has(self, md5: str) -> bool:
        """Whether a sequence is available; ServiceUnavailable where that is not known yet."""
        try:
            return bool(_MD5.fullmatch(md5) and self._library.find(md5))
        except NotFound:
            return False

    def letters(self, md5: str, start: int, end: int) -> Iterator[bytes]:
        """Letters `start` to `end` (0-based, half-open) of a sequence in upper case, in buffers.

        Raises:
            FileFaultError: when it is not available any more, or cannot be read.
        """
        try:
            match = self._library.find(md5)
            with open_sequence(match) as file:
                yield from read_sequence(file, match, [(min(start, match.length), min(end, match.length))])
        except (NotFound, ServiceUnavailable, VersionError) as error:
            raise FileFaultError("a reference is not available any more", location=f"MD5 {md5}") from error


def stat_stored_sequence(store: SequenceStore, match: SequenceMatch, *, max_age: float = 0) -> Stat:
    """The version of a stored sequence's file, at most `max_age` seconds old.

    Raises:
        FileFaultError: when the file is absent, unreadable or not as long as the sequence.
    """
    storage, key = store.storage, store.key(match.md5)
    with _translate_errors(match):
        stat = storage.stat(key, max_age=max_age)
        if stat.size != match.length and max_age:
            # It may have been repaired since.
            stat = storage.stat(key)
    if stat.size != match.length:
        raise FileFaultError("a sequence of the store is incomplete", location=store.location(match.md5))
    return stat


def open_sequence(match: SequenceMatch, *, is_fresh: bool = True) -> StoredFile:
    """The file that holds the sequence; unless `is_fresh`, of the version that the store's storage remembers.

    Raises:
        VersionError: when the file was replaced, or a FASTA file removed; reading it may raise it too.
        FileFaultError: when it cannot be read.
    """
    source = match.source
    if isinstance(source, FastaFile):
        with _translate_errors(match):
            return source.open()
    stat = stat_stored_sequence(source, match, max_age=0 if is_fresh else source.storage.max_age)
    with _translate_errors(match):
        return source.storage.open(source.key(match.md5), etag=stat.etag)


@contextmanager
def _translate_errors(match: SequenceMatch) -> Iterator[None]:
    location = match.source.location(match.md5)
    try:
        yield
    except NotFound:
        if isinstance(match.source, FastaFile):
            raise VersionError from None
        raise FileFaultError("the file of a sequence in the store's list does not exist", location=location) from None
    except OSError as error:
        raise FileFaultError(f"it cannot be read: {error.strerror}", location=location) from error


def read_sequence(file: BinaryIO, match: SequenceMatch, parts: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The letters of all parts (0-based, half-open) one after the other, in buffers.

    Raises:
        FileFaultError: when the file does not hold them any more.
    """
    try:
        for start, end in parts:
            yield from match.source.read_letters(file, match.layout, start, end)
    except FormatError as error:
        raise FileFaultError(str(error), location=match.source.location(match.md5)) from error
