"""The text of a file, which may be BGZF-compressed: in pieces from the start, or any part of it."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, Protocol

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.sequences.fasta_index import Integers

# What fits the processor's cache: each piece is gone over several times.
PIECE = 256 << 10


class Blocks(NamedTuple):
    """Where BGZF blocks start: in the file, and in the text that they hold together."""

    coffsets: "array[int]"
    uoffsets: "array[int]"


class Text(Protocol):
    """The text of an open file."""

    def read_at(self, start: int, size: int) -> bytes:
        """Bytes `start` to `start + size` of the text, fewer only at its end."""


class PlainText:
    """A file that is its own text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read_at(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return read_fully(self._file, size)


class BgzfText:
    """The text of a file whose BGZF blocks start at these offsets; the last one ends the file."""

    def __init__(self, file: BinaryIO, size: int, coffsets: Integers, uoffsets: Integers) -> None:
        self._file = file
        self._size = size
        self._coffsets = coffsets
        self._uoffsets = uoffsets

    def read_at(self, start: int, size: int) -> bytes:
        if not size or not len(self._uoffsets):
            return b""
        first = bisect_right(self._uoffsets, start) - 1
        last = bisect_right(self._uoffsets, start + size - 1)
        coffset = int(self._coffsets[first])
        end = int(self._coffsets[last]) if last < len(self._coffsets) else self._size
        self._file.seek(coffset)
        raw = memoryview(read_fully(self._file, end - coffset))
        text = b"".join(_inflate(raw, int(offset) - coffset) for offset in self._coffsets[first:last])
        skipped = start - int(self._uoffsets[first])
        return text[skipped : skipped + size]


def plain_pieces(file: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The text of a plain file; `progress` is told the bytes of each piece once it is done."""
    file.seek(0)
    while piece := file.read(PIECE):
        yield piece
        progress(len(piece))


def bgzf_pieces(file: BinaryIO, blocks: Blocks, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The text of a BGZF file; the blocks are noted as they are read. `progress` as above, of the compressed file.

    Raises:
        FormatError: when the file is not BGZF, truncated or damaged.
    """
    coffset = uoffset = 0
    try:
        for text, size in bgzf.read_blocks(file, 0):
            # An empty block holds nothing that is looked for.
            if text:
                blocks.coffsets.append(coffset)
                blocks.uoffsets.append(uoffset)
                yield text
            progress(size)
            coffset, uoffset = coffset + size, uoffset + len(text)
    except FormatError as error:
        raise FormatError(f"{error}: the FASTA file is compressed, but not with bgzip, or it is damaged") from None


def _inflate(raw: memoryview, place: int) -> bytes:
    return bgzf.inflate(bytes(raw[place : place + bgzf.block_size(bytes(raw[place : place + 128]))]))


def read_fully(file: BinaryIO, size: int) -> bytes:
    """The next bytes of an unbuffered file, fewer only at its end: one read of it may return less."""
    data = file.read(size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    left = size - len(data)
    while left and (data := file.read(left)):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)
