"""A store: each sequence the content of a file of its own, in the layout of htslib's REF_CACHE."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from htsget_flask.errors import FormatError, NotFound
from htsget_flask.replacement import default_mode, replacement
from htsget_flask.sequences.digests import MD5_SIZE, TRUNC512_SIZE, Digester, Digests
from htsget_flask.sequences.lookup import Fasta, Stored
from htsget_flask.storage import Storage, is_hidden

LIST = "refget.tsv"
"""The list of a store's sequences: MD5, TRUNC512 and length, a line for each; samtools does not look at it."""


def read_store(storage: Storage, prefix: str, content: bytes) -> Stored:
    """The sequences that the list of a store names; a line that is no whole one is not heeded.

    Such a line is the last one while somebody writes it.
    """
    md5, trunc512, lengths = bytearray(), bytearray(), []
    for line in dict.fromkeys(content.split(b"\n")[:-1]):
        entry = _parsed(line)
        if entry is not None:
            md5 += entry[0].md5
            trunc512 += entry[0].trunc512
            lengths.append(entry[1])
    return Stored(
        storage,
        prefix,
        np.frombuffer(bytes(md5), np.uint8).reshape(-1, MD5_SIZE),
        np.frombuffer(bytes(trunc512), np.uint8).reshape(-1, TRUNC512_SIZE),
        np.array(lengths, np.int64),
    )


def faulty(stored: Stored) -> Iterator[str]:
    """The MD5s of those sequences whose files are not there, or not as long as the list says.

    Raises:
        OSError, StorageError: when it cannot be looked at them.
    """
    storage = stored.storage
    sizes: dict[str, int] | None = None
    if storage.reads_are_requests and not is_hidden(stored.prefix):
        # One request for a thousand of them.
        sizes = {key: stat.size for key, stat in storage.entries(stored.prefix)}
    for row, length in zip(stored.md5, stored.lengths.tolist(), strict=True):
        md5 = row.tobytes().hex()
        key = stored.key(md5)
        if (_size(storage, key) if sizes is None else sizes.get(key)) != length:
            yield md5


def _size(storage: Storage, key: str) -> int | None:
    try:
        return storage.stat(key).size
    except NotFound:
        return None


class Ingest:
    """Adds sequences to a store in a folder of this machine; what is there already is left alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list = folder / LIST
        folder.mkdir(parents=True, exist_ok=True)
        content = self._list.read_bytes() if self._list.exists() else b""
        self._listed = {entry[0].md5 for line in content.split(b"\n") if (entry := _parsed(line)) is not None}

    def add(self, fasta: Fasta, progress: Callable[[int], None]) -> int:
        """Add all sequences of a FASTA file; how many were not there before. `progress` is told letters as they come.

        Each file appears whole or not at all, its line in the list behind it: what was broken off goes on where it was.

        Raises:
            FormatError: when the file is not what its table was made of.
            OSError: when the folder cannot be written.
        """
        added = 0
        with fasta.open() as file:
            for place in range(len(fasta.table)):
                digests, length = fasta.table.digests(place), int(fasta.table.lengths[place])
                text = digests.md5.hex()
                path = self._folder / text[:2] / text[2:4] / text[4:]
                if not path.exists() or path.stat().st_size != length:
                    pieces = fasta.letters(file, fasta.table.layout(place), 0, length)
                    self._write(path, pieces, digests, progress)
                    added += 1
                else:
                    progress(length)
                self._note(digests, length)
        return added

    def _write(self, path: Path, pieces: Iterator[bytes], expected: Digests, progress: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        digester = Digester()
        with replacement(path, mode=default_mode()) as file:
            for piece in pieces:
                digester.update(piece)
                file.write(piece)
                progress(len(piece))
            # What is kept under a checksum for good is to have it.
            if digester.digests() != expected:
                raise FormatError("the file does not hold the sequence any more")

    def _note(self, digests: Digests, length: int) -> None:
        if digests.md5 in self._listed:
            return
        line = f"{digests.md5.hex()}\t{digests.trunc512.hex()}\t{length}\n".encode()
        with self._list.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                # A line that was broken off is not to take this one with it.
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
        self._listed.add(digests.md5)


def _parsed(line: bytes) -> tuple[Digests, int] | None:
    fields = line.split(b"\t")
    try:
        digests = Digests(*(bytes.fromhex(text.decode("ascii")) for text in fields[:2]))
        length = int(fields[2])
    except (ValueError, TypeError, IndexError):
        return None
    if len(digests.md5) != MD5_SIZE or len(digests.trunc512) != TRUNC512_SIZE or length < 0:
        return None
    return digests, length
