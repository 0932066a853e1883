"""A dataset's file, opened: its header, index and tail, each read once per version and then cached."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, TypeVar, cast

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.index_checks import IndexedData, check_crai, check_index
from htsget_flask.datasets.index_store import IndexFile, IndexT, find_index, load_index, private_bytes
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import FileFaultError, FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.cram import container as cram
from htsget_flask.formats.cram import slices
from htsget_flask.formats.cram.crai import Crai, read_crai
from htsget_flask.formats.headers import Header, read_bam_header, read_bcf_header, read_vcf_header
from htsget_flask.formats.index import Index
from htsget_flask.formats.index_reader import read_index
from htsget_flask.formats.lengths import reference_lengths
from htsget_flask.formats.reference_numbers import memory_of, number_references
from htsget_flask.storage import StoredFile

V = TypeVar("V")

READ_HEADER: dict[str, Callable[[BinaryIO], Header]] = {
    "BAM": read_bam_header,
    "CRAM": cram.read_cram_header,
    "VCF": read_vcf_header,
    "BCF": read_bcf_header,
}
# In bytes: the memory that a cached object takes besides its content, a reference's length, and an MD5.
_OBJECT_COST = 512
_REFERENCE_COST = 150
_CHECKSUM_COST = 81
_ABSENT = object()


class _Fault(NamedTuple):
    """What is wrong with this version of a file; cached, as the file decides how long it takes to find out."""

    reason: str
    location: str


def _value_or_fault(make: Callable[[], V], location: str) -> V | _Fault:
    try:
        return make()
    except FormatError as error:
        return _Fault(str(error), location)


def _cost(size_of: Callable[[V], int] | None, value: V | _Fault) -> int:
    return _OBJECT_COST + (0 if size_of is None or isinstance(value, _Fault) else size_of(value))


class OpenFile:
    """One version of a data file during one request; a context manager that closes what it opened.

    All that is wrong with the file or its index raises FileFaultError. Unless `fresh`, the index's version may be one
    that the storage remembers; VersionError says that data and index do not go together.
    """

    def __init__(self, file: DataFile, cache: ByteCache, sidecars: Path | None, *, fresh: bool = True) -> None:
        self.source = file.source
        self.stat = file.stat
        self.is_cram = file.source.format.name == "CRAM"
        self._fresh = fresh
        self._cache = cache
        self._sidecars = sidecars
        self._version = (file.source.storage_name, file.source.key, file.stat.etag)
        self._content: StoredFile | None = None
        self._header: Header | None = None
        self._index_file: IndexFile | None = None

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._content is not None:
            self._content.close()

    @property
    def header(self) -> Header:
        """The file's header."""
        if self._header is None:
            self._header = self.cached(
                "header",
                lambda: READ_HEADER[self.source.format.name](self.content),
                lambda header: len(header.raw) + memory_of(header.references),
            )
        return self._header

    @property
    def references(self) -> Mapping[str, int | None]:
        """The numbers by which the index knows the references; None for those that it holds nothing of."""
        if self.source.format.name != "VCF":
            return self.header.references

        def merge() -> Mapping[str, int | None]:
            indexed = ((name, number) for number, name in enumerate(self.index.reference_names()))
            named = number_references(indexed, "the index")
            of_header = ((name, named.get(name)) for name in self.header.references)
            return number_references(chain(of_header, named.items()), "the file")

        return self.cached(("references", self.index_file), merge, memory_of)

    @property
    def reference_lengths(self) -> dict[str, int | None]:
        """The lengths in bases of the references that the header names; None where it states none."""
        return self.cached(
            "lengths",
            lambda: reference_lengths(self.source.format.name, self.header),
            lambda lengths: _REFERENCE_COST * len(lengths),
        )

    @property
    def eof_marker(self) -> bytes:
        """The marker that ends a whole file of this format."""
        return cram.eof_container(self.header.raw[4]) if self.is_cram else bgzf.EOF_BLOCK

    @property
    def tail(self) -> int:
        """The byte offset after the last record: that of the EOF marker, or the end of a file that has none."""
        return self.cached("tail", self._find_tail)

    @property
    def index(self) -> Index:
        """The BAI, TBI or CSI of a file of BGZF blocks, checked against its data."""
        return self._index(Index, read_index, check_index)

    @property
    def crai(self) -> Crai:
        """The index of a CRAM file, checked against its data."""
        return self._index(Crai, read_crai, check_crai)

    @property
    def containers_end(self) -> int:
        """The byte offset after the last CRAM container that the index names."""
        return self.cached(
            ("containers", self.index_file),
            lambda: cram.read_container(self.content, int(self.crai.containers[-1]), self.header.raw[4]).end,
        )

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

    def detach_file(self) -> StoredFile:
        """The bytes of this version of the file, for the caller to close."""
        content, self._content = self.content, None
        return content

    def checksum(self, reference_id: int) -> str | None:
        """The MD5 of a reference of a CRAM file, as its header states it (the M5 of @SQ)."""
        checksums = self.cached("checksums", lambda: cram.read_checksums(self.header.raw), _size_of_checksums)
        return checksums[reference_id] if reference_id < len(checksums) else None

    def needs_reference(self, start: int) -> bool:
        """Whether the records of the CRAM container at byte `start` need a reference that is not in the file."""
        return self.cached(
            ("needs reference", start), lambda: slices.needs_reference(self.content, start, self.header.raw[4])
        )

    def is_cached(self, key: Hashable) -> bool:
        """Whether the value of a key is in the cache."""
        return (self._version, key) in self._cache

    def cached(
        self,
        key: Hashable,
        make: Callable[[], V],
        size_of: Callable[[V], int] | None = None,
        *,
        fault_key: str | None = None,
    ) -> V:
        """The value of a key for this version of the file, from the cache or made now.

        The key is a name, or a tuple that begins with one; `size_of` gives the value's memory in bytes. A FormatError
        is cached too, and is then a fault of the file, or of the index at `fault_key`; other errors may be temporary.
        """
        key = (self._version, key)
        # A hit makes no functions for a miss: a ticket has several.
        value = self._cache.get(key, _ABSENT)
        if value is _ABSENT:
            location = self.source.storage.location(fault_key or self.source.key)
            value = self._cache.fetch(key, partial(_value_or_fault, make, location), partial(_cost, size_of))
        if type(value) is _Fault:
            raise FileFaultError(value.reason, location=value.location)
        return cast(V, value)

    def _find_tail(self) -> int:
        size, marker = self.stat.size, self.eof_marker
        tail = size
        while tail >= len(marker):
            self.content.seek(tail - len(marker))
            if self.content.read(len(marker)) != marker:
                break
            tail -= len(marker)
        if tail == size and not (self._ends_with_container() if self.is_cram else bgzf.ends_whole(self.content, size)):
            raise FormatError(f"the {self.source.format.name} file is truncated: it ends in mid-block")
        return tail

    def _ends_with_container(self) -> bool:
        position = self.header.end
        while position < self.stat.size:
            position = cram.read_container(self.content, position, self.header.raw[4]).end
        return position == self.stat.size

    def _index(
        self, kind: type[IndexT], read: Callable[[bytes], IndexT], check: Callable[[IndexT, IndexedData], None]
    ) -> IndexT:
        index_file = self.index_file

        def load() -> IndexT:
            def check_data(index: IndexT) -> None:
                check(index, IndexedData(self.source.format.name, self.header, self.stat.size, self.content))

            return load_index(self.source, self.stat, index_file, self._sidecars, kind, read, check_data)

        return self.cached(("index", index_file), load, private_bytes, fault_key=index_file.key)


def _size_of_checksums(checksums: list[str | None]) -> int:
    return 8 * len(checksums) + _CHECKSUM_COST * (len(checksums) - checksums.count(None))
