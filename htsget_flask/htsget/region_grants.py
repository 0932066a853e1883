"""Answers to who may see regions only: exactly the records there, whatever shares a block with them."""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import BinaryIO

from htsget_flask.datasets.open_file import FilePart, OpenFile
from htsget_flask.errors import FileFaultError, FormatError, NotFound, PermissionDenied
from htsget_flask.formats.cram.recoder import Recoder
from htsget_flask.formats.cram.region_filter import CramSource, select_recoded
from htsget_flask.formats.region_filter import RecordFilter, filter_records
from htsget_flask.htsget.data_blocks import Piece, Records
from htsget_flask.htsget.plan import container_ranges, reference_id_of
from htsget_flask.htsget.query import UNPLACED, Query
from htsget_flask.regions import Region, RegionSet
from htsget_flask.sequences.open_sequence import LibraryBases


def plan_records(query: Query, granted: RegionSet, file: OpenFile, bases: LibraryBases) -> Iterator[Piece]:
    """The pieces that answer a query as far as it lies in the granted regions, behind the header.

    Raises:
        PermissionDenied: for CRAM whose references are not at hand: it cannot be cut at records without them.
        NotFound: for a reference that the file does not know.
    """
    if query.header_only:
        return
    asked = query.regions
    for region in asked or ():
        # Outside of a grant there may be a request for the reads without a position, which is answered with none.
        if region.reference_name != UNPLACED or granted.opens(region):
            reference_id_of(region.reference_name, file)
    # Where the records of each reference begin in the file: references may have any numbers.
    found: dict[int, list[Records]] = {}
    begins: dict[int, int] = {}
    before = Region("")
    for region in granted if asked is None else granted.restrict(asked):
        name, start, end = region
        after = (before.end or 0) if name == before.reference_name else 0
        before = region
        reference = file.references.get(name)
        reference_id = None if reference is None else reference.id
        begin = None if reference_id is None else _begin(file, reference_id, region, bases)
        if reference_id is not None and begin is not None:
            begins.setdefault(reference_id, begin)
            found.setdefault(reference_id, []).append(Records(reference_id, start, end, after))
    for reference_id in sorted(found, key=lambda one: begins[one]):
        yield from found[reference_id]
    yield FilePart.EOF


def _begin(file: OpenFile, reference_id: int, region: Region, bases: LibraryBases) -> int | None:
    """What orders the records of a region among those of other references; None where there are none."""
    if file.source.format.is_bgzf:
        chunks = file.index.chunks(reference_id, region.start, region.end)
        return chunks[0].begin if chunks else None
    index = file.crai
    places = index.overlapping(reference_id, region.start, region.end)
    if not places:
        return None
    if not _is_at_hand(file, reference_id, bases) and file.needs_reference(int(index.containers[places[0]])):
        raise PermissionDenied(
            f"this token opens regions only, and the reference {region.reference_name!r} of this CRAM file, without "
            "which it cannot be cut, is not at hand here"
        )
    # Containers may hold records of several references, which are in the order of their numbers.
    return reference_id


def _is_at_hand(file: OpenFile, reference_id: int, bases: LibraryBases) -> bool:
    md5 = file.checksum(reference_id)
    return md5 is not None and bases.has(md5)


def record_blocks(file: OpenFile, piece: Records, bases: LibraryBases, recoder: Recoder) -> Generator[bytes]:
    """The BGZF blocks or CRAM containers with a piece's records, made as they are asked for.

    Closes the file's bytes when it ends.

    Raises:
        NotFound: when there is no such piece.
        ServiceUnavailable: when CRAM cannot be decoded now, before anything is yielded.
    """
    format_, reference_id, start, end, after = file.source.format, *piece
    reference = file.references.with_id(reference_id)
    if reference is None:
        raise NotFound("there is no such data block")
    wanted = RecordFilter(reference.name.encode() if format_.names_references else reference_id, start, end, after)
    if format_.records is None:
        return _closing(file, partial(_recoded, file, wanted, bases, recoder))
    chunks = file.index.chunks(reference_id, start, end)
    return _closing(file, partial(filter_records, format_.records, chunks=chunks, record_filter=wanted))


def _closing(file: OpenFile, make: Callable[[BinaryIO], Iterator[bytes]]) -> Generator[bytes]:
    with file.detach_file() as content:
        try:
            yield from make(content)
        except FormatError as error:
            raise FileFaultError(str(error), location=file.source.location) from error


def _recoded(
    file: OpenFile, wanted: RecordFilter, bases: LibraryBases, recoder: Recoder, content: BinaryIO
) -> Iterator[bytes]:
    assert isinstance(wanted.reference, int)
    index, md5 = file.crai, file.checksum(wanted.reference)
    places = index.overlapping(wanted.reference, wanted.start, wanted.end)
    if not places:
        return iter(())

    def letters(start: int, end: int) -> Iterator[bytes]:
        if md5 is None:
            raise FormatError("its header has no checksum of a reference that it needs")
        return bases.letters(md5, start, end)

    return select_recoded(
        CramSource(content, file.header, file.source.key.rpartition("/")[2]),
        container_ranges(file, places),
        wanted,
        letters,
        partial(index.bounds, wanted.reference),
        recoder,
    )
