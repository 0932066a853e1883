"""The sequences of all FASTA files and of the store, by digest: what a request finds, and where its letters are."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np

from htsget_flask.sequences.digests import Digests, Identifier, head, heads, parse_identifier
from htsget_flask.sequences.fasta_index import Layout, Table, one_line
from htsget_flask.sequences.fasta_text import BgzfText, PlainText, Text
from htsget_flask.sequences.subsequence import letters
from htsget_flask.storage import Stat, Storage, StoredFile

# So many found sequences are remembered, by the text that asked for them.
_MAX_REMEMBERED = 10_000


class Fasta(NamedTuple):
    """One version of a FASTA file with its table; `circular` and `aliases` by the places of sequences in it."""

    storage: Storage
    key: str
    stat: Stat
    table: Table
    circular: frozenset[int] = frozenset()
    aliases: Mapping[int, Sequence[str]] = {}
    namespace: str | None = None

    def aliases_of(self, place: int) -> Iterator[str]:
        """The CURIEs of a sequence."""
        yield from self.aliases.get(place, ())
        if self.namespace is not None:
            yield f"{self.namespace}:{self.table.name(place)}"

    def location(self, _: str = "") -> str:
        """The file, for logs."""
        return self.storage.location(self.key)

    def open(self) -> StoredFile:
        """The file's bytes; VersionError or NotFound when it was replaced or removed."""
        return self.storage.open(self.key, etag=self.stat.etag)

    def letters(self, file: BinaryIO, layout: Layout, start: int, end: int) -> Iterator[bytes]:
        """Letters of a sequence from the opened file, in pieces."""
        table = self.table
        text: Text = PlainText(file)
        if len(table.block_coffsets):
            text = BgzfText(file, self.stat.size, table.block_coffsets, table.block_uoffsets)
        return letters(text, layout, start, end)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """The sequences of a store: each the content of a file of its own."""

    storage: Storage
    prefix: str
    md5: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]"
    trunc512: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]"
    lengths: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def key(self, md5: str) -> str:
        """The key of a sequence: the layout of htslib's REF_CACHE."""
        return f"{self.prefix}{md5[:2]}/{md5[2:4]}/{md5[4:]}"

    def location(self, md5: str) -> str:
        """The file of a sequence, for logs."""
        return self.storage.location(self.key(md5))

    def letters(self, file: BinaryIO, layout: Layout, start: int, end: int) -> Iterator[bytes]:
        """Letters of a sequence from its opened file, in pieces."""
        return letters(PlainText(file), layout, start, end)


class Found(NamedTuple):
    """A sequence: `length` in letters; `aliases` are CURIEs; `source` and `layout` say where it is."""

    digests: Digests
    length: int
    is_circular: bool
    aliases: Sequence[str]
    source: Fasta | Stored
    layout: Layout
    md5: str


@dataclass(frozen=True, slots=True)
class _Column:
    """The digests of one kind of all sources, sorted by their first bytes; `order`: their places before that."""

    heads: "np.ndarray[tuple[int], np.dtype[np.uint64]]"
    order: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def places(self, digest: bytes) -> Iterator[int]:
        wanted = head(digest)
        place = int(np.searchsorted(self.heads, wanted))
        while place < len(self.heads) and self.heads[place] == wanted:
            yield int(self.order[place])
            place += 1


@dataclass(frozen=True, slots=True)
class Sequences:
    """All sequences of these sources; of a sequence that several have, the first source's is taken.

    They are told apart by sorted numbers, not by objects: a folder of assemblies may have millions.
    """

    stored: Sequence[Stored]
    fastas: Sequence[Fasta]
    _firsts: list[int]
    _md5: _Column
    _trunc512: _Column
    _curies: Mapping[str, int]
    _remembered: dict[str, Found] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Sequence[Stored], fastas: Iterable[Fasta]) -> "Sequences":
        """The sequences of a store, and of FASTA files: those that are not compressed before those that are."""
        ordered = sorted(fastas, key=lambda fasta: len(fasta.table.block_coffsets) > 0)
        tables: list[Stored | Table] = [*stored, *(fasta.table for fasta in ordered)]
        firsts, count = [], 0
        for table in tables:
            firsts.append(count)
            count += len(table.lengths)
        curies: dict[str, int] = {}
        for fasta, first in zip(ordered, firsts[len(stored) :], strict=True):
            named = range(len(fasta.table)) if fasta.namespace is not None else fasta.aliases
            for place in named:
                for alias in fasta.aliases_of(place):
                    curies.setdefault(alias, first + place)
        md5, trunc512 = (_column([getattr(table, name) for table in tables]) for name in ("md5", "trunc512"))
        return cls(stored, ordered, firsts, md5, trunc512, curies)

    def find(self, text: str) -> Found | None:
        """The sequence that a client's identifier names."""
        found = self._remembered.get(text)
        if found is None:
            identifier = parse_identifier(text)
            found = None if identifier is None else self._find(identifier)
            if found is not None:
                if len(self._remembered) >= _MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered[text] = found
        return found

    def _find(self, identifier: Identifier) -> Found | None:
        if identifier.curie is not None:
            place = self._curies.get(identifier.curie)
            if place is None:
                return None
            identifier = Identifier(md5=self._locate(place)[2].md5)
        column, digest = (self._md5, identifier.md5) if identifier.md5 else (self._trunc512, identifier.trunc512)
        assert digest is not None
        found = [self._locate(place) for place in column.places(digest)]
        same = [(source, place, digests) for source, place, digests in found if digest in digests]
        if not same:
            return None
        source, place, digests = same[0]
        fastas = [(other, there) for other, there, _ in same if isinstance(other, Fasta)]
        aliases = [alias for other, there in fastas for alias in other.aliases_of(there)]
        length = int((source.table if isinstance(source, Fasta) else source).lengths[place])
        return Found(
            digests=digests,
            length=length,
            is_circular=any(there in other.circular for other, there in fastas),
            aliases=tuple(dict.fromkeys(aliases)),
            source=source,
            layout=source.table.layout(place) if isinstance(source, Fasta) else one_line(length),
            md5=digests.md5.hex(),
        )

    def _locate(self, place: int) -> tuple[Fasta | Stored, int, Digests]:
        number = bisect_right(self._firsts, place) - 1
        within = place - self._firsts[number]
        if number < len(self.stored):
            stored = self.stored[number]
            return stored, within, Digests(stored.md5[within].tobytes(), stored.trunc512[within].tobytes())
        fasta = self.fastas[number - len(self.stored)]
        return fasta, within, fasta.table.digests(within)


def _column(digests: "list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]") -> _Column:
    numbers = np.concatenate([heads(rows) for rows in digests] or [np.zeros(0, np.uint64)])
    order = np.argsort(numbers, kind="stable")
    return _Column(numbers[order], order)
