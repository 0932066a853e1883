"""The directory of a file's BGZF blocks, stored in segments: one array file each, in the cache folder."""

import hashlib
import logging
from pathlib import Path

from htsget_flask import array_file
from htsget_flask.records.directory import NO_ROWS, Segment

log = logging.getLogger(__name__)

# Part of a segment's version: to be raised when the meaning of its rows changes.
_SEGMENT_VERSION = 1


def segment_path(sidecars: Path | None, location: str, number: int) -> Path | None:
    """Where a segment of the file at a location is stored; None without a folder."""
    if sidecars is None:
        return None
    name = f"{location}\0{number}".encode("utf-8", "surrogateescape")
    return sidecars / hashlib.sha256(name).hexdigest()[:40]


def load_segment(path: Path | None, etag: str) -> Segment:
    """The stored rows of this version of the data; none if there is no such file."""
    arrays = None if path is None else array_file.load(path, _version(etag))
    return NO_ROWS if arrays is None else Segment.from_arrays(arrays)


def store_segment(path: Path | None, etag: str, segment: Segment) -> None:
    """Store rows, if there is a folder; those that another worker stores at the same time may be lost."""
    if path is None:
        return
    try:
        array_file.store(path, _version(etag), segment.arrays())
    except OSError as error:
        log.warning("the directory of BGZF blocks is not stored: the cache folder cannot be written: %s", error)


def _version(etag: str) -> str:
    return f"directory {_SEGMENT_VERSION} {etag}"
