"""How CRAM writes integers and blocks (CRAMv3 sections 2.3 and 8)."""

import bz2
import lzma
import zlib
from typing import Protocol

from htsget_flask.errors import FormatError
from htsget_flask.formats.headers import MAX_HEADER_DATA

# In bytes; the stream states how much memory decompression takes. `xz -9` makes streams that take half of this.
_MAX_LZMA_MEMORY = 128 << 20

UNREADABLE = (zlib.error, EOFError, OSError, lzma.LZMAError)
"""What the functions here raise for damaged data."""


class ShortError(EOFError):
    """The available bytes end within the structure."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def read_block(data: bytes, position: int) -> tuple[int, int, int, int]:
    """The compression method and uncompressed size of the block at `position`, the start and end of its content."""
    _, start = read_itf8(data, position + 2)
    compressed_size, start = read_itf8(data, start)
    size, start = read_itf8(data, start)
    if compressed_size < 0 or start + compressed_size > len(data) or not 0 <= size <= MAX_HEADER_DATA:
        raise ShortError
    return data[position], size, start, start + compressed_size


def decompress(method: int, data: bytes, size: int) -> bytes:
    """The content of a header's block, compressed with one of the methods that headers may use (section 8)."""
    if method == 0:
        return data
    decompressor: _Decompressor
    if method == 1:
        decompressor = zlib.decompressobj(wbits=31)
    elif method == 2:
        decompressor = bz2.BZ2Decompressor()
    elif method == 3:
        decompressor = lzma.LZMADecompressor(memlimit=_MAX_LZMA_MEMORY)
    else:
        raise FormatError("the CRAM header is compressed with a method that headers may not use")
    # With room for one byte more the stream is read to its end, and its checksum is verified.
    content = decompressor.decompress(data, size + 1)
    if len(content) != size or not decompressor.eof:
        raise ShortError
    return content


def read_itf8(data: bytes, position: int) -> tuple[int, int]:
    """An ITF-8 integer and the position after it (section 2.3)."""
    if position >= len(data):
        raise ShortError
    first = data[position]
    extra = 0 if first < 0x80 else 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    following = position + 1 + extra
    if following > len(data):
        raise ShortError
    if extra < 4:
        value = int.from_bytes(data[position:following], "big") & ((1 << (7 * (extra + 1))) - 1)
        return value, following
    rest = int.from_bytes(data[position + 1 : position + 4], "big")
    value = (first & 0x0F) << 28 | rest << 4 | data[position + 4] & 0x0F
    return value - (1 << 32) if value >> 31 else value, following


def skip_itf8(data: bytes, position: int, count: int) -> int:
    """The position after `count` ITF-8 integers."""
    for _ in range(count):
        _, position = read_itf8(data, position)
    return position


def skip_ltf8(data: bytes, position: int) -> int:
    """The position after an LTF-8 integer (section 2.3): its first byte's leading ones count the bytes that follow."""
    if position >= len(data):
        raise ShortError
    following = position + 9 - (data[position] ^ 0xFF).bit_length()
    if following > len(data):
        raise ShortError
    return following
