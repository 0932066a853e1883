"""The text of FASTA files, which may be BGZF-compressed: all of it, or the letters of any part of a sequence.

Either is read in buffers, in bounded memory.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from string import ascii_letters
from typing import BinaryIO

import numpy as np

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.sequences.fasta_index import Bytes, Integers, LineLayout

# Fits the processor's cache: a scan passes over each buffer several times.
_SCAN_BUFFER_SIZE = 256 << 10
# Letters in one buffer: what fits the processor's cache takes half of the time.
_BUFFER_SIZE = 64 << 10
_SEARCH_BUFFER_SIZE = 1 << 20

# Shorter texts are filtered byte by byte; a line that is longer does not fit a buffer.
_SHORT = 4 << 10
_MAX_LINE_WIDTH = 64 << 10
_UPPER = np.uint8(0xDF)
_TO_UPPER = bytes(range(256)).upper()
_NO_LETTERS = bytes(byte for byte in range(256) if byte not in ascii_letters.encode())
_GZIP = b"\x1f\x8b"


class PlainText:
    """The text of a file that is not compressed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read_at(self, start: int, size: int) -> bytes:
        """Bytes `start` to `start + size` of the text, fewer only at its end."""
        self._file.seek(start)
        return _read_fully(self._file, size)


class BgzfText:
    """The text of a file of `size` bytes whose BGZF blocks start at these offsets in the file and in the text."""

    def __init__(self, file: BinaryIO, size: int, coffsets: Integers, uoffsets: Integers) -> None:
        self._file = file
        self._size = size
        self._coffsets = coffsets
        self._uoffsets = uoffsets

    def read_at(self, start: int, size: int) -> bytes:
        """As above."""
        if not size:
            return b""
        first = bisect_right(self._uoffsets, start) - 1
        last = bisect_right(self._uoffsets, start + size - 1)
        coffset = int(self._coffsets[first])
        end = int(self._coffsets[last]) if last < len(self._coffsets) else self._size
        self._file.seek(coffset)
        raw = memoryview(_read_fully(self._file, end - coffset))
        text = b"".join(_inflate(raw, int(offset) - coffset) for offset in self._coffsets[first:last])
        skipped = start - int(self._uoffsets[first])
        return text[skipped : skipped + size]


def read_text(file: BinaryIO, blocks: "array[int]", progress: Callable[[int], None]) -> Iterator[bytes]:
    """All text of a file from its start on; `progress` is called with the bytes of the file read for each buffer.

    Appends to `blocks` where each BGZF block starts, in the file and in the text: two numbers a block.

    Raises:
        FormatError: when the file is compressed, but not BGZF, truncated or damaged.
    """
    if file.read(len(_GZIP)) != _GZIP:
        file.seek(0)
        while buffer := file.read(_SCAN_BUFFER_SIZE):
            yield buffer
            progress(len(buffer))
        return
    coffset = uoffset = 0
    try:
        for text, size in bgzf.read_blocks(file, 0):
            # No position lies in an empty block.
            if text:
                blocks.extend((coffset, uoffset))
                yield text
            progress(size)
            coffset, uoffset = coffset + size, uoffset + len(text)
    except FormatError as error:
        raise FormatError(f"{error}: the FASTA file is compressed, but not with bgzip, or it is damaged") from None


def _inflate(raw: memoryview, start: int) -> bytes:
    return bgzf.inflate(bytes(raw[start : start + bgzf.block_size(bytes(raw[start : start + 128]))]))


def _read_fully(file: BinaryIO, size: int) -> bytes:
    """The next bytes of an unbuffered file, fewer only at its end: a single read may return less."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def read_letters(text: PlainText | BgzfText, layout: LineLayout, start: int, end: int) -> Iterator[bytes]:
    """Letters `start` to `end` (0-based, half-open) of a sequence in upper case, in buffers.

    Raises:
        FormatError: when the text does not fit the layout.
    """
    if not layout.line_width:
        yield from _search_letters(text, layout, start, end)
        return
    lines = _BUFFER_SIZE // layout.line_bases
    while start < end:
        # Buffers end with a line, so that the next one starts with one.
        stop = min(end, (start // layout.line_bases + lines) * layout.line_bases if lines else start + _BUFFER_SIZE)
        first = _offset_of(layout, start)
        buffer = _extract(text.read_at(first, _offset_of(layout, stop - 1) + 1 - first), layout, start, stop)
        if len(buffer) != stop - start:
            raise FormatError("the file does not hold the sequence any more")
        yield buffer
        start = stop


def join_lines(lines: "bytes | memoryview", count: int, line_bases: int, line_width: int) -> Bytes:
    """The first `line_bases` bytes of each of `count` lines of `line_width` bytes; letters become upper-case."""
    cells = np.ndarray((count,), f"V{line_bases}", lines, strides=(line_width,))
    # As cells, not as bytes: four times as fast.
    upper = cells.copy().view(np.uint8)
    np.bitwise_and(upper, _UPPER, out=upper)
    return upper


def _offset_of(layout: LineLayout, position: int) -> int:
    """The offset of a letter in the text."""
    line, column = divmod(position, layout.line_bases)
    return layout.offset + line * layout.line_width + column


def _extract(data: bytes, layout: LineLayout, start: int, stop: int) -> bytes:
    """The letters `start` to `stop`, which are the first and the last byte of the data."""
    if len(data) <= _SHORT:
        return data.translate(_TO_UPPER, _NO_LETTERS)
    if len(data) == stop - start:
        return (np.frombuffer(data, np.uint8) & _UPPER).tobytes()
    count = stop // layout.line_bases - -(-start // layout.line_bases)
    first = -(-start // layout.line_bases) * layout.line_bases
    head = _offset_of(layout, first) - _offset_of(layout, start)
    tail = head + count * layout.line_width
    is_short = count <= 0 or len(data) < tail - (layout.line_width - layout.line_bases)
    if is_short or layout.line_width > _MAX_LINE_WIDTH:
        return data.translate(_TO_UPPER, _NO_LETTERS)
    whole = join_lines(memoryview(data)[head:], count, layout.line_bases, layout.line_width).tobytes()
    if not head and tail >= len(data):
        return whole
    return whole.join(part.translate(_TO_UPPER, _NO_LETTERS) for part in (data[:head], data[tail:]))


def _search_letters(text: PlainText | BgzfText, layout: LineLayout, start: int, end: int) -> Iterator[bytes]:
    """Letters of a sequence whose lines differ in length: all text before them has to be read to find them."""
    position, offset = 0, layout.offset
    while position < end:
        if offset >= layout.end:
            raise FormatError("the file does not hold the sequence any more")
        size = min(_SEARCH_BUFFER_SIZE, layout.end - offset)
        buffer = text.read_at(offset, size).translate(_TO_UPPER, _NO_LETTERS)
        offset += size
        selection = buffer[max(0, start - position) : max(0, end - position)]
        position += len(buffer)
        if selection:
            yield selection
