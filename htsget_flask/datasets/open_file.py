"""A dataset's file, opened: its header, index and edge blocks, each read once per version and then kept in memory."""

import enum
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, TypeVar, cast

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.catalog import DataFile
from htsget_flask.datasets.index_store import FoundIndex, IndexT, find_index, load_index, private_bytes
from htsget_flask.errors import FileFaultError, FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.cram import container as cram
from htsget_flask.formats.cram import slices
from htsget_flask.formats.cram.crai import Crai, read_crai
from htsget_flask.formats.headers import Header, read_bam_header, read_bcf_header, read_vcf_header
from htsget_flask.formats.index import Index
from htsget_flask.formats.index_reader import read_index
from htsget_flask.formats.lengths import reference_lengths
from htsget_flask.formats.records import PLACE_SIZE, is_unplaced, may_start
from htsget_flask.formats.reference_numbers import memory_of, number_references
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile
from htsget_flask.storage.remote_file import EDGE

V = TypeVar("V")


class FilePart(enum.Enum):
    """A part that every file has once."""

    HEADER = "header"
    EOF = "eof"


# A chunk's bytes are those of the file except at its edges, where the BGZF blocks are cut and compressed again.
InlineBlock = Chunk | FilePart

READ_HEADER: dict[str, Callable[[BinaryIO], Header]] = {
    "BAM": read_bam_header,
    "CRAM": cram.read_cram_header,
    "VCF": read_vcf_header,
    "BCF": read_bcf_header,
}
# What a cached object costs beside its own bytes.
_OVERHEAD = 512
_REFERENCE_COST = 150
_CHECKSUM_COST = 81
_PIECE_COST = 150
# So many requests of one ticket are under way at once.
_MAX_AHEAD = 16
_END_BEHIND = "end behind"
_ABSENT = object()


class Parts(NamedTuple):
    """A chunk's bytes: BGZF blocks made of its first edge, a range of the file, BGZF blocks made of its last edge."""

    before: bytes
    middle: ByteRange
    after: bytes


class _Fault(NamedTuple):
    """What is wrong with this version of a file: remembered, as it takes as long to find out as the file likes."""

    reason: str
    location: str


def _size_of_checksums(checksums: list[str | None]) -> int:
    return 8 * len(checksums) + _CHECKSUM_COST * (len(checksums) - checksums.count(None))


def _made(make: Callable[[], V], location: str) -> V | _Fault:
    try:
        return make()
    except FormatError as error:
        return _Fault(str(error), location)


def _size(size_of: Callable[[V], int], value: V | _Fault) -> int:
    return _OVERHEAD + (0 if isinstance(value, _Fault) else size_of(value))


class OpenFile:
    """One version of a data file during one request; a context manager that closes what it opened.

    Everything that is wrong with the file or its index raises FileFaultError. Unless it has to be `fresh` the index's
    version may be one that the storage remembers; VersionError says that data and index do not go together.
    """

    def __init__(self, file: DataFile, cache: ByteCache, sidecars: Path | None, *, fresh: bool = True) -> None:
        self.source = file.source
        self.stat = file.stat
        self.is_cram = file.source.format.name == "CRAM"
        self._fresh = fresh
        self._cache = cache
        self._sidecars = sidecars
        self._version = (file.source.storage_name, file.source.key, file.stat.etag)
        self._bytes: StoredFile | None = None
        self._expected: list[int] = []
        self._header: Header | None = None
        self._found_index: FoundIndex | None = None

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bytes is not None:
            self._bytes.close()

    @property
    def header(self) -> Header:
        """The file's header."""
        if self._header is None:
            self._header = self._fetch(
                "header",
                lambda: READ_HEADER[self.source.format.name](self._open()),
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

        return self._fetch(("references", self.found_index), merge, memory_of)

    @property
    def reference_lengths(self) -> dict[str, int | None]:
        """The lengths in bases of the references that the header names; None for those of which it tells none."""
        return self._fetch(
            "lengths",
            lambda: reference_lengths(self.source.format.name, self.header),
            lambda lengths: _REFERENCE_COST * len(lengths),
        )

    @property
    def tail(self) -> int:
        """The byte offset behind the last record: of the EOF marker, or of the end of a file that has none."""
        return self._fetch("tail", self._find_tail, lambda _: 0)

    @property
    def index(self) -> Index:
        """The BAI, TBI or CSI of a file of BGZF blocks, checked against its data."""
        return self._index(Index, read_index, self._check_index)

    @property
    def crai(self) -> Crai:
        """The index of a CRAM file, checked against its data."""
        return self._index(Crai, read_crai, self._check_crai)

    @property
    def found_index(self) -> FoundIndex:
        """The first index under a usual name that is not older than its data, where the storage tells ages.

        They count in whole seconds, as for htslib: tools write data and index within one.
        """
        if self._found_index is None:
            self._found_index = find_index(self.source, self.stat, fresh=self._fresh)
        return self._found_index

    def announce_reads(self, offsets: Sequence[int]) -> None:
        """Tell where BGZF blocks or CRAM containers start that are looked at next, in this order.

        Where each read is a request the first that has to be made takes others with it.
        """
        if self.source.storage.reads_are_requests:
            self._expected = [offset for offset in offsets if (self._version, (_END_BEHIND, offset)) not in self._cache]

    def block_end(self, coffset: int) -> int:
        """The byte offset behind the BGZF block at `coffset`, which is thereby known to be one."""
        return self._fetch(
            (_END_BEHIND, coffset),
            lambda: coffset + bgzf.read_block_size(self._prefetched(coffset), coffset),
            lambda _: 0,
        )

    def verify_block_start(self, coffset: int) -> None:
        """Look whether a BGZF block starts where the index says: the first time that any is asked for."""
        self._fetch(("proven", self.found_index), lambda: self.block_end(coffset), lambda _: 0)

    def container_end(self, start: int) -> int:
        """The byte offset behind the CRAM container at `start`, which is thereby known to be one."""
        return self._fetch(
            (_END_BEHIND, start),
            lambda: cram.read_container(self._prefetched(start), start, self.header.raw[4]).end,
            lambda _: 0,
        )

    def checksum(self, reference_id: int) -> str | None:
        """The MD5 of a reference of a CRAM file, as its header tells it (the M5 of @SQ)."""
        checksums = self.cached(FilePart.HEADER, cram.read_checksums, _size_of_checksums)
        return checksums[reference_id] if reference_id < len(checksums) else None

    def needs_reference(self, start: int) -> bool:
        """Whether the records of the CRAM container at `start` need a reference that is elsewhere."""
        return self._fetch(
            ("needs reference", start),
            lambda: slices.needs_reference(self._open(), start, self.header.raw[4]),
            lambda _: 0,
        )

    def block_start(self, target: int) -> int:
        """The byte offset of the first BGZF block at or after byte `target`; the tail when none follows."""
        return self._fetch(
            ("block start", target), lambda: bgzf.find_block(self._open(), target, self.tail), lambda _: 0
        )

    def literal(self, piece: InlineBlock) -> bytes:
        """The bytes that a piece stands for."""
        match piece:
            case FilePart.HEADER:
                return self.header.raw
            case FilePart.EOF:
                return cram.eof_container(self.header.raw[4]) if self.is_cram else bgzf.EOF_BLOCK
            case Chunk():
                before, middle, after = self._parts(piece)
                file = self._open()
                file.seek(middle.start)
                whole = file.read(len(middle))
                if len(whole) < len(middle):
                    raise FormatError("the file was cut short while it was read")
                return before + whole + after

    def parts(self, chunk: Chunk) -> Parts:
        """What a chunk consists of, its edges cut and kept."""
        return self._fetch(
            ("parts", chunk), lambda: self._parts(chunk), lambda parts: len(parts.before) + len(parts.after)
        )

    def cached_chunks(self, query: object, make: Callable[[], list[Chunk]]) -> list[Chunk]:
        """What the index answers to a query, found once for each version of data and index."""
        return self._fetch((self.found_index, "chunks", query), make, lambda chunks: _PIECE_COST * len(chunks))

    def cached_answer(self, query: object, make: Callable[[], bytes]) -> bytes:
        """A part of a ticket, made once for each version of data and index."""
        return self._fetch((self.found_index, "answer", query), make, len)

    def cached(self, piece: InlineBlock, make: Callable[[bytes], V], size_of: Callable[[V], int]) -> V:
        """What `make` makes of the bytes that a piece stands for, made once."""
        return self._fetch((make, piece), lambda: make(self.literal(piece)), size_of)

    def detach_file(self) -> StoredFile:
        """The bytes of this version of the file, for the caller to close."""
        file, self._bytes = self._open(), None
        return file

    def _fetch(
        self, what: object, make: Callable[[], V], size_of: Callable[[V], int], *, index_key: str | None = None
    ) -> V:
        """What is kept, or made now: of the file, or of its index, which is the one at fault then.

        A FormatError is kept as well. Other errors may pass.
        """
        key = (self._version, what)
        # A hit makes no functions for a miss: a ticket has several.
        value = self._cache.get(key, _ABSENT)
        if value is _ABSENT:
            location = self.source.storage.location(self.source.key if index_key is None else index_key)
            value = self._cache.fetch(key, partial(_made, make, location), partial(_size, size_of))
        if type(value) is _Fault:
            raise FileFaultError(value.reason, location=value.location)
        return cast(V, value)

    def _open(self) -> StoredFile:
        if self._bytes is None:
            self._bytes = self.source.open(self.source.key, etag=self.stat.etag)
        return self._bytes

    def _prefetched(self, offset: int) -> StoredFile:
        """The file, in which what is at the offset, and what is expected behind it, is under way."""
        file = self._open()
        if offset in self._expected:
            place = self._expected.index(offset)
            ahead = self._expected[place : place + _MAX_AHEAD]
            del self._expected[: place + _MAX_AHEAD]
            file.prefetch([ByteRange(start, start + EDGE) for start in ahead])
        return file

    def _parts(self, chunk: Chunk) -> Parts:
        (first, first_cut), (last, last_cut) = bgzf.split_offset(chunk.begin), bgzf.split_offset(chunk.end)
        if first == last:
            return Parts(self._cut(first, first_cut, last_cut)[0], ByteRange(first, first), b"")
        before, after = b"", b""
        if first_cut:
            before, first = self._cut(first, first_cut, None)
        if (first if first_cut else self.block_end(first)) > last:
            raise FormatError("the index does not fit the data: it is of another file")
        if last_cut:
            after, _ = self._cut(last, 0, last_cut)
        elif last < self.stat.size:
            self.block_end(last)
        return Parts(before, ByteRange(first, last), after)

    def _cut(self, coffset: int, start: int, end: int | None) -> tuple[bytes, int]:
        """Bytes `start` to `end` of a BGZF block's data, as BGZF blocks anew, and where the next block starts."""
        data, size = bgzf.read_block(self._prefetched(coffset), coffset)
        self._fetch((_END_BEHIND, coffset), lambda: coffset + size, lambda _: 0)
        end = len(data) if end is None else end
        limit = self.header.reference_limit
        for edge in (start, end):
            if edge > len(data) or (0 < edge < len(data) and not may_start(self.source.format.name, data, edge, limit)):
                raise FormatError("the index does not fit the data: no record starts where it points")
        return bgzf.deflate(data[start:end]), coffset + size

    def _find_tail(self) -> int:
        file, size, marker = self._open(), self.stat.size, self.literal(FilePart.EOF)
        tail = size
        while tail >= len(marker):
            file.seek(tail - len(marker))
            if file.read(len(marker)) != marker:
                break
            tail -= len(marker)
        if tail == size and not (self._ends_with_container() if self.is_cram else bgzf.ends_whole(file, size)):
            raise FormatError(f"the {self.source.format.name} file is truncated: it ends in mid-block")
        return tail

    def _ends_with_container(self) -> bool:
        position = self.header.end
        while position < self.stat.size:
            position = cram.read_container(self._open(), position, self.header.raw[4]).end
        return position == self.stat.size

    def _index(self, kind: type[IndexT], read: Callable[[bytes], IndexT], check: Callable[[IndexT], None]) -> IndexT:
        found = self.found_index

        def make() -> IndexT:
            return load_index(self.source, self.stat, found, self._sidecars, kind, read, check)

        return self._fetch(("index", found), make, private_bytes, index_key=found.key)

    def _check_index(self, index: Index) -> None:
        format_name = self.source.format.name
        # Only those of VCF carry names.
        if index.reference_count and (format_name == "VCF") != bool(index.names.size):
            raise FormatError(f"the index is none of a {format_name} file")
        if format_name == "BAM" and index.reference_count > len(self.header.references):
            raise FormatError("the index is of another file: it has more references than the header")
        if index.last_offset() >> 16 > self.stat.size:
            raise FormatError("the index does not fit the data: it is of another file, or the data is truncated")
        first, start = index.first_offset(), self.header.end
        if first is None:
            if self._has_placed_records(start):
                raise FormatError("the index does not fit the data: it holds none of its records")
            return
        if first < start:
            # The end of the header's last block is the same place as the start of the next one.
            coffset, uoffset = bgzf.split_offset(first)
            data, size = bgzf.read_block(self._open(), coffset)
            if uoffset < len(data) or bgzf.virtual_offset(coffset + size, 0) != start:
                raise FormatError("the index does not fit the data: it is of another file")
        if self._has_placed_records(index.last_offset()):
            raise FormatError("the index does not fit the data: it does not hold its last records")

    def _has_placed_records(self, offset: int) -> bool:
        """Whether the record at a virtual offset has a place on a reference; those without one are at a file's end."""
        file, (coffset, uoffset) = self._open(), bgzf.split_offset(offset)
        data = b""
        while coffset < self.stat.size and len(data) < PLACE_SIZE:
            try:
                size = bgzf.read_block_size(file, coffset)
            except FormatError:
                raise FormatError("the index does not fit the data: it is of another file") from None
            try:
                data += bgzf.read_block(file, coffset).data[uoffset:]
            except FormatError:
                # That the data are damaged is told to those who ask for them.
                return False
            coffset, uoffset = coffset + size, 0
        return bool(data) and (self.source.format.name != "BAM" or not is_unplaced(data))

    def _check_crai(self, index: Crai) -> None:
        if len(index.containers) and int(index.containers[-1]) >= self.stat.size:
            raise FormatError("the index does not fit the data: it is of another file, or the data is truncated")
        if len(index.containers) and int(index.containers[0]) < self.header.end:
            raise FormatError("the index does not fit the data: it is of another file")
        if not len(index.containers):
            if self.header.end < self.tail:
                raise FormatError("the index does not fit the data: it holds none of its records")
            return
        file, marker = self._open(), self.literal(FilePart.EOF)
        file.seek(self.container_end(int(index.containers[-1])))
        if file.read(len(marker)) not in (marker, b""):
            raise FormatError("the index does not fit the data: it does not hold its last records")
