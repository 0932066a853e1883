"""The kinds of data block, and how block URLs format them."""

import enum
import re
from typing import NamedTuple

from htsget_flask.datasets.edges import read_chunk
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE, split_offset, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.ranges import ByteRange


class FilePart(enum.Enum):
    """A part that every file has once."""

    HEADER = "header"
    EOF = "eof"


class Records(NamedTuple):
    """The records that overlap `start` to `end` (None: the reference's end) and do not start before `after`.

    `reference_id` is the number of the reference in the index. With the end of the preceding block as `after`, no
    record is in two blocks.
    """

    reference_id: int
    start: int
    end: int | None
    after: int


# A chunk's bytes are those of the file except at its edges, where the BGZF blocks are cut and compressed again.
InlineBlock = Chunk | FilePart
DataBlock = ByteRange | InlineBlock | Records


_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_RECORDS = re.compile(r"records-([0-9]{1,9})\.([0-9]{1,18})-([0-9]{1,18})?\.([0-9]{1,18})", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,15})\.([0-9]{1,5})-([0-9]{1,15})\.([0-9]{1,5})", re.ASCII)


def to_path_segment(block: DataBlock) -> str:
    """The data block as a segment of a URL's path; byte ranges stay half-open."""
    match block:
        case ByteRange(start, end):
            return f"{start}-{end}"
        case Chunk(begin, end):
            return "{}.{}-{}.{}".format(*split_offset(begin), *split_offset(end))
        case FilePart():
            return str(block.value)
        case Records(reference_id, start, end, after):
            return f"records-{reference_id}.{start}-{'' if end is None else end}.{after}"


def from_path_segment(text: str) -> DataBlock | None:
    """The data block that `to_path_segment` wrote; None for any other text."""
    for part in FilePart:
        if text == part.value:
            return part
    if match := _RANGE.fullmatch(text):
        start, end = int(match[1]), int(match[2])
        return ByteRange(start, end) if start < end else None
    if match := _RECORDS.fullmatch(text):
        return Records(int(match[1]), int(match[2]), None if match[3] is None else int(match[3]), int(match[4]))
    if match := _CHUNK.fullmatch(text):
        first, first_cut, last, last_cut = map(int, match.groups())
        if max(first_cut, last_cut) < MAX_BLOCK_SIZE and (first, first_cut) < (last, last_cut):
            return Chunk(virtual_offset(first, first_cut), virtual_offset(last, last_cut))
    return None


def least_file_size(block: DataBlock) -> int:
    """The size in bytes of the smallest file that can have the data block."""
    match block:
        case ByteRange(_, end):
            return end
        case Chunk(_, end):
            return (end + 0xFFFF) >> 16
        case FilePart() | Records():
            return 0


def read_inline(file: OpenFile, block: InlineBlock) -> bytes:
    """The bytes of a data block that may be inline.

    Raises:
        FormatError: when the index does not fit the data.
    """
    match block:
        case FilePart.HEADER:
            return file.header.raw
        case FilePart.EOF:
            return file.header.eof_marker
        case Chunk():
            return read_chunk(file, block)
