"""From data blocks to the ticket: what is small goes inline, the rest gets a URL."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple, TypeGuard

import orjson
import pybase64

from htsget_flask.datasets.open_file import FilePart, InlineBlock, OpenFile
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.data_blocks import BlockUrl, Class, Piece


class _Inline(NamedTuple):
    """An entry of a ticket, as JSON, that carries its data; `size` of these in bytes before base64."""

    entry: bytes
    size: int


def ticket(
    file: OpenFile,
    body: Callable[[], Iterable[Piece]],
    *,
    inline_limit: int,
    locate: Callable[[Piece], BlockUrl],
    ticket_key: Hashable = None,
) -> bytes:
    """The ticket as JSON: the header, and what `body` makes; `locate` tells where to fetch what is not inline.

    Header, end of file and chunks of some BGZF blocks are inline as long as their sum is at most `inline_limit` bytes;
    the end of file does not count, unless the limit is 0. What follows the header is cached by
    `ticket_key`, if there is one.
    """
    header, room = _header(file, inline_limit, locate)

    def entries() -> bytes:
        return b"".join(_body(file, body(), room, inline_limit, locate))

    rest = entries() if ticket_key is None else file.cached_answer(ticket_key, entries)
    return b'{"htsget":{"format":"%s","urls":[%s%s]}}' % (file.source.format.name.encode(), header, rest)


def _header(file: OpenFile, inline_limit: int, locate: Callable[[Piece], BlockUrl]) -> tuple[bytes, int]:
    """The header's entry, and how many bytes inline there is room for behind it."""
    entry, size = file.cached(FilePart.HEADER, _inline_header, _size)
    if size <= inline_limit:
        return entry, inline_limit - size
    return _located(locate(FilePart.HEADER), "header"), inline_limit


def _body(
    file: OpenFile, pieces: Iterable[Piece], room: int, inline_limit: int, locate: Callable[[Piece], BlockUrl]
) -> Iterator[bytes]:
    """The entries behind the header, each with the comma before it."""
    for piece in pieces:
        # Once a piece did not fit the rest is not even made: a request for many regions has hundreds of edges.
        if _is_short(piece) and (room or (inline_limit and piece is FilePart.EOF)):
            entry, size = file.cached(piece, _inline_body, _size)
            if not size:
                continue
            if size <= room or piece is FilePart.EOF:
                room -= min(room, size)
                yield b"," + entry
                continue
            room = 0
        yield b"," + _located(locate(piece), "body")


def _is_short(piece: Piece) -> TypeGuard[InlineBlock]:
    """Whether the piece is not worth a request of its own, if there is room."""
    if isinstance(piece, Chunk):
        return (piece.end >> 16) - (piece.begin >> 16) <= MAX_BLOCK_SIZE
    return isinstance(piece, FilePart)


def _located(block: BlockUrl, class_: Class) -> bytes:
    return orjson.dumps({"url": block.url, "headers": block.headers, "class": class_})


def _inline_header(data: bytes) -> _Inline:
    return _Inline(b'{"url":"data:;base64,%s","class":"header"}' % pybase64.b64encode(data), len(data))


def _inline_body(data: bytes) -> _Inline:
    return _Inline(b'{"url":"data:;base64,%s","class":"body"}' % pybase64.b64encode(data), len(data))


def _size(inline: _Inline) -> int:
    return len(inline.entry)
