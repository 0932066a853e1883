"""The pieces of a file that data blocks are made of, and how block URLs spell them."""

import re
import typing

from htsget_flask.datasets.open_file import FilePart, InlineBlock
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE, split_offset, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.ranges import ByteRange

Class = typing.Literal["header", "body"]


class Records(typing.NamedTuple):
    """The records that overlap `start` to `end` (None: the reference's end) and do not start before `after`.

    `reference_id` is how the index numbers the reference. With `after` the end of the part before it no record is in
    two parts.
    """

    reference_id: int
    start: int
    end: int | None
    after: int


Piece = ByteRange | InlineBlock | Records


class BlockUrl(typing.NamedTuple):
    """Where a data block is fetched, with which header fields."""

    url: str
    headers: typing.Mapping[str, str]


_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_RECORDS = re.compile(r"records-([0-9]{1,9})\.([0-9]{1,18})-([0-9]{1,18})?\.([0-9]{1,18})", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,15})\.([0-9]{1,5})-([0-9]{1,15})\.([0-9]{1,5})", re.ASCII)


def to_path_segment(piece: Piece) -> str:
    """The piece as a segment of a URL's path; byte ranges stay half-open."""
    match piece:
        case ByteRange(start, end):
            return f"{start}-{end}"
        case Chunk(begin, end):
            return "{}.{}-{}.{}".format(*split_offset(begin), *split_offset(end))
        case FilePart():
            return str(piece.value)
        case Records(reference_id, start, end, after):
            return f"records-{reference_id}.{start}-{'' if end is None else end}.{after}"


def from_path_segment(text: str) -> Piece | None:
    """The piece that `to_path_segment` wrote; None for any other text."""
    for whole in FilePart:
        if text == whole.value:
            return whole
    if found := _RANGE.fullmatch(text):
        start, end = int(found[1]), int(found[2])
        return ByteRange(start, end) if start < end else None
    if found := _RECORDS.fullmatch(text):
        return Records(int(found[1]), int(found[2]), None if found[3] is None else int(found[3]), int(found[4]))
    if found := _CHUNK.fullmatch(text):
        first, first_cut, last, last_cut = map(int, found.groups())
        if max(first_cut, last_cut) < MAX_BLOCK_SIZE and (first, first_cut) < (last, last_cut):
            return Chunk(virtual_offset(first, first_cut), virtual_offset(last, last_cut))
    return None
