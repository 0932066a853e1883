"""The letters of a sequence, from a person's own FASTA: any part of it, in bounded memory."""

from collections.abc import Iterator
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt

from htsget_flask.errors import FormatError
from htsget_flask.sequences.fasta_index import Layout
from htsget_flask.sequences.fasta_text import Text

# So many letters are made at once: what fits the processor's cache takes half of the time.
PIECE = 64 << 10

# Fewer letters are cleaned byte by byte; lines that are longer would not fit a piece.
_SEARCHED = 1 << 20
_SHORT = 4 << 10
_LONGEST_LINE = 64 << 10
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
    lines = PIECE // layout.bases
    while start < end:
        # Pieces end with a line, so that the next one starts with one.
        stop = min(end, (start // layout.bases + lines) * layout.bases if lines else start + PIECE)
        first = _place(layout, start)
        piece = _cleaned(text.read_at(first, _place(layout, stop - 1) + 1 - first), layout, start, stop)
        if len(piece) != stop - start:
            raise FormatError("the file does not hold the sequence any more")
        yield piece
        start = stop


def line_letters(lines: "bytes | memoryview", count: int, bases: int, width: int) -> npt.NDArray[np.uint8]:
    """The first `bases` bytes of each of so many lines of `width` bytes, as upper-case letters if they are letters."""
    cells = np.ndarray((count,), f"V{bases}", lines, strides=(width,))
    # As cells, not as bytes: four times as fast.
    upper = cells.copy().view(np.uint8)
    np.bitwise_and(upper, _UPPER, out=upper)
    return upper


def _place(layout: Layout, position: int) -> int:
    """Where a letter lies in the text."""
    line, column = divmod(position, layout.bases)
    return layout.start + line * layout.width + column


def _cleaned(data: bytes, layout: Layout, start: int, stop: int) -> bytes:
    """The letters `start` to `stop`, which the data begin and end with."""
    if len(data) <= _SHORT:
        return data.translate(_TO_UPPER, _OTHERS)
    if len(data) == stop - start:
        return (np.frombuffer(data, np.uint8) & _UPPER).tobytes()
    count = stop // layout.bases - -(-start // layout.bases)
    first = -(-start // layout.bases) * layout.bases
    head, tail = _place(layout, first) - _place(layout, start), _place(layout, first + count * layout.bases)
    tail -= _place(layout, start)
    if layout.width > _LONGEST_LINE or count <= 0 or len(data) < tail - (layout.width - layout.bases):
        return data.translate(_TO_UPPER, _OTHERS)
    whole = line_letters(memoryview(data)[head:], count, layout.bases, layout.width).tobytes()
    if not head and tail >= len(data):
        return whole
    return b"".join((data[:head].translate(_TO_UPPER, _OTHERS), whole, data[tail:].translate(_TO_UPPER, _OTHERS)))


def _searched(text: Text, layout: Layout, start: int, end: int) -> Iterator[bytes]:
    """Letters of a sequence whose lines follow no rule: only all text before them tells where they are."""
    passed, place = 0, layout.start
    while passed < end:
        if place >= layout.end:
            raise FormatError("the file does not hold the sequence any more")
        piece = text.read_at(place, min(_SEARCHED, layout.end - place)).translate(_TO_UPPER, _OTHERS)
        place += _SEARCHED
        wanted = piece[max(0, start - passed) : max(0, end - passed)]
        passed += len(piece)
        if wanted:
            yield wanted
