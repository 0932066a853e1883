"""A dataset's file, opened: its header, index and tail, each read once per version and then cached."""

import io
from collections.abc import Callable, Collection, Hashable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.directory_store import is_worth_storing, load_segment, store_segment
from htsget_flask.datasets.index_checks import IndexedData, check_index
from htsget_flask.datasets.index_store import IndexFile, find_index, load_index, private_bytes
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import FileFaultError, FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.cram import slices
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.headers import Header
from htsget_flask.formats.index import Index
from htsget_flask.formats.references import Reference, References, collect_references
from htsget_flask.records.directory import Row, Segment, Segments
from htsget_flask.storage import StoredFile
from htsget_flask.storage.pages import PagedFile

V = TypeVar("V")

# In bytes: the memory that a cached object takes besides its content, and that of a reference's length.
_OBJECT_COST = 512
_REFERENCE_COST = 150
# The width of example regions, in bases, and the number of references that get one.
_EXAMPLE_WIDTH = 20_000
_MAX_EXAMPLES = 10_000
_ABSENT = object()


class _Fault(NamedTuple):
    """A fault of this version of a file; cached, as the file determines how long it takes to find it."""

    reason: str
    location: str


def _cost(size_of: Callable[[V], int] | None, value: V | _Fault) -> int:
    return _OBJECT_COST + (0 if size_of is None or isinstance(value, _Fault) else size_of(value))


class OpenFile:
    """One version of a data file during one request; a context manager that closes what it opened.

    Every fault of the file or its index raises FileFaultError. Unless `fresh`, the index's version may be one that the
    storage remembers; VersionError means that the remembered versions of data and index do not belong together.
    """

    def __init__(self, file: DataFile, cache: ByteCache, sidecars: Path | None, *, fresh: bool = True) -> None:
        self.source = file.source
        self.stat = file.stat
        self._fresh = fresh
        self._cache = cache
        self._sidecars = sidecars
        self._version = (file.source.storage_name, file.source.key, file.stat.etag)
        self._content: StoredFile | None = None
        self._pages: PagedFile | None = None
        self._header: Header | None = None
        self._index_file: IndexFile | None = None
        self._index: Index | Crai | None = None
        self._chunks: dict[tuple[int, int, int | None], list[Chunk]] = {}

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pages is not None:
            self._pages.close()
        if self._content is not None:
            self._content.close()

    @property
    def header(self) -> Header:
        """The file's header."""
        if self._header is None:
            make = self.source.format.read_header
            self._header = self.cached("header", lambda: make(self.content), lambda header: header.memory)
        return self._header

    @property
    def references(self) -> References:
        """The references with their ids in the index; None for those that the index does not list."""
        if not self.source.format.names_references:
            return self.header.references

        def merge() -> References:
            indexed = (Reference(name, number) for number, name in enumerate(self.index.reference_names()))
            named = collect_references(indexed, "the index")
            of_header = (
                reference._replace(id=named[name].id) if name in named else reference
                for name, reference in self.header.references.items()
            )
            return collect_references(chain(of_header, named.values()), "the file")

        return self.cached(("references", self.index_file), merge, lambda references: references.memory)

    @property
    def references_with_md5s(self) -> References:
        """The references of the header with the MD5s that it states, which are parsed at the first use."""
        return self.cached(
            "md5s",
            lambda: self.source.format.read_header(io.BytesIO(self.header.raw), with_md5s=True).references,
            lambda references: references.memory,
        )

    @property
    def reference_lengths(self) -> dict[str, int | None]:
        """The lengths in bases of the references that the header names; None where it states none."""
        return self.cached("lengths", self.header.reference_lengths, lambda lengths: _REFERENCE_COST * len(lengths))

    @property
    def tail(self) -> int:
        """The byte offset after the last record: that of the EOF marker, or the end of a file that has none."""
        return self.cached("tail", self._find_tail)

    @property
    def any_index(self) -> Index | Crai:
        """The index, checked against its data."""
        if self._index is None:
            file = self.index_file
            self._index = self.cached(("index", file), self._load_index, private_bytes, file.key)
        return self._index

    @property
    def index(self) -> Index:
        """The BAI, TBI or CSI of a file of BGZF blocks."""
        return cast(Index, self.any_index)

    def chunks(self, reference_id: int, start: int, end: int | None) -> list[Chunk]:
        """The index's chunks for positions of a reference, found once per request: see `formats.index.Index.chunks`."""
        key = reference_id, start, end
        chunks = self._chunks.get(key)
        if chunks is None:
            chunks = self._chunks[key] = self.index.chunks(*key)
        return chunks

    @property
    def crai(self) -> Crai:
        """The index of a CRAM file."""
        return cast(Crai, self.any_index)

    @property
    def index_file(self) -> IndexFile:
        """The first index under a usual name that is not older than its data."""
        if self._index_file is None:
            self._index_file = find_index(self.source, self.stat, fresh=self._fresh)
        return self._index_file

    @property
    def content(self) -> StoredFile:
        """The bytes of this version of the file, which is opened at the first use."""
        if self._content is None:
            self._content = self.source.open(self.source.key, etag=self.stat.etag)
        return self._content

    @property
    def pages(self) -> StoredFile:
        """The same bytes; where reads are requests, in pages that the cache keeps for neighbouring regions."""
        if not self.source.storage.reads_are_requests:
            return self.content
        if self._pages is None:
            self._pages = PagedFile(self.content, self.stat.size, self)
        return self._pages

    def detach_file(self) -> StoredFile:
        """The bytes of this version of the file, for the caller to close."""
        content, self._content = self.content, None
        return content

    def block_end(self, start: int) -> int:
        """The byte offset after the BGZF block or CRAM container that starts at byte `start`."""
        return self.cached(("block end", start), lambda: self.source.format.block_end(self.content, start, self.header))

    def needs_reference(self, start: int) -> bool:
        """Whether the records of the CRAM container at byte `start` need a reference that is not in the file."""
        major = self.header.raw[4]
        return self.cached(("needs reference", start), lambda: slices.needs_reference(self.content, start, major))

    def read_block(self, coffset: int) -> bgzf.BgzfBlock:
        """The BGZF block at byte `coffset`, from the cache or read now."""
        return self.cached(("block", coffset), lambda: self.read_new_block(coffset), lambda block: len(block.data))

    def read_new_block(self, coffset: int) -> bgzf.BgzfBlock:
        """The BGZF block at byte `coffset`, which is not cached: one of many."""
        return bgzf.read_block(self.pages, coffset)

    @property
    def segments(self) -> Segments:
        """The directory of BGZF blocks, as far as it is known."""
        return Segments(self._load_segment, self._extend_segment)

    def _load_segment(self, number: int) -> Segment:
        return self.cached(
            ("segment", number),
            lambda: load_segment(self._sidecars, self.source.location, number, self.stat.etag),
            lambda segment: segment.rows.nbytes,
        )

    def _extend_segment(self, number: int, rows: Collection[Row]) -> None:
        before = self._load_segment(number)
        segment = before.extend(rows)
        self._cache.replace((self._version, ("segment", number)), segment, _OBJECT_COST + segment.rows.nbytes)
        if is_worth_storing(len(before), len(segment)):
            store_segment(self._sidecars, self.source.location, number, self.stat.etag, segment)

    def is_cached(self, key: Hashable) -> bool:
        """Whether the value of a key is in the cache."""
        return (self._version, key) in self._cache

    def cached(
        self, key: Hashable, make: Callable[[], V], size_of: Callable[[V], int] | None = None, fault_key: str = ""
    ) -> V:
        """The value of a key for this version of the file, from the cache or made now.

        The key is a name, or a tuple that begins with one; `size_of` gives the value's memory in bytes. A FormatError
        is cached too, and is then a fault of the file, or of the index at `fault_key`; other errors may be temporary.
        """
        key = (self._version, key)
        # A hit creates no functions for the miss: a ticket has several hits.
        value: Any = self._cache.get(key, _ABSENT)
        if value is _ABSENT:
            value = self._cache.fetch(key, partial(self._make, make, fault_key), partial(_cost, size_of))
        if type(value) is _Fault:
            raise FileFaultError(value.reason, location=value.location)
        return value  # type: ignore[no-any-return]

    def _make(self, make: Callable[[], V], fault_key: str) -> V | _Fault:
        try:
            return make()
        except FormatError as error:
            return _Fault(str(error), self.source.storage.location(fault_key or self.source.key))

    def example_regions(self) -> Iterator[tuple[str, int, int]]:
        """The region of the first records of each reference that has records: name, start, end; 0-based, half-open."""
        index = self.any_index
        for name, reference in islice(self.references.items(), _MAX_EXAMPLES):
            start = None if reference.id is None else index.first_position(reference.id)
            if start is not None:
                yield name, start, start + _EXAMPLE_WIDTH

    def _load_index(self) -> Index | Crai:
        def check(index: Index | Crai) -> None:
            data = IndexedData(
                self.source.format, self.header, self.stat.size, self.content, self.block_end, lambda: self.tail
            )
            check_index(index, data)

        return load_index(self.source, self.stat, self.index_file, self._sidecars, check)

    def _find_tail(self) -> int:
        size, marker = self.stat.size, self.header.eof_marker
        tail = size
        while tail >= len(marker):
            self.content.seek(tail - len(marker))
            if self.content.read(len(marker)) != marker:
                break
            tail -= len(marker)
        if tail == size and not self.source.format.ends_whole(self.content, size, self.header):
            raise FormatError(f"the {self.source.format.name} file is truncated: it ends in mid-block")
        return tail
