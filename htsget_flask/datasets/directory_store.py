"""The directory of a file's BGZF blocks, stored in segments: one array file each, in the cache folder."""

import hashlib
import logging
import math
from pathlib import Path

from htsget_flask import array_file
from htsget_flask.records.directory import NO_ROWS, Segment

log = logging.getLogger(__name__)

# Part of a segment's version: to be raised when the meaning of its rows changes.
_SEGMENT_VERSION = 1
# Each time it is stored, a segment has about a quarter more rows: writing a file takes as long as making many rows.
_STORES_PER_E = 4.5


def is_worth_storing(before: int, after: int) -> bool:
    """Whether a segment whose rows became more in number is to be stored again."""
    return after > before and int(math.log(after) * _STORES_PER_E) > int(math.log(before or 1) * _STORES_PER_E)


def load_segment(sidecars: Path | None, location: str, number: int, etag: str) -> Segment:
    """The stored rows of this version of the file at a location; none if there is no folder, or nothing in it."""
    arrays = None if sidecars is None else array_file.load(_path(sidecars, location, number), _version(etag))
    return NO_ROWS if arrays is None else Segment.from_arrays(arrays)


def store_segment(sidecars: Path | None, location: str, number: int, etag: str, segment: Segment) -> None:
    """Store rows, if there is a folder; those that another worker stores at the same time may be lost."""
    if sidecars is None:
        return
    try:
        array_file.store(_path(sidecars, location, number), _version(etag), segment.arrays())
    except OSError as error:
        log.warning("the directory of BGZF blocks is not stored: the cache folder cannot be written: %s", error)


def _path(sidecars: Path, location: str, number: int) -> Path:
    name = f"{location}\0{number}".encode("utf-8", "surrogateescape")
    return sidecars / hashlib.sha256(name).hexdigest()[:40]


def _version(etag: str) -> str:
    return f"directory {_SEGMENT_VERSION} {etag}"
