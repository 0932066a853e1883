"""Indexes and tables that are read as a whole, plain or gzipped: at most 256 MiB of them."""

import gzip
import io
import zlib
from collections.abc import Iterator

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import is_bgzf, read_blocks

MAX_DATA = 256 << 20

_BUFFER_SIZE = 1 << 20


def check_size(size: int, name: str, limit: int = MAX_DATA) -> None:
    """Refuse a file of `size` bytes, before it is read.

    Raises:
        FormatError: when it exceeds `limit` bytes; `name` is what the message calls it.
    """
    if size > limit:
        raise FormatError(f"{name} exceeds {limit >> 20} MiB")


def unpack(data: bytes | bytearray, limit: int = MAX_DATA) -> bytes | bytearray:
    """The content of an index, gzipped or plain, of which no more than `limit` bytes are ever in memory.

    Raises:
        FormatError: when it is longer, truncated or damaged.
    """
    if data[:2] != b"\x1f\x8b":
        check_size(len(data), "the index", limit)
        return data
    content = bytearray()
    for part in _parts(data):
        content += part
        check_size(len(content), "the index, uncompressed,", limit)
    return content


def _parts(data: bytes | bytearray) -> Iterator[bytes]:
    """The uncompressed data; BGZF (TBI, CSI) block by block takes half of the time of plain gzip (CRAI)."""
    file = io.BytesIO(data)
    try:
        if is_bgzf(file):
            for block in read_blocks(file, 0):
                yield block.data
            return
        file.seek(0)
        with gzip.open(file) as content:
            while part := content.read(_BUFFER_SIZE):
                yield part
    except (FormatError, zlib.error, EOFError, OSError) as error:
        raise FormatError("the index is truncated or damaged") from error
