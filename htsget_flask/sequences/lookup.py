"""The sequences of all FASTA files and of the store, by digest."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.sequences.digests import Digests, Identifier, parse_identifier
from htsget_flask.sequences.fasta_index import Bytes, FastaIndex, Integers, LineLayout
from htsget_flask.sequences.fasta_text import BgzfText, PlainText, read_letters
from htsget_flask.storage import Stat, Storage, StoredFile

# Matches that are remembered, by the identifier as the client wrote it.
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class FastaFile:
    """One version of a FASTA file with its index; `circular` and `aliases` refer to sequences by their row in it."""

    storage: Storage
    key: str
    stat: Stat
    index: FastaIndex
    circular: frozenset[int] = frozenset()
    aliases: Mapping[int, Sequence[str]] = field(default_factory=dict)
    namespace: str | None = None

    def aliases_of(self, row: int) -> Iterator[str]:
        yield from self.aliases.get(row, ())
        if self.namespace is not None:
            yield f"{self.namespace}:{self.index.name(row)}"

    def location(self, _: str = "") -> str:
        """The file, for logs."""
        return self.storage.location(self.key)

    def open(self) -> StoredFile:
        """The file's bytes; VersionError or NotFound when it was replaced or removed."""
        return self.storage.open(self.key, etag=self.stat.etag)

    def read_letters(self, file: BinaryIO, layout: LineLayout, start: int, end: int) -> Iterator[bytes]:
        """Letters of a sequence from the opened file, in buffers."""
        coffsets, uoffsets = self.index.block_coffsets, self.index.block_uoffsets
        text = BgzfText(file, self.stat.size, coffsets, uoffsets) if len(coffsets) else PlainText(file)
        return read_letters(text, layout, start, end)


@dataclass(frozen=True, slots=True, eq=False)
class SequenceStore:
    """The sequences of a store: each is the whole content of one file."""

    storage: Storage
    prefix: str
    md5: Bytes
    trunc512: Bytes
    lengths: Integers

    def key(self, md5: str) -> str:
        """The key of a sequence: the layout of htslib's REF_CACHE."""
        return f"{self.prefix}{md5[:2]}/{md5[2:4]}/{md5[4:]}"

    def location(self, md5: str) -> str:
        """The file of a sequence, for logs."""
        return self.storage.location(self.key(md5))

    def read_letters(self, file: BinaryIO, layout: LineLayout, start: int, end: int) -> Iterator[bytes]:
        return read_letters(PlainText(file), layout, start, end)


class SequenceMatch(NamedTuple):
    """A sequence: `length` in letters; `aliases` are CURIEs; `source` and `layout` say where its letters are."""

    digests: Digests
    length: int
    is_circular: bool
    aliases: Sequence[str]
    source: FastaFile | SequenceStore
    layout: LineLayout
    md5: str


@dataclass(frozen=True, slots=True)
class _DigestIndex:
    """The digests of one kind of all sources, sorted by their first 8 bytes; `order`: their numbers in that order."""

    prefixes: npt.NDArray[np.uint64]
    order: npt.NDArray[np.intp]

    @classmethod
    def of(cls, digests: Sequence[Bytes]) -> "_DigestIndex":
        columns = [np.ascontiguousarray(rows[:, :8]).view(">u8").ravel().astype(np.uint64) for rows in digests]
        prefixes = np.concatenate(columns or [np.zeros(0, np.uint64)])
        order = np.argsort(prefixes, kind="stable")
        return cls(prefixes[order], order)

    def candidates(self, digest: bytes) -> list[int]:
        prefix = np.uint64(int.from_bytes(digest[:8], "big"))
        first, end = (np.searchsorted(self.prefixes, prefix, side) for side in ("left", "right"))
        numbers: list[int] = self.order[first:end].tolist()
        return numbers


class Sequences:
    """All sequences of a store, then of plain FASTA files, then of compressed ones, numbered in this order.

    A sequence of several sources is taken from the first. Sorted arrays hold the digests, not objects: a folder of
    assemblies may have millions.
    """

    def __init__(self, store: SequenceStore | None, fastas: Iterable[FastaFile]) -> None:
        self.store = store
        ordered = sorted(fastas, key=lambda fasta: len(fasta.index.block_coffsets) > 0)
        self._sources: list[SequenceStore | FastaFile] = [*([store] if store else []), *ordered]
        self._tables = [source.index if isinstance(source, FastaFile) else source for source in self._sources]
        self._first_numbers: list[int] = []
        self._curies: dict[str, int] = {}
        self._remembered: dict[str, SequenceMatch] = {}
        count = 0
        for source, table in zip(self._sources, self._tables, strict=True):
            self._first_numbers.append(count)
            if isinstance(source, FastaFile):
                for row in range(len(source.index)) if source.namespace is not None else source.aliases:
                    for alias in source.aliases_of(row):
                        self._curies.setdefault(alias, count + row)
            count += len(table.lengths)
        self._md5 = _DigestIndex.of([table.md5 for table in self._tables])
        self._trunc512 = _DigestIndex.of([table.trunc512 for table in self._tables])

    def find(self, text: str) -> SequenceMatch | None:
        """The sequence that a client's identifier names."""
        match = self._remembered.get(text)
        if match is None and (identifier := parse_identifier(text)) and (match := self._find(identifier)):
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = match
        return match

    def _find(self, identifier: Identifier) -> SequenceMatch | None:
        md5, trunc512, curie = identifier
        if curie is not None:
            number = self._curies.get(curie)
            if number is None:
                return None
            md5 = self._locate(number)[2].md5
        numbers = self._md5.candidates(md5) if md5 else self._trunc512.candidates(trunc512 or b"")
        candidates = map(self._locate, numbers)
        copies = [(source, row, digests) for source, row, digests in candidates if (md5 or trunc512) in digests]
        if not copies:
            return None
        source, row, digests = copies[0]
        if isinstance(source, FastaFile):
            length, layout = int(source.index.lengths[row]), source.index.layout(row)
        else:
            length = int(source.lengths[row])
            layout = LineLayout(0, length, max(1, length), max(1, length))
        fasta_rows = [(fasta, row) for fasta, row, _ in copies if isinstance(fasta, FastaFile)]
        is_circular = any(row in fasta.circular for fasta, row in fasta_rows)
        aliases = dict.fromkeys(alias for fasta, row in fasta_rows for alias in fasta.aliases_of(row))
        return SequenceMatch(digests, length, is_circular, tuple(aliases), source, layout, digests.md5.hex())

    def _locate(self, number: int) -> tuple[FastaFile | SequenceStore, int, Digests]:
        """The source of a sequence, its row there, and its digests."""
        index = bisect_right(self._first_numbers, number) - 1
        row, table = number - self._first_numbers[index], self._tables[index]
        return self._sources[index], row, Digests(table.md5[row].tobytes(), table.trunc512[row].tobytes())
