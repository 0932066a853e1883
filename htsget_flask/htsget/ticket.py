"""From data blocks to the ticket: what is small goes inline, the rest gets a URL."""

import base64
from collections.abc import Callable, Iterator, Sequence

import orjson

from htsget_flask.htsget.opened import OpenFile
from htsget_flask.htsget.pieces import DataBlock, EndOfFile, Piece
from htsget_flask.ranges import ByteRange

MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"


def ticket(file: OpenFile, blocks: Sequence[DataBlock], *, inline_limit: int, url_of: Callable[[Piece], str]) -> bytes:
    """The ticket as JSON; `url_of` tells the URL of what is not inline.

    Pieces that are not bytes of the file as they stand are inline as long as their sum is at most `inline_limit`
    bytes; the end of file does not count, unless the limit is 0.
    """
    urls = list(_locate(file, blocks, inline_limit, url_of))
    return orjson.dumps({"htsget": {"format": file.source.form.name, "urls": urls}})


def _locate(
    file: OpenFile, blocks: Sequence[DataBlock], inline_limit: int, url_of: Callable[[Piece], str]
) -> Iterator[dict[str, object]]:
    room = inline_limit
    for block in blocks:
        piece = block.piece
        # Once a piece did not fit the rest is not even made: a request for many regions has hundreds of edges.
        if isinstance(piece, ByteRange) or not (room or (inline_limit and isinstance(piece, EndOfFile))):
            yield {"url": url_of(piece), "headers": {}, "class": block.class_}
            continue
        data = file.literal(piece)
        if not data:
            continue
        if isinstance(piece, EndOfFile) or len(data) <= room:
            room -= min(room, len(data))
            yield {"url": f"data:;base64,{base64.b64encode(data).decode('ascii')}", "class": block.class_}
        else:
            room = room if block.class_ == "header" else 0
            yield {"url": url_of(piece), "headers": {}, "class": block.class_}
