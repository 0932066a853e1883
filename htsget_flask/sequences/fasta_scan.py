"""The index of a FASTA file, made in one pass: its sequences, where they lie, and their digests."""

from array import array
from collections.abc import Iterable
from concurrent.futures import Executor

import numpy as np

from htsget_flask.errors import FormatError
from htsget_flask.sequences.digests import MD5_SIZE, TRUNC512_SIZE, Digester
from htsget_flask.sequences.fasta_index import Bytes, FastaIndex, Integers
from htsget_flask.sequences.fasta_text import join_lines

# Lower case differs from upper case in one bit; no other byte becomes a letter without that bit.
_UPPER = np.uint8(0xDF)
_A, _LETTERS = np.uint8(ord("A")), 26
_NEWLINE = ord("\n")

_MAX_HEADER = 1 << 20
# Lines up to this width are checked as rows of an array if there are at least 4.
_MAX_LINE_WIDTH = 64 << 10
_MIN_LINES = 4

_COLUMNS = ("name_ends", "bodies", "offsets", "ends", "line_bases", "line_widths", "lengths")


def scan_fasta(buffers: Iterable[bytes], blocks: "array[int]", *, helper: Executor | None = None) -> FastaIndex:
    """The index of a FASTA file from the buffers of its text; reading them fills in `blocks`, as `read_text` does.

    Raises:
        FormatError: when the text is not FASTA.
    """
    scanner = _Scanner(helper)
    for buffer in buffers:
        scanner.feed(buffer)
    return scanner.finish(blocks)


class _Scanner:
    def __init__(self, helper: Executor | None) -> None:
        self._helper = helper
        # A number for each of _COLUMNS, sequence by sequence.
        self._rows = array("q")
        self._names, self._md5, self._trunc512 = bytearray(), bytearray(), bytearray()
        self._offset, self._at_line_start = 0, True
        self._header: bytearray | None = None
        self._sequence: _Sequence | None = None

    def feed(self, buffer: bytes) -> None:
        start = 0
        while start < len(buffer):
            start = self._feed_header(buffer, start) if self._header is not None else self._feed_body(buffer, start)
        if buffer:
            self._at_line_start = buffer[-1] == _NEWLINE
        self._offset += len(buffer)

    def _feed_header(self, buffer: bytes, start: int) -> int:
        assert self._header is not None
        newline = buffer.find(b"\n", start)
        end = len(buffer) if newline < 0 else newline
        self._header += buffer[start:end]
        if len(self._header) > _MAX_HEADER:
            raise FormatError("the FASTA file has a header line of more than 1 MiB")
        if newline < 0:
            return end
        self._begin_sequence(self._offset + newline + 1)
        return newline + 1

    def _feed_body(self, buffer: bytes, start: int) -> int:
        header = self._next_header(buffer, start)
        end = len(buffer) if header < 0 else header
        if end > start:
            if self._sequence is not None:
                self._sequence.feed(np.frombuffer(buffer, np.uint8, end - start, start), self._offset + start)
            elif buffer[start:end].strip():
                raise FormatError("this is not a FASTA file: it does not start with '>'")
        if header < 0:
            return end
        self._end_sequence(self._offset + header)
        self._header = bytearray()
        return header + 1

    def _next_header(self, buffer: bytes, start: int) -> int:
        header = buffer.find(b">", start)
        while header >= 0:
            if buffer[header - 1] == _NEWLINE if header else self._at_line_start:
                break
            header = buffer.find(b">", header + 1)
        return header

    def _begin_sequence(self, body: int) -> None:
        assert self._header is not None
        if self._header[:1].strip():
            self._names += self._header.split(None, 1)[0]
        self._header = None
        self._sequence = _Sequence(body, Digester(self._helper))

    def _end_sequence(self, end: int) -> None:
        sequence, self._sequence = self._sequence, None
        if sequence is None:
            return
        digests = sequence.digester.digests()
        self._md5 += digests.md5
        self._trunc512 += digests.trunc512
        shape = sequence.line_shape()
        self._rows.extend((len(self._names), sequence.body, sequence.offset, end, *shape, sequence.length))

    def finish(self, blocks: "array[int]") -> FastaIndex:
        if self._header is not None:
            self._begin_sequence(self._offset)
        self._end_sequence(self._offset)
        columns = np.array(self._rows, np.int64).reshape(-1, len(_COLUMNS)).T
        coffsets, uoffsets = np.array(blocks, np.int64).reshape(-1, 2).T
        return FastaIndex(
            names=np.frombuffer(self._names, np.uint8),
            md5=np.frombuffer(self._md5, np.uint8).reshape(-1, MD5_SIZE),
            trunc512=np.frombuffer(self._trunc512, np.uint8).reshape(-1, TRUNC512_SIZE),
            block_coffsets=coffsets.copy(),
            block_uoffsets=uoffsets.copy(),
            **{name: column.copy() for name, column in zip(_COLUMNS, columns, strict=True)},
        )


class _Sequence:
    """A sequence while it is scanned: its letters so far, and the shape of its lines.

    Where lines are equally long letter r (0-based) has the offset `offset + r // bases * width + r % bases`.
    """

    def __init__(self, body: int, digester: Digester) -> None:
        self.digester = digester
        self.body = self.offset = body
        self.length = 0
        self._bases = self._width = 0
        self._is_regular = True

    def line_shape(self) -> tuple[int, int]:
        """`line_bases` and `line_width` of LineLayout."""
        if not self._is_regular:
            return 0, 0
        length = max(1, self.length)
        return (self._bases, self._width) if self._width else (length, length)

    def feed(self, text: Bytes, at: int) -> None:
        """Add the bytes of the text from offset `at` on."""
        if self._is_regular and 0 < self._width <= _MAX_LINE_WIDTH:
            head = -(at - self.offset) % self._width
            rows = (len(text) - head) // self._width
            if rows >= _MIN_LINES:
                tail = head + rows * self._width
                self._feed_any(text[:head], at)
                self._feed_rows(text[head:tail], at + head)
                self._feed_any(text[tail:], at + tail)
                return
        self._feed_any(text, at)

    def _feed_rows(self, text: Bytes, at: int) -> None:
        """Add whole lines if they have the shape of those before: much faster than byte by byte."""
        letters = join_lines(text.data, len(text) // self._width, self._bases, self._width)
        ends = text.reshape(-1, self._width)[:, self._bases :] & _UPPER
        follows = self.length % self._bases == 0 and self.length // self._bases * self._width == at - self.offset
        if follows and letters.min() >= _A and letters.max() < _A + _LETTERS and not _are_letters(ends).any():
            self.length += letters.size
            self.digester.update(letters.data)
        else:
            self._feed_any(text, at)

    def _feed_any(self, text: Bytes, at: int) -> None:
        upper = text & _UPPER
        positions = np.flatnonzero(_are_letters(upper))
        if not len(positions):
            return
        if not self.length:
            self.offset = at + int(positions[0])
        if self._is_regular:
            self._check_shape(positions + (at - self.offset))
        self.length += len(positions)
        self.digester.update((upper if len(positions) == len(upper) else upper[positions]).data)

    def _check_shape(self, positions: Integers) -> None:
        """Find the shape of the lines, or check it for the next letters; `positions` are relative to `offset`."""
        following = self.length + len(positions)
        if not self._width and positions[-1] == following - 1:
            return
        ranks = np.arange(self.length, following)
        if not self._width:
            first = int(np.argmax(positions != ranks))
            self._bases, self._width = self.length + first, int(positions[first])
        lines, columns = np.divmod(ranks, self._bases)
        self._is_regular = bool((lines * self._width + columns == positions).all())


def _are_letters(upper: Bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    return (upper - _A) < _LETTERS
