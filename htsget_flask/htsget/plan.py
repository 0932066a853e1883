"""From a query to data blocks: which pieces of a file, joined, are a valid file with all records asked for."""

import difflib
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from itertools import islice

from htsget_flask.datasets.open_file import FilePart, OpenFile
from htsget_flask.errors import FileFaultError, NotFound
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE, split_offset, virtual_offset
from htsget_flask.formats.binning import Chunk, merge_chunks
from htsget_flask.htsget.data_blocks import Piece
from htsget_flask.htsget.query import UNPLACED, Query
from htsget_flask.ranges import ByteRange, coalesce
from htsget_flask.regions import Region

# A gap between two chunks costs at most this many bytes; two edge blocks and one more request cost about as much.
_MAX_GAP = MAX_BLOCK_SIZE
# Up to here (bytes) a chunk is one data block, cut at its edges when it is fetched: one request, and its ticket costs
# nearly nothing. Beyond, only its edges are, and the kernel sends what lies between.
_LONGEST_CUT = 4 << 20
_LONGEST_QUOTED = 100
# A suggestion is looked for among names of about the same length: it must cost little, whatever a client sends.
_LONGEST_SUGGESTED, _MAX_COMPARED, _MAX_SEARCHED = 30, 200, 1000


def plan(query: Query, file: OpenFile, *, block_size: int, is_signed: bool = False) -> Iterator[Piece]:
    """The pieces that answer a query, behind the header: the records in file order each once, the end of file.

    Where clients fetch ranges from elsewhere, with signed URLs, as much as possible is plain ranges of the file.

    Raises:
        NotFound: for a reference that the file does not know.
        FileFaultError: when the file or its index is not fit for it.
    """
    if query.header_only:
        return
    for piece in _pieces(query.regions, file, is_signed=is_signed):
        if isinstance(piece, ByteRange) and piece.end // block_size > piece.start // block_size:
            yield from _split(piece, file, block_size)
        else:
            yield piece
    yield FilePart.EOF


def ticket_key(query: Query, file: OpenFile) -> Hashable:
    """What decides over a plan, beside the versions of data and index; None where it is not worth keeping."""
    if query.header_only or file.is_cram or query.regions is None or len(query.regions) > 1:
        return None
    return _windows(query.regions[0], file)


def _pieces(regions: Sequence[Region] | None, file: OpenFile, *, is_signed: bool) -> Iterator[Piece]:
    if file.is_cram:
        return _containers(regions, file)
    chunks = _chunks(regions, file, is_signed=is_signed)
    if is_signed:
        file.announce_reads([offset for chunk in chunks for offset in _edges(chunk, file)])
        return _bgzf_pieces(chunks, file, MAX_BLOCK_SIZE)
    return _bgzf_pieces(chunks, file, _LONGEST_CUT)


def _edges(chunk: Chunk, file: OpenFile) -> Iterator[int]:
    """The BGZF blocks at a chunk's ends, which are read to cut it."""
    (first, _), (last, last_cut) = split_offset(chunk.begin), split_offset(chunk.end)
    yield first
    if last > first and (last_cut or last < file.stat.size):
        yield last


def _windows(region: Region, file: OpenFile) -> tuple[str, int, int | None]:
    """What the index sees of a region: it knows windows, not positions; all regions in the same have one answer."""
    name, start, end = region
    shift = file.index.views.min_shift
    return name, start >> shift, None if end is None else (end - 1) >> shift if end > start else -1


def _bgzf_pieces(chunks: Sequence[Chunk], file: OpenFile, longest_cut: int) -> Iterator[Piece]:
    for chunk in chunks:
        (first, first_cut), (last, last_cut) = split_offset(chunk.begin), split_offset(chunk.end)
        if (first_cut or last_cut) and last - first <= longest_cut:
            # Looked at when it is cut: to open the file for each ticket would take as long as all the rest.
            yield chunk
            continue
        if first_cut:
            first = file.block_end(first)
            yield Chunk(chunk.begin, virtual_offset(first, 0))
        yield from _range(first, last, file)
        if last_cut:
            yield Chunk(virtual_offset(last, 0), chunk.end)


def _range(first: int, last: int, file: OpenFile) -> Iterator[ByteRange]:
    """The BGZF blocks from `first` to `last`; only where an index of another file is told that they are some."""
    if file.block_end(first) > last:
        raise _misfit(file)
    if last < file.stat.size:
        file.block_end(last)
    yield ByteRange(first, last)


def _chunks(regions: Sequence[Region] | None, file: OpenFile, *, is_signed: bool) -> list[Chunk]:
    if regions is None:
        return merge_chunks([Chunk(file.header.end, virtual_offset(file.tail, 0))])
    chunks: list[Chunk] = []
    index = file.index
    for region in regions:
        if region.reference_name == UNPLACED and file.source.format.name == "BAM":
            last = index.last_offset() or file.header.end
            chunks.append(Chunk(last, virtual_offset(file.tail, 0)))
            continue
        reference_id = reference_id_of(region.reference_name, file)
        if reference_id is not None:
            find = partial(index.chunks, reference_id, region.start, region.end)
            # Of a single region the whole answer is kept, under the same windows.
            found = find() if len(regions) == 1 else file.cached_chunks(_windows(region, file), find)
            # Else each chunk is looked at where it is cut.
            if found and not is_signed:
                file.verify_block_start(found[0].begin >> 16)
            chunks += found
    return merge_chunks(chunks, max_gap=_MAX_GAP)


def _containers(regions: Sequence[Region] | None, file: OpenFile) -> Iterator[Piece]:
    if regions is None:
        if file.header.end < file.tail:
            yield ByteRange(file.header.end, file.tail)
        return
    index = file.crai
    ranges: list[ByteRange] = []
    for region in regions:
        if region.reference_name == UNPLACED:
            places = index.unplaced()
        else:
            reference_id = reference_id_of(region.reference_name, file)
            places = [] if reference_id is None else index.overlapping(reference_id, region.start, region.end)
        if places:
            ranges += container_ranges(file, places)
    merged = coalesce(ranges)
    file.announce_reads([containers.start for containers in merged])
    for containers in merged:
        if file.container_end(containers.start) > containers.end or containers.end > file.stat.size:
            raise _misfit(file)
        yield containers


def container_ranges(file: OpenFile, places: Sequence[int]) -> list[ByteRange]:
    """The bytes of the CRAM containers at these places of the index."""
    index = file.crai
    return index.byte_ranges(places, file.container_end(int(index.containers[-1])))


def reference_id_of(name: str, file: OpenFile) -> int | None:
    """The number by which the index knows a reference; None for one that it holds nothing of.

    Raises:
        NotFound: for one that the file does not know.
    """
    references = file.references
    if name in references:
        return references[name]
    message = f"{file.source.id!r} has no reference {name[:_LONGEST_QUOTED]!r}"
    if len(name) <= _LONGEST_SUGGESTED:
        twin = name.removeprefix("chr") if name.startswith("chr") else f"chr{name}"
        similar = (known for known in islice(references, _MAX_SEARCHED) if abs(len(known) - len(name)) <= 3)
        close = [twin] if twin in references else difflib.get_close_matches(name, list(islice(similar, _MAX_COMPARED)))
        if close:
            raise NotFound(f"{message}; did you mean {' or '.join(close)}?")
    first = ", ".join(known[:_LONGEST_QUOTED] for known in islice(references, 5))
    raise NotFound(f"{message}; it has {first}{', ...' if len(references) > 5 else ''}")


def _split(span: ByteRange, file: OpenFile, block_size: int) -> Iterator[ByteRange]:
    """The range in parts of about `block_size` bytes, cut where BGZF blocks start.

    In CRAM, and where to look for them takes a request each, it is cut anywhere. Cuts stand at the same places
    whatever range is asked for: they are looked up once per file.
    """
    start = span.start
    target = start - start % block_size + block_size
    while target < span.end:
        cut = target if file.is_cram or file.source.storage.reads_are_requests else file.block_start(target)
        if start < cut < span.end:
            yield ByteRange(start, cut)
            start = cut
        target += block_size
    yield ByteRange(start, span.end)


def _misfit(file: OpenFile) -> FileFaultError:
    return FileFaultError("the index does not fit the data: it is of another file", location=file.source.location)
