"""The records of a region in an opened file of BGZF blocks: where they lie, and their bytes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from types import MappingProxyType

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import FileFaultError, FormatError
from htsget_flask.formats.bgzf import find_block, read_block, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.ranges import ByteRange
from htsget_flask.records.block_records import BlockRecords, ReadBlock, find_record, read_block_records
from htsget_flask.records.directory import Directory
from htsget_flask.records.region import Extent, RegionFilter, find_extent
from htsget_flask.storage.remote_file import EDGE

# In bytes: the memory of a cached extent, and of each of its rows.
_EXTENT_COST, _ROW_COST = 200, 40
# In rows: the records of so few are kept in memory, about 16 MB.
MAX_ROWS_IN_MEMORY = 256
# The blocks of a search whose records are still in memory when it needs them: the last ones of which it made rows.
_MAX_RECENT = 4
_NONE: Mapping[int, BlockRecords] = MappingProxyType({})
# How many BGZF blocks are searched for the start of a record.
_MAX_TRIED = 16


def extent_of(file: OpenFile, region: RegionFilter) -> Extent | None:
    """Where the records of a region lie; None if there are none. The index decides alone if it has no chunk for it."""
    return file.cached(("extent", file.index_file, region), lambda: _find(file, region), _size)


def prefetch_extents(file: OpenFile, regions: Iterable[RegionFilter]) -> None:
    """Start to read the ends of these regions all at once, for storages whose reads are requests."""
    offsets: list[int] = []
    for region in regions:
        chunks = file.chunks(*region[:3])
        if chunks and not file.is_cached(("extent", file.index_file, region)):
            offsets += chunks[0].begin >> 16, chunks[-1].end >> 16
    if offsets:
        file.pages.prefetch([ByteRange(offset, offset + EDGE) for offset in offsets])


def _size(extent: Extent | None) -> int:
    return 0 if extent is None else _EXTENT_COST + _ROW_COST * len(extent.earlier)


def _find(file: OpenFile, region: RegionFilter) -> Extent | None:
    reference = file.references.with_id(region.reference_id)
    if reference is None:
        raise FormatError("the index has no such reference")
    key = reference.name.encode() if file.source.format.names_references else region.reference_id
    recent: dict[int, BlockRecords] = {}

    def read_new(begin: int) -> BlockRecords | None:
        records = _read(file, file.read_new_block, begin)
        if records is not None:
            if len(recent) >= _MAX_RECENT:
                del recent[next(iter(recent))]
            # Their block is not in the cache.
            recent[begin] = records._replace(is_block=False)
        return records

    directory = Directory(read_new, file.segments, region.reference_id, key)
    chunks_of, read = partial(file.chunks, region.reference_id), partial(records_at, file, recent=recent)
    index = file.index
    try:
        starts_of = partial(index.record_starts, reference_id=region.reference_id)
        return find_extent(region, directory, chunks_of, starts_of, read, index.views.min_shift)
    finally:
        directory.save()


def records_at(file: OpenFile, begin: int, *, recent: Mapping[int, BlockRecords] = _NONE) -> BlockRecords | None:
    """The records from a virtual offset on that start in one BGZF block; None at the end of the file.

    `recent`: some that were read before, and are not in the cache.
    """

    def memory(records: BlockRecords | None) -> int:
        return 0 if records is None else records.memory

    return file.cached(("records", begin), lambda: recent.get(begin) or _read(file, file.read_block, begin), memory)


def record_starts(file: OpenFile, chunk: Chunk, step: int) -> list[int]:
    """Virtual offsets within a chunk at which records start, about `step` bytes of the file apart.

    They are the same for all chunks: the first ones after multiples of `step`. Where the index has none for `step`
    bytes, as among the reads without a position, or without an index, they are found in the blocks.
    """
    begin, end = chunk
    first, last = max((begin >> 16) // step, 1) * step, end >> 16
    known, starts = _indexed_starts(file, Chunk(virtual_offset(first, 0) - 1, virtual_offset(last + step, 0))), []
    for target in range(first, last + 1, step):
        rank = bisect_left(known, virtual_offset(target, 0))
        if rank < len(known) and known[rank] < virtual_offset(target + step, 0):
            start: int | None = known[rank]
        else:
            start = file.cached(("record start", target), partial(_find_start, file, target))
        if start is not None and begin < start < end:
            starts.append(start)
    return sorted(set(starts))


def _indexed_starts(file: OpenFile, chunk: Chunk) -> list[int]:
    """The virtual offsets within a chunk at which records start by the index; none without an index that fits."""
    try:
        return file.index.record_starts(*chunk)
    except FileFaultError:
        return []


def _find_start(file: OpenFile, target: int) -> int | None:
    """The first record from the BGZF block at or after byte `target` on; None if the next blocks have no clear one."""
    layout, limit = file.source.format.records, file.header.references.id_limit
    assert layout is not None
    coffset = find_block(file.content, target, file.tail)
    blocks: list[tuple[int, bytes]] = []
    while coffset < file.tail and len(blocks) < _MAX_TRIED:
        # Where reads are requests, the search for the block has read it.
        data, size = read_block(file.content, coffset)
        blocks.append((coffset, data))
        coffset += size
        # Records that are longer than a block follow each other in several.
        if len(blocks) in (1, _MAX_TRIED) or coffset >= file.tail:
            offset = find_record(b"".join(data for _, data in blocks), layout, limit)
            if offset is not None:
                ends = list(accumulate(len(data) for _, data in blocks))
                number = bisect_right(ends, offset)
                begin, data = blocks[number]
                return virtual_offset(begin, offset - ends[number] + len(data))
    return None


def _read(file: OpenFile, read_block: ReadBlock, begin: int) -> BlockRecords | None:
    layout = file.source.format.records
    assert layout is not None
    return read_block_records(read_block, begin, file.tail, layout, file.header.references.id_limit)


def earlier_records(file: OpenFile, region: RegionFilter, extent: Extent) -> Iterator[bytes]:
    """The records of a region that start before it, those of one row after the other."""
    # Many would displace all else in the cache.
    is_cached = len(extent.earlier) <= MAX_ROWS_IN_MEMORY
    for begin in extent.earlier:
        block = records_at(file, begin) if is_cached else _read(file, file.read_new_block, begin)
        if block is not None:
            yield b"".join(block.select(region.start, region.min_start))
