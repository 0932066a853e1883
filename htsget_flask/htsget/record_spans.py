"""The records of a query as record blocks of bounded size, which are cut at the same offsets for all queries."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from htsget_flask.datasets.edges import Containers, split_range
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.region_records import extent_of, record_starts
from htsget_flask.formats.bgzf import split_offset, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.data_blocks import DataBlock, RecordGroup, Records
from htsget_flask.ranges import ByteRange
from htsget_flask.records.region import UNPLACED_ID

Span = Chunk | Containers | Records

# In bytes of the file: a block of more records takes clients long, and is more to repeat after a failure.
_BGZF_STEP, _CRAM_STEP = 16 << 20, 8 << 20
# In bytes of the file: up to this size the records of a region are inline, as one round trip takes longer than a third
# more bytes. Where they lie is searched for that in up to this size of the index's chunks.
_LONGEST_INLINE, _LONGEST_SEARCH = 192 << 10, 640 << 10
# A query with more blocks than this gets those of short regions in groups, of which the URLs are at most about 2 kB.
_MAX_SINGLE, MAX_GROUP = 32, 64
# In rows: the records before a region are read from so few of them for inline data.
_MAX_ROWS = 32


def split_records(file: OpenFile, records: Records) -> Sequence[Chunk | Records]:
    """The blocks for records of a file of BGZF blocks; records that are not changed stay one block."""
    region = records.region
    if region is not None and region.reference_id != UNPLACED_ID:
        if records.is_cut_only or _size_of(file.chunks(*region[:3])) <= _BGZF_STEP:
            return [records]
        extent = extent_of(file, region)
        if extent is None:
            return []
        chunk = extent.chunk
    else:
        begin = file.header.end if region is None else file.index.last_offset() or file.header.end
        chunk, region = Chunk(begin, virtual_offset(file.tail, 0)), None
        if chunk.begin < chunk.end and records.is_cut_only:
            return [chunk]
    bounds = [chunk.begin, *record_starts(file, chunk, _BGZF_STEP), chunk.end]
    blocks = [records._replace(region=None, span=Chunk(*pair)) for pair in pairwise(bounds) if pair[0] < pair[1]]
    if region is not None:
        # With the records that start before the region.
        blocks[:1] = [records._replace(span=Chunk(0, bounds[1]))]
    return blocks


def split_containers(file: OpenFile, records: Records, *, index_decides: bool) -> Sequence[Containers | Records]:
    """The blocks for records of a CRAM file.

    With `index_decides`, the records of a container are not tested if all of them lie in the region by the index.
    """
    index, region, inside = file.crai, records.region, frozenset[int]()
    if region is None:
        indices = list(range(len(index.containers)))
        inside = frozenset(indices)
    elif region.reference_id == UNPLACED_ID:
        indices = index.unplaced()
    else:
        indices = index.overlapping(region.reference_id, region.start, region.end)
        if index_decides:
            inside = index.within(region.reference_id, region.start, region.end)
    if not indices:
        return []

    def group_of(item: tuple[int, int]) -> tuple[bool, int, int]:
        rank, number = item
        is_inside = number in inside
        step = 0 if is_inside and records.is_cut_only else int(index.containers[number]) // _CRAM_STEP
        # Containers with others between them are in different groups.
        return is_inside, step, number - rank

    last_end = file.block_end(int(index.containers[-1]))
    blocks: list[Containers | Records] = []
    for (is_inside, *_), group in groupby(enumerate(indices), group_of):
        (span,) = index.byte_ranges((number for _, number in group), last_end)
        if is_inside and records.is_cut_only:
            blocks.append(Containers(span.start, span.end))
        else:
            blocks.append(records._replace(region=None if is_inside else region, span=span))
    return blocks


def needs_search(file: OpenFile, records: Records, longest_cut: int, *, has_room: bool) -> bool:
    """Whether a ticket depends on where the records of a record block lie; the parameters are those of `split_region`.

    Such blocks are those of regions of BGZF files.
    """
    region = records.region
    if region is None or records.span is not None or not records.is_cut_only:
        return False
    size = _size_of(file.chunks(*region[:3]))
    return size > longest_cut or (has_room and size <= _LONGEST_SEARCH)


def group_regions(file: OpenFile, blocks: Sequence[Span]) -> Sequence[Span | RecordGroup]:
    """The same records in fewer data blocks, where short regions are many: a request for each takes clients long."""
    if len(blocks) <= _MAX_SINGLE:
        return blocks
    grouped: list[Span | RecordGroup] = []
    for is_short, some in groupby(blocks, lambda block: isinstance(block, Records) and is_groupable(file, block)):
        if not is_short:
            grouped += some
            continue
        run = [block for block in some if isinstance(block, Records)]
        for first in range(0, len(run), MAX_GROUP):
            regions = tuple(block.region for block in run[first : first + MAX_GROUP] if block.region is not None)
            grouped.append(RecordGroup(regions, run[0].selection, run[0].format_name))
    return grouped


def is_groupable(file: OpenFile, block: Records) -> bool:
    """Whether a record block may be one of several in a data block: that of a short region."""
    region = block.region
    return region is not None and block.span is None and _size_of(file.chunks(*region[:3])) <= _LONGEST_SEARCH


def split_region(
    file: OpenFile, records: Records, longest_cut: int, block_size: int, *, has_room: bool
) -> Iterator[DataBlock]:
    """The data blocks of a record block of a ticket, none if it is empty; as `datasets.edges.split_span` splits chunks.

    With `has_room` the block may be inline.
    """
    region = records.region
    if region is None or not needs_search(file, records, longest_cut, has_room=has_room):
        # Cut when it is fetched.
        yield records
        return
    extent = extent_of(file, region)
    if extent is None or (extent.chunk.begin == extent.chunk.end and not extent.earlier):
        return
    (first, first_cut), (last, last_cut) = map(split_offset, extent.chunk)
    if last - first <= max(longest_cut, _LONGEST_INLINE if has_room else 0):
        yield records
        return
    if first_cut:
        first += file.read_block(first).size
    if first_cut or extent.earlier:
        yield records._replace(span=Chunk(0, virtual_offset(first, 0)))
    yield from split_range(file, ByteRange(first, last), block_size)
    if last_cut:
        yield records._replace(span=Chunk(virtual_offset(last, 0), extent.chunk.end))


def is_short_region(file: OpenFile, block: Records) -> bool:
    """Whether a record block may be inline: its records are few, and need not be decoded."""
    region, span = block.region, block.span
    if not block.is_cut_only or region is None or not file.source.format.is_bgzf:
        return False
    if span is None and _size_of(file.chunks(*region[:3])) > _LONGEST_SEARCH:
        return False
    extent = extent_of(file, region)
    if extent is None or len(extent.earlier) > _MAX_ROWS:
        return False
    begin, end = extent.chunk
    if isinstance(span, Chunk):
        begin, end = max(begin, span.begin), min(end, span.end)
    return _size_of([Chunk(begin, end)]) <= _LONGEST_INLINE


def _size_of(chunks: Sequence[Chunk]) -> int:
    """The bytes of the file from the first to the last block of chunks."""
    return (chunks[-1].end >> 16) - (chunks[0].begin >> 16) if chunks else 0
