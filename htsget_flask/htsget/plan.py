"""From a query to the spans of a file that hold its records; nothing is read but header and index."""

from collections.abc import Sequence
from functools import partial

from htsget_flask.datasets.edges import Containers
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE, virtual_offset
from htsget_flask.formats.binning import Chunk, merge_chunks
from htsget_flask.htsget.data_blocks import FilePart, Records
from htsget_flask.htsget.query import UNPLACED, Query
from htsget_flask.htsget.reference_names import reference_id_of
from htsget_flask.ranges import ByteRange, coalesce
from htsget_flask.regions import Region

# In bytes: a gap between two chunks costs at most this; two edge blocks and one more request cost about as much.
_MAX_GAP = MAX_BLOCK_SIZE
# In bytes: the memory of a cached chunk.
_CHUNK_COST = 150

Span = Chunk | Containers | ByteRange | Records | FilePart


def plan(query: Query, file: OpenFile) -> Sequence[Span]:
    """The spans that answer a query, without the header: each record once, in file order, and the end of file.

    Raises:
        NotFound: for a reference that the file does not have.
        FileFaultError: when the file has no index that fits it.
    """
    if query.header_only:
        return ()
    spans = _chunks(query.regions, file) if file.source.format.is_bgzf else _containers(query.regions, file)
    # A file without an EOF marker gets one.
    return (*spans, FilePart.EOF)


def windows_of(region: Region, file: OpenFile) -> tuple[str, int, int | None]:
    """A region as the index sees it: by windows, not positions. Regions in the same windows have the same plan."""
    name, start, end = region
    shift = file.index.views.min_shift
    return name, start >> shift, None if end is None else (end - 1) >> shift if end > start else -1


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
