"""Arrays in one memory-mapped file: opened at once, whatever their size, and shared by all workers.

Layout, little endian: magic, checksum, sizes; as JSON the version of the source, and name, type and offset of each
array; then the arrays, each aligned to 64 bytes. The checksum of all that follows it detects a damaged file.
"""

import contextlib
import mmap
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import deflate
import numpy as np
import numpy.typing as npt
import orjson

from htsget_flask.replacement import replacement

_MAGIC = b"HTSGETF1"
_HEAD = struct.Struct("<8sIQI")  # magic, checksum, size of the file, size of the JSON
_CHECKED_FROM = 12
_ALIGNMENT = 64
_MAX_JSON = 1 << 20
_OTHERS_WRITE = 0o022

A = TypeVar("A", bound="ArrayFields")


class ArrayFields:
    """A dataclass whose fields are arrays, which are stored under the names of their fields."""

    __slots__ = ()

    @classmethod
    def from_arrays(cls: type[A], arrays: Mapping[str, npt.NDArray[np.generic]]) -> A:
        """The object whose fields are these arrays."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls) if field.init})  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]


def distrust(folder: Path) -> str | None:
    """Why files in a folder cannot be trusted; None where only this user and root can have written them.

    An absent folder is created.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        stat = folder.stat()
    except OSError:
        # Nothing in it can be read either.
        return None
    if stat.st_uid not in (0, os.geteuid()):
        return f"belongs to another user ({stat.st_uid})"
    return None if is_private(stat) else "may be written by other users"


def is_private(stat: os.stat_result) -> bool:
    """Whether only this user and root can have written a file, or written into a folder."""
    return stat.st_uid in (0, os.geteuid()) and not stat.st_mode & _OTHERS_WRITE


def load(path: Path, version: str) -> dict[str, npt.NDArray[np.generic]] | None:
    """The arrays of the file, mapped; None when it is absent, unreadable, damaged or of another version of the source.

    A checksum does not authenticate: a file that another user can have written is not read, nor is a link.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not is_private(os.fstat(file.fileno())):
                return None
            mapped = _map(file.fileno())
        magic, checksum, size, json_size = _HEAD.unpack_from(mapped)
        if magic != _MAGIC or size != len(mapped) or json_size > _MAX_JSON:
            return None
        content = memoryview(mapped)[_CHECKED_FROM:]
        json_start = _HEAD.size - _CHECKED_FROM
        description = orjson.loads(content[json_start : json_start + json_size])
        if description["version"] != version or deflate.crc32(content) != checksum:
            return None
        # Pages that only the checksum has read are not to stay in this process's memory.
        mapped.madvise(mmap.MADV_DONTNEED)
        return {
            name: np.frombuffer(mapped, dtype=dtype, count=count, offset=offset).reshape(shape)
            for name, dtype, shape, count, offset in description["arrays"]
        }
    except (OSError, struct.error, ValueError, TypeError, KeyError):
        return None


def _map(descriptor: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def store(path: Path, version: str, arrays: Mapping[str, npt.NDArray[np.generic]], *, mode: int = 0o600) -> None:
    """Write the arrays to a file with these permissions, atomically.

    Raises:
        OSError: when the folder cannot be written; no part of the file remains then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = _serialise(version, arrays)
    with replacement(path, mode=mode) as file:
        file.writelines(content)


def _serialise(version: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> list[bytes | memoryview]:
    def describe(start: int) -> tuple[list[list[Any]], int]:
        entries, offset = [], start
        for name, array in arrays.items():
            offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
            entries.append([name, array.dtype.str, list(array.shape), array.size, offset])
            offset += array.nbytes
        return entries, offset

    # The JSON contains the offsets, which depend on its size: it gets room for the longest ones.
    room = len(orjson.dumps({"version": version, "arrays": describe(1 << 40)[0]})) + _ALIGNMENT
    entries, size = describe(_HEAD.size + room)
    json = orjson.dumps({"version": version, "arrays": entries}).ljust(room)
    buffers: list[bytes | memoryview] = [json]
    position = _HEAD.size + room
    for array, (*_, offset) in zip(arrays.values(), entries, strict=True):
        buffers += [bytes(offset - position), array.reshape(-1).view(np.uint8).data]
        position = offset + array.nbytes
    head = _HEAD.pack(_MAGIC, 0, size, room)
    checksum = deflate.crc32(head[_CHECKED_FROM:])
    for buffer in buffers:
        checksum = deflate.crc32(buffer, checksum)
    return [_HEAD.pack(_MAGIC, checksum, size, room), *buffers]
