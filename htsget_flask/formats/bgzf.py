"""BGZF, the blocked gzip of BAM, BCF and compressed VCF (SAMv1 section 4.1).

A virtual offset is an int, `coffset << 16 | uoffset`: the byte offset of a BGZF block in the file, and the offset
within that block's uncompressed data (SAMv1 4.1.1).
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import deflate as libdeflate

from htsget_flask.errors import FormatError

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
MAX_BLOCK_SIZE = 1 << 16
# htslib's own choice: whatever the data, the compressed block stays within 64 KiB.
MAX_BLOCK_DATA = 0xFF00

_MAGIC = b"\x1f\x8b\x08\x04"
_GZIP_HEADER = struct.Struct("<4s4xBBH")
_SUBFIELD = struct.Struct("<2sH")
_FRAME = struct.Struct("<4s4xBBH2sHH")
_TRAILER = struct.Struct("<II")
# The header as every known writer makes it: one extra subfield. Longer ones are legal and read as well.
_COMMON_HEADER = 18
_MAX_HEADER_SIZE = 128
_BUFFER_SIZE = 256 << 10
# Smaller output than zlib's level 1, and faster.
_LEVEL = 1


class BgzfBlock(NamedTuple):
    """A BGZF block: its uncompressed data, and its compressed `size` in bytes."""

    data: bytes
    size: int


def virtual_offset(coffset: int, uoffset: int) -> int:
    """Pack a virtual offset."""
    return coffset << 16 | uoffset


def split_offset(offset: int) -> tuple[int, int]:
    """Unpack a virtual offset to (coffset, uoffset)."""
    return offset >> 16, offset & 0xFFFF


def block_size(head: bytes) -> int:
    """The size in bytes of the BGZF block that starts with `head`.

    Raises:
        FormatError: when no BGZF block starts like this.
    """
    if len(head) < _COMMON_HEADER or head[:4] != _MAGIC:
        raise FormatError("no BGZF block where one should start")
    _, _, _, extra_length = _GZIP_HEADER.unpack_from(head)
    position = _GZIP_HEADER.size
    end = min(position + extra_length, len(head))
    while position + 6 <= end:
        name, length = _SUBFIELD.unpack_from(head, position)
        if name == b"BC" and length == 2:
            size = int.from_bytes(head[position + 4 : position + 6], "little") + 1
            if size < _GZIP_HEADER.size + extra_length + _TRAILER.size:
                break
            return size
        position += 4 + length
    raise FormatError("no BGZF block where one should start")


def inflate(raw: bytes) -> bytes:
    """The data of one whole BGZF block, its checksum and length verified.

    Raises:
        FormatError: when the block is damaged.
    """
    try:
        return bytes(libdeflate.gzip_decompress(raw, MAX_BLOCK_SIZE))
    except libdeflate.DeflateError as error:
        raise FormatError("a BGZF block is damaged") from error


def read_block(file: BinaryIO, coffset: int) -> BgzfBlock:
    """The BGZF block at `coffset`.

    Raises:
        FormatError: when none starts there, or it is truncated or damaged.
    """
    file.seek(coffset)
    raw = file.read(MAX_BLOCK_SIZE)
    size = block_size(raw)
    if size > len(raw):
        raise FormatError("the file is truncated in mid-block")
    return BgzfBlock(inflate(raw[:size]), size)


def read_blocks(file: BinaryIO, coffset: int) -> Iterator[BgzfBlock]:
    """The BGZF blocks from `coffset` to the end of the file, which is read 256 KiB at a time.

    Raises:
        FormatError: when something else is between them, or a block is truncated or damaged.
    """
    file.seek(coffset)
    raw, position, at_end = b"", 0, False
    while True:
        head = raw[position : position + _MAX_HEADER_SIZE]
        if len(head) == _MAX_HEADER_SIZE or (at_end and head):
            size = block_size(head)
            if position + size <= len(raw):
                yield BgzfBlock(inflate(raw[position : position + size]), size)
                position += size
                continue
        if at_end:
            if head:
                raise FormatError("the file is truncated in mid-block")
            return
        following = file.read(_BUFFER_SIZE)
        raw, position, at_end = raw[position:] + following, 0, not following


def read_block_size(file: BinaryIO, coffset: int) -> int:
    """The size in bytes of the BGZF block at `coffset`, which is not inflated.

    Raises:
        FormatError: when none starts there.
    """
    file.seek(coffset)
    return block_size(file.read(_COMMON_HEADER + 64))


def is_bgzf(file: BinaryIO) -> bool:
    """Whether a file starts with a BGZF block."""
    try:
        read_block_size(file, 0)
    except FormatError:
        return False
    return True


def deflate(data: bytes) -> bytes:
    """The data as BGZF blocks; no block for no data (an empty one would end the stream for some readers)."""
    return b"".join(_deflate(data[start : start + MAX_BLOCK_DATA]) for start in range(0, len(data), MAX_BLOCK_DATA))


def _deflate(data: bytes) -> bytes:
    # Clients may resume where another worker, or another machine, stopped: libdeflate's output is the same everywhere.
    body = libdeflate.deflate_compress(data, _LEVEL)
    size = _FRAME.size + len(body) + _TRAILER.size
    if size > MAX_BLOCK_SIZE:
        half = len(data) // 2
        return _deflate(data[:half]) + _deflate(data[half:])
    frame = _FRAME.pack(_MAGIC, 0, 0xFF, 6, b"BC", 2, size - 1)
    return b"".join((frame, body, _TRAILER.pack(libdeflate.crc32(data), len(data))))


def find_block(file: BinaryIO, target: int, end: int) -> int:
    """The offset of the first BGZF block that starts at or after byte `target`; `end` when none starts before it.

    Raises:
        FormatError: when none starts within 192 KiB: the file is not BGZF there.
    """
    file.seek(target)
    window = file.read(min(3 * MAX_BLOCK_SIZE, end - target))
    start = window.find(_MAGIC)
    while start >= 0:
        if _last_of_chain(window, start, at_end=target + len(window) == end) is not None:
            return target + start
        start = window.find(_MAGIC, start + 1)
    if target + len(window) == end:
        return end
    raise FormatError("no BGZF block where one should start")


def ends_whole(file: BinaryIO, size: int) -> bool:
    """Whether the file of `size` bytes ends with a whole BGZF block, rather than within one."""
    window_start = max(0, size - MAX_BLOCK_SIZE)
    file.seek(window_start)
    window = file.read(size - window_start)
    start = window.find(_MAGIC)
    while start >= 0:
        last = _last_of_chain(window, start, at_end=True)
        if last is not None:
            try:
                inflate(window[last:])
            except FormatError:
                return False
            return True
        start = window.find(_MAGIC, start + 1)
    return False


def _last_of_chain(window: bytes, start: int, *, at_end: bool) -> int | None:
    """The start of the last block of an unbroken chain of BGZF blocks from `start` to the window's end.

    None where the chain is broken, or `at_end`, when the window ends with the file, a block goes beyond the window.
    """
    last = position = start
    while position < len(window):
        last = position
        if len(window) - position < _COMMON_HEADER:
            return None if at_end else last
        try:
            position += block_size(window[position : position + _MAX_HEADER_SIZE])
        except FormatError:
            return None
    return last if position == len(window) or not at_end else None


class Prefix:
    """The uncompressed data from the start of a BGZF file, read block by block as far as required.

    At most `limit` bytes are read, compressed or not, and the rest of the block in which they end. `position` is the
    reader's own.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._coffset = 0
        self._block_starts = array("q")
        self._block_coffsets = array("q")
        self.data = bytearray()
        self.position = 0

    def require(self, length: int) -> bytearray:
        """The data, at least `length` bytes of it.

        Raises:
            FormatError: when the file is shorter, or is not BGZF.
        """
        while len(self.data) < length:
            if not self.extend():
                raise FormatError("the file ends within its header")
        return self.data

    def extend(self) -> bool:
        """Append one block's data; False at the end of the file.

        Raises:
            FormatError: when the block is damaged, or too much was read before it.
        """
        if max(len(self.data), self._coffset) > self._limit:
            raise FormatError(f"the header exceeds {self._limit >> 20} MiB")
        self._file.seek(self._coffset)
        head = self._file.read(_COMMON_HEADER + 64)
        if not head:
            return False
        size = block_size(head)
        raw = head + self._file.read(size - len(head)) if size > len(head) else head[:size]
        if len(raw) < size:
            raise FormatError("the file is truncated in mid-block")
        self._block_starts.append(len(self.data))
        self._block_coffsets.append(self._coffset)
        self.data += inflate(raw)
        self._coffset += size
        return True

    def virtual_offset(self, length: int) -> int:
        """The virtual offset after the first `length` bytes of data; a whole block's end is the next one's start."""
        if length == len(self.data):
            return virtual_offset(self._coffset, 0)
        index = bisect_right(self._block_starts, length) - 1
        return virtual_offset(self._block_coffsets[index], length - self._block_starts[index])
