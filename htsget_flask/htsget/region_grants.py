"""Tickets for callers whose grant is limited to regions: overlapping records only, not the blocks that hold them."""

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import FileFaultError, FormatError, NotFound, PermissionDenied
from htsget_flask.fields import EVERYTHING
from htsget_flask.formats.references import Reference
from htsget_flask.htsget.data_blocks import FilePart, Records
from htsget_flask.htsget.plan import Span
from htsget_flask.htsget.query import UNPLACED, Query
from htsget_flask.htsget.reference_names import reference_id_of
from htsget_flask.records.cram import CramSource, decode_containers
from htsget_flask.records.decoder import Decoder
from htsget_flask.records.region_filter import RecordFilter, filter_records
from htsget_flask.regions import Region, RegionSet
from htsget_flask.sequences.open_sequence import LibraryBases

_BUFFER_SIZE = 256 << 10


def plan_records(query: Query, granted: RegionSet, file: OpenFile) -> Sequence[Span]:
    """The records that answer a query as far as it lies in the granted regions, in file order, and the end of file.

    Raises:
        NotFound: for a reference that the file does not have.
    """
    if query.header_only:
        return ()
    for region in query.regions or ():
        # Outside of a grant, a request for the reads without a position is answered with no records.
        if region.reference_name != UNPLACED or granted.opens(region):
            reference_id_of(region.reference_name, file)
    # By reference: their ids may be in another order than the records.
    blocks: list[Records] = []
    offsets: dict[int, int] = {}
    previous = Region("")
    for region in granted if query.regions is None else granted.restrict(query.regions):
        name, start, end = region
        after = (previous.end or 0) if name == previous.reference_name else 0
        previous = region
        reference = file.references.get(name)
        reference_id = None if reference is None else reference.id
        offset = None if reference_id is None else _first_offset(file, reference_id, region)
        if reference_id is not None and offset is not None:
            offsets.setdefault(reference_id, offset)
            blocks.append(Records(reference_id, start, end, after))
    return (*sorted(blocks, key=lambda block: offsets[block.reference_id]), FilePart.EOF)


def _first_offset(file: OpenFile, reference_id: int, region: Region) -> int | None:
    """What orders the records of a region among those of other references; None where there are none."""
    if file.source.format.is_bgzf:
        chunks = file.index.chunks(reference_id, region.start, region.end)
        return chunks[0].begin if chunks else None
    # Containers may hold records of several references, which are in the order of their ids.
    return reference_id if file.crai.overlapping(reference_id, region.start, region.end) else None


def require_references(spans: Iterable[Span], file: OpenFile, bases: LibraryBases) -> None:
    """Check that the records of spans can be decoded: those of CRAM need their references.

    Raises:
        PermissionDenied: when a reference is neither in the file nor in the library.
    """
    if file.source.format.is_bgzf:
        return
    for block in spans:
        if isinstance(block, Records):
            reference = file.references_with_md5s.with_id(block.reference_id)
            if reference is None or (reference.md5 is not None and bases.has(reference.md5)):
                continue
            first = file.crai.overlapping(block.reference_id, block.start, block.end)[0]
            if file.needs_reference(int(file.crai.containers[first])):
                raise PermissionDenied(
                    f"this token opens regions only, and the reference {reference.name!r} of this CRAM file, which is "
                    "needed to separate its records, is not available here"
                )


def record_blocks(file: OpenFile, block: Records, bases: LibraryBases, decoder: Decoder) -> Generator[bytes]:
    """The BGZF blocks or CRAM containers with the records of a data block, made as they are read.

    Closes the file's bytes when it ends.

    Raises:
        NotFound: when there is no such data block.
        ServiceUnavailable: when CRAM cannot be decoded now, before anything is yielded.
    """
    format_ = file.source.format
    references = file.references if format_.is_bgzf else file.references_with_md5s
    reference = references.with_id(block.reference_id)
    if reference is None:
        raise NotFound("there is no such data block")
    key = reference.name.encode() if format_.names_references else block.reference_id
    record_filter = RecordFilter(key, block.start, block.end, block.after)
    if format_.records is None:
        return _closing(file, partial(_cram_records, file, reference, record_filter, bases, decoder))
    chunks = file.index.chunks(block.reference_id, block.start, block.end)
    return _closing(file, partial(filter_records, format_.records, chunks=chunks, record_filter=record_filter))


def _closing(file: OpenFile, make: Callable[[BinaryIO], Iterator[bytes]]) -> Generator[bytes]:
    with file.detach_file() as content:
        try:
            yield from make(content)
        except FormatError as error:
            raise FileFaultError(str(error), location=file.source.location) from error


def _cram_records(
    file: OpenFile,
    reference: Reference,
    record_filter: RecordFilter,
    bases: LibraryBases,
    decoder: Decoder,
    content: BinaryIO,
) -> Iterator[bytes]:
    index = file.crai
    assert reference.id is not None
    positions = index.overlapping(reference.id, record_filter.start, record_filter.end)

    def letters(_: int, start: int, end: int) -> Iterator[bytes]:
        if reference.md5 is None:
            raise FormatError("the header has no checksum of a reference that its records need")
        return bases.letters(reference.md5, start, end)

    with tempfile.TemporaryFile(buffering=0) as target:
        decode_containers(
            CramSource(content, file.header, file.source.key.rpartition("/")[2]),
            index.byte_ranges(positions, file.block_end(int(index.containers[-1]))) if positions else (),
            record_filter,
            EVERYTHING,
            "CRAM",
            letters,
            index.bounds,
            decoder,
            target,
        )
        target.seek(0)
        yield from iter(partial(target.read, _BUFFER_SIZE), b"")
