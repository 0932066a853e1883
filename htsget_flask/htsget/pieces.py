"""The pieces of a file that data blocks are made of, and how block URLs spell them."""

import re
from dataclasses import dataclass
from typing import Literal

from htsget_flask.ranges import ByteRange

Class = Literal["header", "body"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The uncompressed bytes `start` to `end` (None: its end) of the BGZF block at `coffset`, as BGZF blocks anew."""

    coffset: int
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class WholeHeader:
    """The file's header, in its own format."""


@dataclass(frozen=True, slots=True)
class EndOfFile:
    """The block or container that ends a file of this format."""


Piece = ByteRange | Cut | WholeHeader | EndOfFile


@dataclass(frozen=True, slots=True)
class DataBlock:
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
        case WholeHeader():
            return "header"
        case EndOfFile():
            return "eof"


def parse(text: str) -> Piece | None:
    """The piece that `spell` wrote so; None for any other text."""
    if text == "header":
        return WholeHeader()
    if text == "eof":
        return EndOfFile()
    if found := _RANGE.fullmatch(text):
        start, end = int(found[1]), int(found[2])
        return ByteRange(start, end) if start < end else None
    if found := _CUT.fullmatch(text):
        return Cut(int(found[1]), int(found[2]), int(found[3]) if found[3] else None)
    return None
