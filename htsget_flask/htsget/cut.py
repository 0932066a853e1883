"""Answers to who may see regions only: exactly the records there, whatever shares a BGZF block with them."""

from collections.abc import Generator, Iterator, Sequence

from htsget_flask.errors import FileFaultError, FormatError, NotFound, PermissionDenied
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.selection import Wanted, select
from htsget_flask.htsget.opened import OpenFile
from htsget_flask.htsget.pieces import Piece, Records, Whole
from htsget_flask.htsget.plan import reference_id_of
from htsget_flask.htsget.query import Query
from htsget_flask.regions import Region, restrict


def plan_records(query: Query, granted: Sequence[Region], file: OpenFile) -> Iterator[Piece]:
    """The pieces that answer a query as far as it lies in the granted regions, behind the header.

    Raises:
        PermissionDenied: for CRAM: its containers hold records of all places, and the reference's bases with them.
        NotFound: for a reference that the file does not know.
    """
    if query.header_only:
        return
    if file.is_cram:
        raise PermissionDenied("this token opens regions only, and CRAM cannot be cut at records; ask for BAM")
    asked = query.regions
    for region in asked or ():
        reference_id_of(region.reference_name, file)
    # Where the records of each reference begin in the file: references may have any numbers.
    found: dict[int, list[Records]] = {}
    begins: dict[int, int] = {}
    before = Region("")
    for region in restrict(granted if asked is None else asked, granted):
        name, start, end = region
        after = (before.end or 0) if name == before.reference_name else 0
        before = region
        reference_id = file.references.get(name)
        chunks = [] if reference_id is None else file.index.chunks(reference_id, start, end)
        if reference_id is not None and chunks:
            begins.setdefault(reference_id, chunks[0].begin)
            found.setdefault(reference_id, []).append(Records(reference_id, start, end, after))
    for reference_id in sorted(found, key=lambda one: begins[one]):
        yield from found[reference_id]
    yield Whole.END_OF_FILE


def record_blocks(file: OpenFile, piece: Records) -> Generator[bytes]:
    """The BGZF blocks with a piece's records, made as they are asked for; closes the file's bytes when it ends.

    Raises:
        NotFound: when there is no such piece.
    """
    form, reference_id, start, end, after = file.source.form.name, *piece
    names = file.references
    name = next((name for name, number in names.items() if number == reference_id), None)
    if file.is_cram or name is None:
        raise NotFound("there is no such data block")
    chunks = file.index.chunks(reference_id, start, end)
    wanted = Wanted(name.encode() if form == "VCF" else reference_id, start, end, after)
    return _closing(file, form, chunks, wanted)


def _closing(file: OpenFile, form: str, chunks: list[Chunk], wanted: Wanted) -> Generator[bytes]:
    with file.release() as content:
        try:
            yield from select(form, content, chunks, wanted)
        except FormatError as error:
            raise FileFaultError(str(error), location=file.source.location) from error
