"""The index of a data file: found, read once for each version of data and index, and stored as arrays in a sidecar."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from htsget_flask import array_file
from htsget_flask.datasets.source import Source
from htsget_flask.errors import FileFaultError, NotFound
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.index import Index
from htsget_flask.formats.unpacking import check_size
from htsget_flask.storage import Stat, VersionError

log = logging.getLogger(__name__)

# In bytes; the pages of a mapped index are shared by all workers.
_MAPPED_COST = 64 << 10
# Part of a sidecar's version, as are the arrays' names: to be raised when the meaning of an array changes.
_SIDECAR_VERSION = 1


class IndexFile(NamedTuple):
    """One version of an index file that exists."""

    key: str
    stat: Stat


def find_index(source: Source, stat: Stat, *, fresh: bool) -> IndexFile:
    """The first index under a usual name that is not older than its data, where the storage knows their ages.

    Ages are compared in whole seconds, as by htslib: tools write data and index within one second.

    Raises:
        FileFaultError: when there is none; VersionError unless `fresh`, as the remembered versions may be old.
    """
    older = None
    storage = source.storage
    for key in source.index_keys:
        try:
            index_stat = source.stat(key, fresh=fresh)
        except NotFound:
            continue
        if not storage.mtime_is_meaningful or int(index_stat.modified) >= int(stat.modified):
            return IndexFile(key, index_stat)
        older = older or key
    if not fresh:
        raise VersionError(source.key)
    if older is not None:
        raise FileFaultError(
            f"the index of the {source.format.name} file is older than its data", location=storage.location(older)
        )
    raise FileFaultError(f"the {source.format.name} file has no index", location=source.location)


def load_index(
    source: Source, stat: Stat, index_file: IndexFile, sidecars: Path | None, check: Callable[[Index | Crai], None]
) -> Index | Crai:
    """The index from its sidecar, or read; `check` is called once for each version of data and index.

    Without a folder for sidecars the index is in the memory of this process alone.

    Raises:
        FormatError: when the index is damaged or too large, or `check` refuses it.
    """
    if sidecars is None:
        return _read(source, index_file, check)
    kind, location = source.format.index_type, source.storage.location(index_file.key)
    path = sidecars / hashlib.sha256(location.encode("utf-8", "surrogateescape")).hexdigest()[:40]
    names = ",".join(field.name for field in fields(kind))
    version = f"{_SIDECAR_VERSION} {names} {stat.etag} {index_file.stat.etag}"
    arrays = array_file.load(path, version)
    if arrays is None:
        index = _read(source, index_file, check)
        try:
            array_file.store(path, version, index.arrays())
        except OSError as error:
            log.warning("indexes are not cached between runs: the cache folder cannot be written: %s", error)
            return index
        arrays = array_file.load(path, version)
    return index if arrays is None else kind.from_arrays(arrays)


def _read(source: Source, index_file: IndexFile, check: Callable[[Index | Crai], None]) -> Index | Crai:
    check_size(index_file.stat.size, "the index")
    with source.open(index_file.key, etag=index_file.stat.etag) as file:
        # The file may grow while it is read.
        index = source.format.read_index(file.read(index_file.stat.size))
    check(index)
    return index


def private_bytes(index: Index | Crai) -> int:
    """The memory of an index in bytes that no other process shares."""
    arrays = index.arrays().values()
    mapped = all(array.base is not None for array in arrays if array.nbytes)
    return _MAPPED_COST if mapped else sum(array.nbytes for array in arrays)
