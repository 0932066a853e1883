"""The letters of a sequence, from a person's own FASTA: any part of it, in bounded memory."""

from collections.abc import Iterator
from string import ascii_uppercase

import numpy as np

from htsget_flask.errors import FormatError
from htsget_flask.refget.table import Layout
from htsget_flask.refget.texts import Text

# So many letters are made at once.
PIECE = 256 << 10

# Below, translating byte by byte is faster than laying out rows; rows that are longer would not fit a piece.
_SHORT = 4 << 10
_LONGEST_ROW = 64 << 10
_UPPER = np.uint8(0xDF)
_TO_UPPER = bytes(range(256)).upper()
_OTHERS = bytes(byte for byte in range(256) if byte not in (ascii_uppercase + ascii_uppercase.lower()).encode())


def letters(text: Text, layout: Layout, start: int, end: int) -> Iterator[bytes]:
    """Letters `start` to `end` (0-based, half-open) of a sequence in upper case, in pieces.

    Raises:
        FormatError: when the text is not what the layout was made of.
    """
    if not layout.width:
        yield from _searched(text, layout, start, end)
        return
    for here in range(start, end, PIECE):
        there = min(end, here + PIECE)
        first = _place(layout, here)
        data = text.read_at(first, _place(layout, there - 1) + 1 - first)
        piece = _cleaned(data, layout, here, there)
        if len(piece) != there - here:
            raise FormatError("the file does not hold the sequence any more")
        yield piece


def _place(layout: Layout, position: int) -> int:
    """Where a letter lies in the text."""
    line, column = divmod(position, layout.bases)
    return layout.start + line * layout.width + column


def _cleaned(data: bytes, layout: Layout, start: int, end: int) -> bytes:
    """The letters `start` to `end`, which the data begin and end with."""
    if len(data) == end - start and len(data) > _SHORT:
        return (np.frombuffer(data, np.uint8) & _UPPER).tobytes()
    if len(data) <= _SHORT or layout.width > _LONGEST_ROW:
        return data.translate(_TO_UPPER, _OTHERS)
    column = start % layout.bases
    rows = -(-(column + len(data)) // layout.width)
    table = np.zeros(rows * layout.width, np.uint8)
    table[column : column + len(data)] = np.frombuffer(data, np.uint8)
    upper = table.reshape(rows, layout.width)[:, : layout.bases] & _UPPER
    return upper.ravel()[column : column + end - start].tobytes()


def _searched(text: Text, layout: Layout, start: int, end: int) -> Iterator[bytes]:
    """Letters of a sequence whose lines follow no rule: only all text before them tells where they are."""
    passed, place = 0, layout.start
    while passed < end:
        if place >= layout.end:
            raise FormatError("the file does not hold the sequence any more")
        piece = text.read_at(place, min(PIECE, layout.end - place)).translate(_TO_UPPER, _OTHERS)
        place += PIECE
        wanted = piece[max(0, start - passed) : max(0, end - passed)]
        passed += len(piece)
        if wanted:
            yield wanted
