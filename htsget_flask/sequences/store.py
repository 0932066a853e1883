"""A store: each sequence is the whole content of one file, in the layout of htslib's REF_CACHE."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from htsget_flask.errors import FormatError, NotFound
from htsget_flask.replacement import default_mode, replacement
from htsget_flask.sequences.digests import MD5_SIZE, TRUNC512_SIZE, Digester, Digests
from htsget_flask.sequences.lookup import FastaFile, SequenceStore
from htsget_flask.storage import Storage, is_hidden

LIST_NAME = "refget.tsv"
"""The list of a store's sequences: a line for each, with MD5, TRUNC512 (which no file name shows) and length."""


def parse_store(storage: Storage, prefix: str, content: bytes) -> SequenceStore:
    """The store whose list has this content; incomplete lines, such as one that is being written, are left out."""
    md5, trunc512, lengths = bytearray(), bytearray(), []
    for line in dict.fromkeys(content.split(b"\n")[:-1]):
        if entry := _parse_line(line):
            md5 += entry[0].md5
            trunc512 += entry[0].trunc512
            lengths.append(entry[1])
    md5_rows = np.frombuffer(md5, np.uint8).reshape(-1, MD5_SIZE)
    trunc512_rows = np.frombuffer(trunc512, np.uint8).reshape(-1, TRUNC512_SIZE)
    return SequenceStore(storage, prefix, md5_rows, trunc512_rows, np.array(lengths, np.int64))


def find_incomplete(store: SequenceStore) -> Iterator[str]:
    """The MD5s of the sequences whose files are absent, or not as long as the list says.

    Raises:
        OSError, StorageError: when that cannot be found out.
    """
    storage = store.storage
    sizes: dict[str, int] | None = None
    if storage.reads_are_requests and not is_hidden(store.prefix):
        # One request for a thousand of them.
        sizes = {key: stat.size for key, stat in storage.entries(store.prefix)}
    for row, length in zip(store.md5, store.lengths.tolist(), strict=True):
        md5 = row.tobytes().hex()
        size = None
        if sizes is not None:
            size = sizes.get(store.key(md5))
        else:
            with suppress(NotFound):
                size = storage.stat(store.key(md5)).size
        if size != length:
            yield md5


class StoreWriter:
    """Adds sequences to a store in a local folder; those that it has stay as they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list = folder / LIST_NAME
        folder.mkdir(parents=True, exist_ok=True)
        content = self._list.read_bytes() if self._list.exists() else b""
        self._listed = {entry[0].md5 for line in content.split(b"\n") if (entry := _parse_line(line))}

    def add(self, fasta: FastaFile, progress: Callable[[int], None]) -> int:
        """Add all sequences of a FASTA file; the number of new ones. `progress` is called with the letters added.

        Each file appears whole or not at all, and before its line in the list: an interrupted run can be repeated.

        Raises:
            FormatError: when the file does not fit its index any more.
            OSError: when the folder cannot be written.
        """
        added = 0
        with fasta.open() as file:
            for row in range(len(fasta.index)):
                digests, length = fasta.index.digests(row), int(fasta.index.lengths[row])
                md5 = digests.md5.hex()
                path = self._folder / md5[:2] / md5[2:4] / md5[4:]
                if path.exists() and path.stat().st_size == length:
                    progress(length)
                else:
                    self._write(path, fasta.read_letters(file, fasta.index.layout(row), 0, length), digests, progress)
                    added += 1
                self._append_to_list(digests, length)
        return added

    def _write(self, path: Path, letters: Iterator[bytes], expected: Digests, progress: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        digester = Digester()
        with replacement(path, mode=default_mode()) as file:
            for buffer in letters:
                digester.update(buffer)
                file.write(buffer)
                progress(len(buffer))
            # The file is served under these digests for good.
            if digester.digests() != expected:
                raise FormatError("the file does not hold the sequence any more")

    def _append_to_list(self, digests: Digests, length: int) -> None:
        if digests.md5 in self._listed:
            return
        line = f"{digests.md5.hex()}\t{digests.trunc512.hex()}\t{length}\n".encode()
        with self._list.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                # An interrupted run may have left an incomplete line, which must not become part of this one.
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
        self._listed.add(digests.md5)


def _parse_line(line: bytes) -> tuple[Digests, int] | None:
    try:
        md5, trunc512, length, *_ = line.decode("ascii").split("\t")
        digests, letters = Digests(bytes.fromhex(md5), bytes.fromhex(trunc512)), int(length)
    except ValueError:
        return None
    is_valid = len(digests.md5) == MD5_SIZE and len(digests.trunc512) == TRUNC512_SIZE and letters >= 0
    return (digests, letters) if is_valid else None
