"""Indexes and tables that are read as a whole, plain or gzipped: at most 256 MiB of them."""

import io
import zlib

from isal import igzip, isal_zlib

from htsget_flask.errors import FormatError

MAX_DATA = 256 << 20

_PIECE = 1 << 20


def check_size(size: int, name: str, most: int = MAX_DATA) -> None:
    """Refuse a file of `size` bytes, before it is read.

    Raises:
        FormatError: when it exceeds `most` bytes; `name` is what the message calls it.
    """
    if size > most:
        raise FormatError(f"{name} exceeds {most >> 20} MiB")


def unpack(data: bytes | bytearray, most: int = MAX_DATA) -> bytes | bytearray:
    """The content of an index, gzipped or plain, of which no more than `most` bytes are ever in memory.

    Raises:
        FormatError: when it is longer, truncated or damaged.
    """
    if data[:2] != b"\x1f\x8b":
        check_size(len(data), "the index", most)
        return data
    content = bytearray()
    try:
        with igzip.open(io.BytesIO(data)) as file:
            while piece := file.read(_PIECE):
                content += piece
                check_size(len(content), "the index, uncompressed,", most)
    except (isal_zlib.error, zlib.error, EOFError, OSError) as error:
        raise FormatError("the index is truncated or damaged") from error
    return content
