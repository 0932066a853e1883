"""From a query to the spans of a file that hold its records; nothing is read but header and index."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from htsget_flask.auth.decision import WHOLE, Grant
from htsget_flask.datasets.edges import Containers
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE, virtual_offset
from htsget_flask.formats.binning import Chunk, merge_chunks
from htsget_flask.htsget.data_blocks import TEXT, ConvertedPart, FilePart, RecordGroup, Records
from htsget_flask.htsget.query import UNPLACED, Query
from htsget_flask.htsget.record_spans import group_regions, split_containers, split_records
from htsget_flask.htsget.reference_names import reference_id_of
from htsget_flask.ranges import ByteRange, coalesce
from htsget_flask.records.region import UNPLACED_ID, RegionFilter
from htsget_flask.regions import Region, RegionSet

# In bytes: a gap between two chunks costs at most this; two edge blocks and one more request cost about as much.
_MAX_GAP = MAX_BLOCK_SIZE
# In bytes: the memory of a cached chunk.
_CHUNK_COST = 150

Span = Chunk | Containers | ByteRange | Records | RecordGroup | FilePart | ConvertedPart


class Terms(NamedTuple):
    """How a query is answered.

    `exact`: whether regions of BGZF files, or of all files, are answered with the overlapping records alone. `grant`:
    what the caller's access is limited to. `records`: what is taken of records, in which format.
    """

    exact: bool | Literal["all"] = True
    grant: Grant = WHOLE
    records: Records = Records(None)

    def are_exact(self, query: Query, file: OpenFile) -> bool:
        """Whether records are separated from others, or changed."""
        if self.grant.is_limited or not self.records.is_cut_only:
            return True
        return query.regions is not None and (self.exact == "all" or (self.exact and file.source.format.is_bgzf))


def plan(query: Query, file: OpenFile, terms: Terms) -> Sequence[Span]:
    """The spans that answer a query, without the header: each record once, in file order, and the end of file.

    Raises:
        NotFound: for a reference that the file does not have.
        FileFaultError: when the file has no index that fits it.
    """
    if query.header_only:
        return ()
    spans: Sequence[Span]
    if terms.are_exact(query, file):
        spans = _records(query, file, terms)
    else:
        spans = _chunks(query.regions, file) if file.source.format.is_bgzf else _containers(query.regions, file)
    name = terms.records.format_name
    if name == TEXT:
        return spans
    # A file without an EOF marker gets one.
    return (*spans, FilePart.EOF if name is None else ConvertedPart(FilePart.EOF, name))


def windows_of(region: Region, file: OpenFile) -> tuple[str, int, int | None]:
    """A region as the index sees it: by windows, not positions. Regions in the same windows have the same chunks."""
    name, start, end = region
    shift = file.index.views.min_shift
    return name, start >> shift, None if end is None else (end - 1) >> shift if end > start else -1


def _records(query: Query, file: OpenFile, terms: Terms) -> Sequence[Span]:
    """The record blocks of a query, as far as it lies in the granted regions."""
    format_, granted, records = file.source.format, terms.grant.regions, terms.records
    if query.regions is None and granted is None:
        return _split(file, records, is_granted=False)
    placed = list(query.regions or ())
    if format_.has_unplaced_records:
        placed = [region for region in placed if region.reference_name != UNPLACED]
    for region in placed:
        reference_id_of(region.reference_name, file)
    if granted is None:
        filters = _filters(placed if len(placed) == 1 else RegionSet(placed), file)
    else:
        filters = _filters(granted if query.regions is None else granted.restrict(placed), file)
    is_granted = granted is not None
    blocks = [span for one in filters for span in _split(file, records._replace(region=one), is_granted=is_granted)]
    spans: list[Span] = [*group_regions(file, blocks)] if format_.is_bgzf else [*blocks]
    # Reads without a position are in no granted region.
    if len(placed) < len(query.regions or ()) and not is_granted:
        spans += _split(file, records._replace(region=RegionFilter(UNPLACED_ID, 0, None, 0)), is_granted=False)
    return spans


def _filters(regions: Iterable[Region], file: OpenFile) -> list[RegionFilter]:
    """The records of regions that are sorted and do not touch: each record once, in file order."""
    filters: list[RegionFilter] = []
    offsets: dict[int, int] = {}
    previous = Region("")
    for region in regions:
        name, start, end = region
        min_start = (previous.end or 0) if name == previous.reference_name else 0
        previous = region
        reference = file.references.get(name)
        reference_id = None if reference is None else reference.id
        offset = None if reference_id is None else _first_offset(file, reference_id, region)
        if reference_id is not None and offset is not None:
            offsets.setdefault(reference_id, offset)
            filters.append(RegionFilter(reference_id, start, end, min_start))
    # By reference: their ids may be in another order than the records.
    return sorted(filters, key=lambda one: offsets[one.reference_id])


def _first_offset(file: OpenFile, reference_id: int, region: Region) -> int | None:
    """What orders the records of a region among those of other references; None where there are none."""
    if file.source.format.is_bgzf:
        chunks = file.chunks(reference_id, region.start, region.end)
        return chunks[0].begin if chunks else None
    # Containers may hold records of several references, which are in the order of their ids.
    return reference_id if file.crai.overlapping(reference_id, region.start, region.end) else None


def _split(file: OpenFile, records: Records, *, is_granted: bool) -> Sequence[Chunk | Containers | Records]:
    if file.source.format.is_bgzf:
        return split_records(file, records)
    return split_containers(file, records, index_decides=not is_granted)


def _chunks(regions: Sequence[Region] | None, file: OpenFile) -> list[Chunk]:
    if regions is None:
        # Where the header ends with its BGZF block, as samtools writes it, the blocks are the file byte for byte.
        return merge_chunks([Chunk(file.header.end, virtual_offset(file.tail, 0))])
    chunks: list[Chunk] = []
    index = file.index
    for region in regions:
        if region.reference_name == UNPLACED and file.source.format.has_unplaced_records:
            chunks.append(Chunk(index.last_offset() or file.header.end, virtual_offset(file.tail, 0)))
            continue
        reference_id = reference_id_of(region.reference_name, file)
        if reference_id is not None:
            find = partial(index.chunks, reference_id, region.start, region.end)
            # The entries for a single region are cached as a whole.
            if len(regions) > 1:
                find = partial(file.cached, ("chunks", file.index_file, windows_of(region, file)), find, _size)
            chunks += find()
    return merge_chunks(chunks, max_gap=_MAX_GAP)


def _size(chunks: list[Chunk]) -> int:
    return _CHUNK_COST * len(chunks)


def _containers(regions: Sequence[Region] | None, file: OpenFile) -> Sequence[Containers | ByteRange]:
    if regions is None:
        return (ByteRange(file.header.end, file.tail),) if file.header.end < file.tail else ()
    index = file.crai
    ranges: list[ByteRange] = []
    for region in regions:
        if region.reference_name == UNPLACED:
            positions = index.unplaced()
        else:
            reference_id = reference_id_of(region.reference_name, file)
            positions = [] if reference_id is None else index.overlapping(reference_id, region.start, region.end)
        if positions:
            ranges += index.byte_ranges(positions, file.block_end(int(index.containers[-1])))
    return [Containers(span.start, span.end) for span in coalesce(ranges)]
