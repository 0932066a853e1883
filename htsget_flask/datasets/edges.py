"""The blocks at the ends of chunks and of runs of containers: found, verified, cut and compressed again."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import BinaryIO, NamedTuple

from htsget_flask.datasets.index_checks import OTHER_FILE
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import FileFaultError, FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.binning import Chunk
from htsget_flask.ranges import ByteRange
from htsget_flask.records.block_records import ReadBlock
from htsget_flask.storage.remote_file import EDGE


class Containers(NamedTuple):
    """CRAM containers one after the other, in bytes, as the index names them: 0-based, half-open."""

    start: int
    end: int


class ChunkParts(NamedTuple):
    """A chunk's bytes: BGZF blocks made of its first edge, a range of the file, BGZF blocks made of its last edge."""

    before: bytes
    middle: ByteRange
    after: bytes


class _Edge(NamedTuple):
    """Bytes `start` to `end` of the data of the BGZF block at byte `coffset`."""

    coffset: int
    data: bytes
    start: int
    end: int


class _Method(NamedTuple):
    """How a chunk is cut.

    `read_block`: the BGZF block at a byte offset; `end_of`: where it ends. `compress`: records and the edge after them,
    as BGZF blocks.
    """

    read_block: ReadBlock
    end_of: Callable[[int], int]
    compress: Callable[[_Edge, bytes], bytes]


# In bytes of data: compressing an edge takes most of the time of a short region. Shorter parts compress worse.
_PART_SIZE = 16 << 10


def edges_of(span: Chunk | Containers, size: int) -> list[int]:
    """The byte offsets of the blocks or containers that are read to verify and cut a span of a file of `size` bytes."""
    if isinstance(span, Containers):
        return [span.start]
    (first, _), (last, last_cut) = bgzf.split_offset(span.begin), bgzf.split_offset(span.end)
    return [first, last] if last > first and (last_cut or last < size) else [first]


def prefetch_edges(file: OpenFile, spans: Iterable[Chunk | Containers]) -> None:
    """Start to read the edges of these spans all at once, for storages whose reads are requests."""
    offsets = [offset for span in spans for offset in edges_of(span, file.stat.size)]
    unknown = [offset for offset in offsets if not file.is_cached(("block end", offset))]
    if unknown:
        file.content.prefetch([ByteRange(offset, offset + EDGE) for offset in unknown])


def split_span(
    file: OpenFile, span: Chunk | Containers | ByteRange, longest_cut: int, block_size: int
) -> Iterator[Chunk | ByteRange]:
    """The data blocks of a span, of which ranges are at most about `block_size` bytes long.

    A chunk is its edges and the range between them, unless it `is_cut_later`. `longest_cut` is at least the size of a
    BGZF block, so that there is a block between two edges. The edges are read one after the other, while the caller
    reads the blocks: the first one's window in memory then also has the start of the range.

    Raises:
        FileFaultError: when no BGZF block or CRAM container starts or ends where the index says.
    """
    if isinstance(span, ByteRange):
        yield from split_range(file, span, block_size)
        return
    if isinstance(span, Chunk):
        if is_cut_later(span, longest_cut):
            yield span
            return
        (first, first_cut), (last, last_cut) = bgzf.split_offset(span.begin), bgzf.split_offset(span.end)
    else:
        (first, last), first_cut, last_cut = span, 0, 0
    if first_cut:
        first = file.block_end(first)
        yield Chunk(span[0], bgzf.virtual_offset(first, 0))
    if file.block_end(first) > last or last > file.stat.size:
        raise FileFaultError(OTHER_FILE, location=file.source.location)
    if isinstance(span, Chunk) and last < file.stat.size:
        file.block_end(last)
    yield from split_range(file, ByteRange(first, last), block_size)
    if last_cut:
        yield Chunk(bgzf.virtual_offset(last, 0), span[1])


def is_cut_later(chunk: Chunk, longest_cut: int) -> bool:
    """Whether a chunk is one data block of at most about `longest_cut` bytes, which is cut when it is fetched.

    Opening the file for each ticket would double the time of a ticket.
    """
    is_cut = bool((chunk.begin | chunk.end) & 0xFFFF)
    return is_cut and (chunk.end >> 16) - (chunk.begin >> 16) <= longest_cut


def split_range(file: OpenFile, span: ByteRange, size: int) -> list[ByteRange]:
    """A range of whole blocks in parts of about `size` bytes, split where BGZF blocks start.

    CRAM files, and files that are read by requests, are split anywhere. The splits of a file are the same for all
    ranges: each is looked up once.
    """
    is_looked_up = file.source.format.is_bgzf and not file.source.storage.reads_are_requests
    start, ranges = span.start, []
    for target in range((start // size + 1) * size, span.end, size):
        split = _block_start(file, target) if is_looked_up else target
        if start < split < span.end:
            ranges.append(ByteRange(start, split))
            start = split
    return [*ranges, ByteRange(start, span.end)]


def _block_start(file: OpenFile, target: int) -> int:
    """The byte offset of the first BGZF block at or after byte `target`; the tail when none follows."""
    return file.cached(("block start", target), lambda: bgzf.find_block(file.content, target, file.tail))


def chunk_parts(file: OpenFile, chunk: Chunk) -> ChunkParts:
    """The parts of a chunk; its edges are cut once and cached."""
    return file.cached(("parts", chunk), lambda: cut_chunk(file, chunk), edges_size)


def edges_size(parts: ChunkParts) -> int:
    """The bytes of a chunk that are not those of the file."""
    return len(parts.before) + len(parts.after)


def read_parts(open_content: Callable[[], BinaryIO], parts: ChunkParts) -> bytes:
    """The bytes of a chunk; the file is opened if some of them are its own.

    Raises:
        FormatError: when the file was cut short.
    """
    before, middle, after = parts
    if not middle:
        return before + after
    content = open_content()
    content.seek(middle.start)
    blocks = content.read(len(middle))
    if len(blocks) < len(middle):
        raise FormatError("the file was cut short while it was read")
    return before + blocks + after


def cut_chunk(file: OpenFile, chunk: Chunk) -> ChunkParts:
    """The parts of a chunk of the index, whose edges `prefetch_edges` may have read.

    Raises:
        FormatError: when the index does not fit the data.
    """
    return _cut(file, chunk, _Method(partial(bgzf.read_block, file.content), file.block_end, _compress_whole))


def cut_region(file: OpenFile, chunk: Chunk, earlier: bytes) -> ChunkParts:
    """The parts of a region's chunk, with `earlier` records before its own; what is read and compressed is cached.

    Raises:
        FormatError: when the index does not fit the data.
    """

    def end_of(coffset: int) -> int:
        return coffset + file.read_block(coffset).size

    return _cut(file, chunk, _Method(file.read_block, end_of, partial(_compress_parts, file)), earlier)


def _cut(file: OpenFile, chunk: Chunk, method: _Method, earlier: bytes = b"") -> ChunkParts:
    read_block, end_of, compress = method
    (first, first_cut), (last, last_cut) = bgzf.split_offset(chunk.begin), bgzf.split_offset(chunk.end)
    if chunk.begin == chunk.end:
        return ChunkParts(bgzf.deflate(earlier), ByteRange(first, first), b"")
    if first == last:
        edge, _ = _read_edge(file, read_block, first, first_cut, last_cut)
        return ChunkParts(compress(edge, earlier), ByteRange(first, first), b"")
    after = b""
    if first_cut:
        edge, first = _read_edge(file, read_block, first, first_cut, None)
        before = compress(edge, earlier)
    else:
        before = bgzf.deflate(earlier)
    if (first if first_cut else end_of(first)) > last:
        raise FormatError(OTHER_FILE)
    if last_cut:
        edge, _ = _read_edge(file, read_block, last, 0, last_cut)
        after = compress(edge, b"")
    elif last < file.stat.size:
        end_of(last)
    return ChunkParts(before, ByteRange(first, last), after)


def _compress_whole(edge: _Edge, earlier: bytes) -> bytes:
    return bgzf.deflate(earlier + edge.data[edge.start : edge.end])


def _compress_parts(file: OpenFile, edge: _Edge, earlier: bytes) -> bytes:
    """An edge as BGZF blocks, those between multiples of a length from the cache: neighbouring regions share them."""
    coffset, data, start, end = edge
    position = min(end, -(-start // _PART_SIZE) * _PART_SIZE)
    blocks = [bgzf.deflate(earlier + data[start:position])]
    while position < end:
        stop = min(position + _PART_SIZE, len(data))
        make = partial(bgzf.deflate, data[position : min(stop, end)])
        blocks.append(make() if stop > end else file.cached(("edge part", coffset, position), make, len))
        position = stop
    return b"".join(blocks)


def _read_edge(file: OpenFile, read_block: ReadBlock, coffset: int, start: int, end: int | None) -> tuple[_Edge, int]:
    """Bytes `start` to `end` of a BGZF block's data, and where the next block starts."""
    data, size = read_block(coffset)
    file.cached(("block end", coffset), lambda: coffset + size)
    end = len(data) if end is None else end
    limit, records = file.header.references.id_limit, file.source.format.records
    assert records is not None
    for edge in (start, end):
        if edge > len(data) or (0 < edge < len(data) and not records.may_start(data, edge, limit)):
            raise FormatError("the index does not fit the data: no record starts where it points")
    return _Edge(coffset, data, start, end), coffset + size
