"""From the planned spans to the ticket: what is small goes inline, the rest gets a URL."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeGuard

import orjson
import pybase64

from htsget_flask.datasets.edges import Containers, is_cut_later, prefetch_edges, split_span
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.region_records import prefetch_extents
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.block_bytes import InlineBlock
from htsget_flask.htsget.data_blocks import ConvertedPart, DataBlock, FilePart, RecordGroup, Records
from htsget_flask.htsget.plan import Span
from htsget_flask.htsget.record_spans import is_short_region, needs_search, split_region

# In bytes: up to this length a chunk is one data block, cut at its edges when it is fetched: one request, and its
# ticket costs nearly nothing. Beyond, only the edges are cut, and the kernel sends what lies between.
_LONGEST_CUT = 4 << 20
# How many spans have their edges prefetched together: at most 16 requests of one ticket are under way at once.
_SPANS_AHEAD = 8
_UNSPLIT = (FilePart, ConvertedPart)

BlockUrl = tuple[str, Mapping[str, str]]
"""Where a data block is fetched, with which header fields."""


class TicketKey(NamedTuple):
    """All that determines the entries after the header, besides the versions of data and index.

    `base_url` is None unless the client's Host determines it; `expires` is when signed URLs expire.
    """

    windows: tuple[str, int, int | None]
    inline_limit: int
    base_url: str | None
    path: str
    signed_url: str | None
    expires: int | None


class Limits(NamedTuple):
    """Sizes in bytes, of all inline data and of a data block. `is_signed`: clients fetch ranges from a signed URL."""

    inline: int
    block: int
    is_signed: bool = False


class Rendering(NamedTuple):
    """How spans become entries: `locate` gives the URL of a data block, `read` the bytes of one that is inline."""

    limits: Limits
    locate: Callable[[DataBlock], BlockUrl]
    read: Callable[[InlineBlock], bytes]


def render(
    file: OpenFile,
    format_name: str | None,
    plan: Callable[[], Sequence[Span]],
    rendering: Rendering,
    key: TicketKey | None = None,
) -> bytes:
    """The ticket as JSON: the header, and what `plan` returns; `format_name` None: the file's own.

    Header, end of file and short regions are inline as long as their sum is within the limit for inline data; the end
    of file does not count, unless the limit is 0. With a `key`, the entries after the header are cached.
    """
    limits = rendering.limits
    part = FilePart.HEADER if format_name is None else ConvertedPart(FilePart.HEADER, format_name)
    header, size = _inline(file, part, b"header", rendering.read)
    room = limits.inline - size
    if room < 0:
        header, room = _located(rendering.locate(part), "header"), limits.inline

    def entries() -> bytes:
        return _entries(file, plan(), room, rendering)

    rest = entries() if key is None else file.cached(("entries", file.index_file, key), entries, len)
    name = (format_name or file.source.format.name).encode()
    return b'{"htsget":{"format":"%s","urls":[%s%s]}}' % (name, header, rest)


def _entries(file: OpenFile, spans: Sequence[Span], room: int, rendering: Rendering) -> bytes:
    """The entries after the header, each with the comma before it."""
    inline_limit, block_size, is_signed = rendering.limits
    # Clients with a signed URL get as much as possible as plain ranges of the file.
    longest_cut = MAX_BLOCK_SIZE if is_signed else _LONGEST_CUT
    first = spans[0] if spans else None
    if isinstance(first, Chunk) and first.begin > file.header.end and not is_signed:
        # Verify once that the index fits: a BGZF block starts here. With signed URLs, chunks are verified one by one.
        file.cached(("verified", file.index_file), partial(file.block_end, first.begin >> 16))
    reads_are_requests, entries = file.source.storage.reads_are_requests, []
    for index, span in enumerate(spans):
        if reads_are_requests and index % _SPANS_AHEAD == 0:
            _prefetch(file, spans[index : index + _SPANS_AHEAD], longest_cut, has_room=room > 0)
        for block in _split(file, span, longest_cut, block_size, has_room=room > 0):
            # Once a block did not fit, no more are read: a request for many regions has hundreds of edges.
            if (room or (inline_limit and _is_end(block))) and _is_short(block, file):
                entry, size = _inline(file, block, b"body", rendering.read)
                if size <= room or _is_end(block):
                    room -= min(room, size)
                    entries += [b",", entry] if size else []
                    continue
                room = 0
            entries += b",", _located(rendering.locate(block), "body")
    return b"".join(entries)


def _prefetch(file: OpenFile, spans: Sequence[Span], longest_cut: int, *, has_room: bool) -> None:
    """Start to read what the ticket needs of some spans."""
    prefetch_edges(file, [span for span in spans if _reads_edges(span, longest_cut, has_room=has_room)])
    blocks = (span for span in spans if isinstance(span, Records))
    searched = (block.region for block in blocks if needs_search(file, block, longest_cut, has_room=has_room))
    prefetch_extents(file, filter(None, searched))


def _split(file: OpenFile, span: Span, longest_cut: int, block_size: int, *, has_room: bool) -> Iterable[DataBlock]:
    """The data blocks of a span."""
    if isinstance(span, (*_UNSPLIT, RecordGroup)):
        return (span,)
    if isinstance(span, Records):
        return split_region(file, span, longest_cut, block_size, has_room=has_room)
    return split_span(file, span, longest_cut, block_size)


def _reads_edges(span: Span, longest_cut: int, *, has_room: bool) -> TypeGuard[Chunk | Containers]:
    """Whether the edges of a span are read for the ticket."""
    if isinstance(span, Chunk):
        return (has_room and _is_short_chunk(span)) or not is_cut_later(span, longest_cut)
    return isinstance(span, Containers)


def _is_short(block: DataBlock, file: OpenFile) -> TypeGuard[InlineBlock]:
    """Whether the data block is short enough to be inline, if there is room."""
    if isinstance(block, Chunk):
        return _is_short_chunk(block)
    return isinstance(block, _UNSPLIT) or (isinstance(block, Records) and is_short_region(file, block))


def _is_short_chunk(chunk: Chunk) -> bool:
    return (chunk.end >> 16) - (chunk.begin >> 16) <= MAX_BLOCK_SIZE


def _is_end(block: DataBlock) -> bool:
    return block is FilePart.EOF or (isinstance(block, ConvertedPart) and block.part is FilePart.EOF)


def _inline(
    file: OpenFile, block: InlineBlock, class_: bytes, read: Callable[[InlineBlock], bytes]
) -> tuple[bytes, int]:
    """The entry of a block as JSON with the data inline, and the size of the data in bytes before base64."""

    def make() -> tuple[bytes, int]:
        data = read(block)
        return b'{"url":"data:;base64,%s","class":"%s"}' % (pybase64.b64encode(data), class_), len(data)

    # Few requests are for the same region, and each region takes a hundred kilobytes.
    if isinstance(block, Records):
        return make()
    return file.cached(("inline", block), make, lambda inline: len(inline[0]))


def _located(block_url: BlockUrl, class_: str) -> bytes:
    url, headers = block_url
    return orjson.dumps({"url": url, "headers": headers, "class": class_})
