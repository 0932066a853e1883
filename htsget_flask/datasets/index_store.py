"""The index of a data file: found, and read once for these versions of data and index (the rest is a sidecar's)."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, TypeVar

from htsget_flask import array_file as sidecar
from htsget_flask.datasets.catalog import Source
from htsget_flask.errors import FileFaultError, NotFound
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.index import Index
from htsget_flask.formats.unpacking import check_size
from htsget_flask.storage import Stat, VersionError

log = logging.getLogger(__name__)
IndexT = TypeVar("IndexT", Index, Crai)

# A mapped index also holds pages, which all workers share.
_MAPPED_COST = 64 << 10
# Part of a sidecar's version, as are the arrays' names: to be raised when the arrays change their meaning.
_SIDECAR_VERSION = 1


class FoundIndex(NamedTuple):
    """An index file that exists, in its present version."""

    key: str
    stat: Stat


def find_index(source: Source, stat: Stat, *, fresh: bool) -> FoundIndex:
    """The first index under a usual name that is not older than its data, where the storage tells ages.

    They count in whole seconds, as for htslib: tools write data and index within one.

    Raises:
        FileFaultError: when there is none; VersionError when that has to be looked at freshly.
    """
    older = None
    storage = source.storage
    for key in source.index_keys:
        try:
            found = source.stat(key, fresh=fresh)
        except NotFound:
            continue
        if not storage.mtime_is_meaningful or int(found.modified) >= int(stat.modified):
            return FoundIndex(key, found)
        older = older or key
    if not fresh:
        raise VersionError(source.key)
    if older is not None:
        raise FileFaultError(
            f"the index of the {source.format.name} file is older than its data", location=storage.location(older)
        )
    raise FileFaultError(f"the {source.format.name} file has no index", location=source.location)


def load_index(
    source: Source,
    stat: Stat,
    found: FoundIndex,
    sidecars: Path | None,
    kind: type[IndexT],
    read: Callable[[bytes], IndexT],
    check: Callable[[IndexT], None],
) -> IndexT:
    """The index, of its sidecar or read; `check` looks at it once for these versions of data and index.

    Without a folder for sidecars it is in this process's memory alone.

    Raises:
        FormatError: when it is damaged or too large, or is refused by `check`.
    """
    if sidecars is None:
        return _read(source, found, read, check)
    location = source.storage.location(found.key)
    path = sidecars / hashlib.sha256(location.encode("utf-8", "surrogateescape")).hexdigest()[:40]
    names = ",".join(field.name for field in fields(kind))
    version = f"{_SIDECAR_VERSION} {names} {stat.etag} {found.stat.etag}"
    arrays = sidecar.load(path, version)
    if arrays is None:
        index = _read(source, found, read, check)
        try:
            sidecar.store(path, version, index.arrays())
        except OSError as error:
            log.warning("indexes are not kept between runs: the cache folder cannot be written: %s", error)
            return index
        arrays = sidecar.load(path, version)
        if arrays is None:
            return index
    return kind.from_arrays(arrays)


def _read(
    source: Source, found: FoundIndex, read: Callable[[bytes], IndexT], check: Callable[[IndexT], None]
) -> IndexT:
    check_size(found.stat.size, "the index")
    with source.open(found.key, etag=found.stat.etag) as file:
        # It may grow meanwhile.
        index = read(file.read(found.stat.size))
    check(index)
    return index


def private_bytes(index: Index | Crai) -> int:
    """What an index costs in bytes of memory that no other process shares."""
    arrays = index.arrays().values()
    mapped = all(array.base is not None for array in arrays if array.nbytes)
    return _MAPPED_COST if mapped else sum(array.nbytes for array in arrays)
