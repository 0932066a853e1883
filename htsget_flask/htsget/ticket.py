"""From data blocks to the ticket: what is small goes inline, the rest gets a URL."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeGuard

import orjson
import pybase64

from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.opened import OpenFile
from htsget_flask.htsget.pieces import BlockUrl, Class, DataBlock, Literal, Piece, Whole

MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"


class _Inline(NamedTuple):
    """An entry of a ticket, as JSON, that carries its data; `size` of these in bytes before base64."""

    entry: bytes
    size: int


def ticket(
    file: OpenFile, blocks: Sequence[DataBlock], *, inline_limit: int, locate: Callable[[Piece], BlockUrl]
) -> bytes:
    """The ticket as JSON; `locate` tells where to fetch what is not inline.

    Header, end of file and chunks of some BGZF blocks are inline as long as their sum is at most `inline_limit` bytes;
    the end of file does not count, unless the limit is 0.
    """
    entries = b",".join(_entries(file, blocks, inline_limit, locate))
    return b'{"htsget":{"format":"%s","urls":[%s]}}' % (file.source.form.name.encode(), entries)


def _entries(
    file: OpenFile, blocks: Sequence[DataBlock], inline_limit: int, locate: Callable[[Piece], BlockUrl]
) -> Iterator[bytes]:
    room = inline_limit
    for piece, class_ in blocks:
        # Once a piece did not fit the rest is not even made: a request for many regions has hundreds of edges.
        if not _is_short(piece) or not (room or (inline_limit and piece is Whole.END_OF_FILE)):
            yield _located(locate(piece), class_)
            continue
        make = _inline_header if class_ == "header" else _inline_body
        entry, size = file.kept(piece, make, _size)
        if not size:
            continue
        if size <= room or piece is Whole.END_OF_FILE:
            room -= min(room, size)
            yield entry
        else:
            room = room if class_ == "header" else 0
            yield _located(locate(piece), class_)


def _is_short(piece: Piece) -> TypeGuard[Literal]:
    """Whether the piece is not worth a request of its own, if there is room."""
    if isinstance(piece, Chunk):
        return (piece.end >> 16) - (piece.begin >> 16) <= MAX_BLOCK_SIZE
    return isinstance(piece, Whole)


def _located(block: BlockUrl, class_: Class) -> bytes:
    return orjson.dumps({"url": block.url, "headers": block.headers, "class": class_})


def _inline_header(data: bytes) -> _Inline:
    return _Inline(b'{"url":"data:;base64,%s","class":"header"}' % pybase64.b64encode(data), len(data))


def _inline_body(data: bytes) -> _Inline:
    return _Inline(b'{"url":"data:;base64,%s","class":"body"}' % pybase64.b64encode(data), len(data))


def _size(inline: _Inline) -> int:
    return len(inline.entry)
