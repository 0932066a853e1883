"""Arrays in a file of their own, mapped into memory: opened in no time, and shared by all workers.

Layout, little endian: magic, version of the source, names, types and places of the arrays as JSON; then the arrays,
each aligned to 64 bytes. A checksum over everything behind it tells a damaged file.
"""

import contextlib
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from isal import isal_zlib

_MAGIC = b"HTSGETF1"
_HEAD = struct.Struct("<8sIQI")  # magic, checksum, size of the file, size of the JSON
_CHECKED_FROM = 12
_ALIGNMENT = 64
_MOST_JSON = 1 << 20


def load(path: Path, version: str) -> dict[str, npt.NDArray[np.generic]] | None:
    """The arrays of the file, mapped; None when it is absent, unreadable, damaged or made of another version."""
    try:
        with path.open("rb") as file:
            mapped = _map(file.fileno())
        magic, checksum, size, json_size = _HEAD.unpack_from(mapped)
        if magic != _MAGIC or size != len(mapped) or json_size > _MOST_JSON:
            return None
        content = memoryview(mapped)[_CHECKED_FROM:]
        json_start = _HEAD.size - _CHECKED_FROM
        description = orjson.loads(content[json_start : json_start + json_size])
        if description["version"] != version or isal_zlib.crc32(content) != checksum:
            return None
        # Pages that were looked at for the checksum only are not to stay this process's.
        mapped.madvise(mmap.MADV_DONTNEED)
        return {
            name: np.frombuffer(mapped, dtype=kind, count=count, offset=offset).reshape(shape)
            for name, kind, shape, count, offset in description["arrays"]
        }
    except (OSError, struct.error, ValueError, TypeError, KeyError):
        return None


def _map(descriptor: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def store(path: Path, version: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Write the arrays to a file, atomically.

    Raises:
        OSError: when the folder cannot be written; nothing of the file is left then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = _serialise(version, arrays)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(content)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _serialise(version: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> list[bytes | memoryview]:
    def describe(start: int) -> tuple[list[list[Any]], int]:
        listed, offset = [], start
        for name, array in arrays.items():
            offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
            listed.append([name, array.dtype.str, list(array.shape), array.size, offset])
            offset += array.nbytes
        return listed, offset

    # The offsets stand in the JSON, whose size moves them: enough room is left for it.
    room = len(orjson.dumps({"version": version, "arrays": describe(1 << 40)[0]})) + _ALIGNMENT
    listed, size = describe(_HEAD.size + room)
    json = orjson.dumps({"version": version, "arrays": listed}).ljust(room)
    pieces: list[bytes | memoryview] = [json]
    position = _HEAD.size + room
    for array, (*_, offset) in zip(arrays.values(), listed, strict=True):
        pieces += [bytes(offset - position), array.reshape(-1).view(np.uint8).data]
        position = offset + array.nbytes
    head = _HEAD.pack(_MAGIC, 0, size, room)
    checksum = isal_zlib.crc32(head[_CHECKED_FROM:])
    for piece in pieces:
        checksum = isal_zlib.crc32(piece, checksum)
    return [_HEAD.pack(_MAGIC, checksum, size, room), *pieces]
