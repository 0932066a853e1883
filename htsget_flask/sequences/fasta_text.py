"""The text of a file that may be BGZF-compressed: all of it in buffers, or any part of it."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, Protocol

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.sequences.fasta_index import Integers

# Fits the processor's cache: a scan passes over each buffer several times.
_BUFFER_SIZE = 256 << 10


class BlockOffsets(NamedTuple):
    """Where BGZF blocks start: in the file, and in the uncompressed text."""

    coffsets: "array[int]"
    uoffsets: "array[int]"


class Text(Protocol):
    """The text of an open file."""

    def read_at(self, start: int, size: int) -> bytes:
        """Bytes `start` to `start + size` of the text, fewer only at its end."""


class PlainText:
    """The text of a file that is not compressed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read_at(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return _read_fully(self._file, size)


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
        raw = memoryview(_read_fully(self._file, end - coffset))
        text = b"".join(_inflate(raw, int(offset) - coffset) for offset in self._coffsets[first:last])
        skipped = start - int(self._uoffsets[first])
        return text[skipped : skipped + size]


def read_plain(file: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The text of a plain file; `progress` is called with the size of each buffer after its use."""
    file.seek(0)
    while buffer := file.read(_BUFFER_SIZE):
        yield buffer
        progress(len(buffer))


def read_bgzf(file: BinaryIO, blocks: BlockOffsets, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The text of a BGZF file; appends the offsets of its blocks. `progress` as above, in bytes of the file.

    Raises:
        FormatError: when the file is not BGZF, truncated or damaged.
    """
    coffset = uoffset = 0
    try:
        for text, size in bgzf.read_blocks(file, 0):
            # No position lies in an empty block.
            if text:
                blocks.coffsets.append(coffset)
                blocks.uoffsets.append(uoffset)
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
    if len(data) == size or not data:
        return data
    buffers = [data]
    left = size - len(data)
    while left and (data := file.read(left)):
        buffers.append(data)
        left -= len(data)
    return b"".join(buffers)
