"""The pieces of a file that data blocks are made of, and how block URLs spell them."""

import enum
import re
import typing

from htsget_flask.ranges import ByteRange

Class = typing.Literal["header", "body"]


class Cut(typing.NamedTuple):
    """The uncompressed bytes `start` to `end` (None: its end) of the BGZF block at `coffset`, as BGZF blocks anew."""

    coffset: int
    start: int
    end: int | None


class Whole(enum.Enum):
    """A piece that every file has once."""

    HEADER = "header"
    END_OF_FILE = "eof"


Literal = Cut | Whole
Piece = ByteRange | Literal


class DataBlock(typing.NamedTuple):
    """One entry of a ticket before it is located."""

    piece: Piece
    class_: Class


_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_CUT = re.compile(r"([0-9]{1,15})\.([0-9]{1,5})-([0-9]{0,5})", re.ASCII)


def spell(piece: Piece) -> str:
    """The piece as a segment of a URL's path; byte ranges stay half-open."""
    match piece:
        case ByteRange(start, end):
            return f"{start}-{end}"
        case Cut(coffset, start, None):
            return f"{coffset}.{start}-"
        case Cut(coffset, start, end):
            return f"{coffset}.{start}-{end}"
        case Whole():
            return str(piece.value)


def parse(text: str) -> Piece | None:
    """The piece that `spell` wrote so; None for any other text."""
    for whole in Whole:
        if text == whole.value:
            return whole
    if found := _RANGE.fullmatch(text):
        start, end = int(found[1]), int(found[2])
        return ByteRange(start, end) if start < end else None
    if found := _CUT.fullmatch(text):
        start, last = int(found[2]), int(found[3]) if found[3] else None
        return Cut(int(found[1]), start, last) if last is None or start < last else None
    return None
