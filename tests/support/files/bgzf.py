"""BGZF blocks, and files of them."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_BLOCK_DATA = 65280
"""How much data samtools, bgzip and Picard put into one BGZF block at most."""

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty BGZF block which marks the end of a file."""


def bgzf_block(data: bytes, level: int = 6) -> bytes:
    """One BGZF block which holds the data."""
    if len(data) > MAX_BLOCK_DATA:
        raise ValueError(f"{len(data)} bytes are too many for one BGZF block")
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    deflated = compressor.compress(data) + compressor.flush()
    size = len(deflated) + 26
    if size > 0x10000:
        return bgzf_block(data, level=0)
    head = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, ord("B"), ord("C"), 2, size - 1)
    return head + deflated + struct.pack("<2I", zlib.crc32(data), len(data))


def write_bgzf(path: Path, parts: Iterable[bytes], eof: bool = True, level: int = 6) -> None:
    """Write a BGZF file in which each part of the data has its own block."""
    with path.open("wb") as file:
        for part in parts:
            # Stored, so that an empty block in mid-file does not have the very bytes of the end marker.
            file.write(bgzf_block(part, level if part else 0))
        if eof:
            file.write(BGZF_EOF)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """The data in parts of this size, the last one shorter."""
    for offset in range(0, len(data), size):
        yield data[offset : offset + size]


def cut_unevenly(data: bytes, smallest: int, largest: int, seed: str) -> Iterator[bytes]:
    """The data in parts of random sizes."""
    rng = random.Random(seed)
    offset = 0
    while offset < len(data):
        size = rng.randint(smallest, largest)
        yield data[offset : offset + size]
        offset += size


def bgzf_data(path: Path) -> bytes:
    """All the data of a BGZF file."""
    return gzip.decompress(path.read_bytes())
