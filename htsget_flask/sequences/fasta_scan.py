"""One pass over a FASTA file: which sequences it has, where they lie, and their digests."""

from array import array
from collections.abc import Iterable
from concurrent.futures import Executor

import numpy as np

from htsget_flask.errors import FormatError
from htsget_flask.sequences.digests import MD5_SIZE, TRUNC512_SIZE, Digester
from htsget_flask.sequences.fasta_index import Bytes, Integers, Table
from htsget_flask.sequences.fasta_text import Blocks
from htsget_flask.sequences.subsequence import line_letters

# In lower case the letters differ in this bit only; no other byte becomes a letter without it.
_UPPER = np.uint8(0xDF)
_A, _LETTERS = np.uint8(ord("A")), 26
_NEWLINE = ord("\n")

_LONGEST_HEADER = 1 << 20
# Lines up to this length are looked at as rows of a table, from so many rows on.
_LONGEST_ROW = 64 << 10
_FEWEST_ROWS = 4


def scan(pieces: Iterable[bytes], blocks: Blocks, *, helper: Executor | None = None) -> Table:
    """The table of a FASTA file, from its text in pieces; `blocks` are those that the pieces were read from so far.

    Raises:
        FormatError: when the text is not FASTA.
    """
    scanner = _Scanner(helper)
    for piece in pieces:
        scanner.feed(piece)
    return scanner.finish(blocks)


class _Scanner:
    def __init__(self, helper: Executor | None) -> None:
        self._helper = helper
        self._columns: dict[str, array[int]] = {
            name: array("q") for name in ("name_ends", "bodies", "starts", "ends", "bases", "widths", "lengths")
        }
        self._names, self._md5, self._trunc512 = bytearray(), bytearray(), bytearray()
        self._position = 0
        self._header: bytearray | None = None
        self._sequence: _Sequence | None = None
        self._at_line_start = True

    def feed(self, piece: bytes) -> None:
        """Take in the next piece of the text."""
        place = 0
        while place < len(piece):
            place = self._feed_header(piece, place) if self._header is not None else self._feed_body(piece, place)
        if piece:
            self._at_line_start = piece[-1] == _NEWLINE
        self._position += len(piece)

    def _feed_header(self, piece: bytes, place: int) -> int:
        assert self._header is not None
        newline = piece.find(b"\n", place)
        end = len(piece) if newline < 0 else newline
        self._header += piece[place:end]
        if len(self._header) > _LONGEST_HEADER:
            raise FormatError("the FASTA file has a header line of more than 1 MiB")
        if newline < 0:
            return end
        self._begin_sequence(self._position + newline + 1)
        return newline + 1

    def _feed_body(self, piece: bytes, place: int) -> int:
        header = self._next_header(piece, place)
        end = len(piece) if header < 0 else header
        if end > place:
            if self._sequence is not None:
                self._sequence.feed(np.frombuffer(piece, np.uint8, end - place, place), self._position + place)
            elif piece[place:end].strip():
                raise FormatError("this is not a FASTA file: it does not start with '>'")
        if header < 0:
            return end
        self._end_sequence(self._position + header)
        self._header = bytearray()
        return header + 1

    def _next_header(self, piece: bytes, place: int) -> int:
        found = piece.find(b">", place)
        while found >= 0:
            if piece[found - 1] == _NEWLINE if found else self._at_line_start:
                return found
            found = piece.find(b">", found + 1)
        return -1

    def _begin_sequence(self, body: int) -> None:
        assert self._header is not None
        self._names += next(iter(self._header.split(None, 1)), b"") if self._header[:1].strip() else b""
        self._columns["name_ends"].append(len(self._names))
        self._columns["bodies"].append(body)
        self._header = None
        self._sequence = _Sequence(body, Digester(self._helper))

    def _end_sequence(self, end: int) -> None:
        sequence, self._sequence = self._sequence, None
        if sequence is None:
            return
        digests = sequence.digester.digests()
        self._md5 += digests.md5
        self._trunc512 += digests.trunc512
        bases, width = sequence.rule()
        found = {"starts": sequence.start, "ends": end, "bases": bases, "widths": width, "lengths": sequence.length}
        for name, value in found.items():
            self._columns[name].append(value)

    def finish(self, blocks: Blocks) -> Table:
        """The table, once all of the text was taken in."""
        if self._header is not None:
            self._begin_sequence(self._position)
        self._end_sequence(self._position)
        columns: dict[str, Integers] = {
            name: np.frombuffer(column, np.int64) if column else np.zeros(0, np.int64)
            for name, column in self._columns.items()
        }
        return Table(
            names=_bytes(self._names),
            md5=_bytes(self._md5).reshape(-1, MD5_SIZE),
            trunc512=_bytes(self._trunc512).reshape(-1, TRUNC512_SIZE),
            block_coffsets=np.array(blocks.coffsets, np.int64),
            block_uoffsets=np.array(blocks.uoffsets, np.int64),
            **columns,
        )


class _Sequence:
    """A sequence under way: its letters so far, and by which rule they follow each other.

    The letter number r (from 0) stands at `start + r // bases * width + r % bases`, where lines are equally long.
    """

    def __init__(self, body: int, digester: Digester) -> None:
        self.digester = digester
        self.start = body
        self.length = 0
        self._bases = self._width = 0
        self._is_regular = True

    def rule(self) -> tuple[int, int]:
        """`bases` and `width` of Layout."""
        if not self._is_regular:
            return 0, 0
        one_line = max(1, self.length)
        return (self._bases, self._width) if self._width else (one_line, one_line)

    def feed(self, text: Bytes, at: int) -> None:
        """Take in the bytes of the text from `at` on."""
        if self._is_regular and 0 < self._width <= _LONGEST_ROW:
            head = -(at - self.start) % self._width
            rows = (len(text) - head) // self._width
            if rows >= _FEWEST_ROWS:
                tail = head + rows * self._width
                self._feed_any(text[:head], at)
                self._feed_rows(text[head:tail], at + head)
                self._feed_any(text[tail:], at + tail)
                return
        self._feed_any(text, at)

    def _feed_rows(self, text: Bytes, at: int) -> None:
        """Whole lines, if they are what they should be: faster by far than byte by byte."""
        letters = line_letters(text.data, len(text) // self._width, self._bases, self._width)
        ends = text.reshape(-1, self._width)[:, self._bases :] & _UPPER
        follows = self.length % self._bases == 0 and self.length // self._bases * self._width == at - self.start
        if follows and letters.min() >= _A and letters.max() < _A + _LETTERS and not _are_letters(ends).any():
            self.length += letters.size
            self.digester.update(letters.data)
        else:
            self._feed_any(text, at)

    def _feed_any(self, text: Bytes, at: int) -> None:
        upper = text & _UPPER
        places = np.flatnonzero(_are_letters(upper))
        if not len(places):
            return
        if not self.length:
            self.start = at + int(places[0])
        if self._is_regular:
            self._follow(places + (at - self.start))
        self.length += len(places)
        self.digester.update((upper if len(places) == len(upper) else upper[places]).data)

    def _follow(self, places: Integers) -> None:
        """Find the rule, or whether it still holds; `places` of the next letters, from the first letter on."""
        following = self.length + len(places)
        if not self._width and places[-1] == following - 1:
            return
        ranks = np.arange(self.length, following)
        if not self._width:
            first = int(np.argmax(places != ranks))
            self._bases, self._width = self.length + first, int(places[first])
        lines, columns = np.divmod(ranks, self._bases)
        self._is_regular = bool((lines * self._width + columns == places).all())


def _are_letters(upper: Bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    return (upper - _A) < _LETTERS


def _bytes(data: bytearray) -> Bytes:
    return np.frombuffer(bytes(data), np.uint8)
