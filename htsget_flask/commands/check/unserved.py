"""Files that look as if they were served and are not: `htsget-flask check` says why."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from htsget_flask.config import Config, LocalStorageConfig, PrefixConfig
from htsget_flask.datasets.catalog import Catalog
from htsget_flask.formats.table import ENDPOINTS, FORMATS

_BGZIP = "is not compressed: bgzip it, then index it"
_CONVERT = "is SAM, which is not served: convert it to BAM (`samtools sort -o x.bam x.sam`), then index it"
_ENTER = "give the server's user the rights to list and to enter it"
# By suffix: the endpoint that its data belong to, and the remedy.
_UNSERVED = {".vcf": ("variants", _BGZIP), ".sam": ("reads", _CONVERT)}
_SERVED = {
    endpoint: tuple(
        suffix for format_ in FORMATS.values() if format_.endpoint == endpoint for suffix in format_.suffixes
    )
    for endpoint in ENDPOINTS
}
_NAMED = (
    *_UNSERVED,
    *(suffix for format_ in FORMATS.values() for suffix in (*format_.suffixes, *format_.index_suffixes)),
)
_DATA = tuple(suffix for suffixes in _SERVED.values() for suffix in suffixes)


class UnservedFile(NamedTuple):
    """A file, link or folder that no request reaches."""

    location: str
    reason: str


def unserved_files(config: Config, catalog: Catalog) -> Iterator[UnservedFile]:
    """The files of datasets that no request reaches, then what else is not served of the folders that are served."""
    # Storages that cannot be listed are reported with the files that can be served.
    for source, reason in catalog.unreachable(on_fault=lambda _: None):
        yield UnservedFile(source.location, reason)
    wanted = {entry.storage for entry in config.datasets if isinstance(entry, PrefixConfig)}
    for name, storage in config.storages.items():
        if name in wanted and isinstance(storage, LocalStorageConfig):
            yield from _below(os.path.realpath(storage.root))


def _below(root: str) -> Iterator[UnservedFile]:
    """What a folder holds that is not served, hidden files aside."""
    faults: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=faults.append):
        if not os.access(folder, os.X_OK):
            yield UnservedFile(folder, f"cannot be entered, so that nothing in it is served: {_ENTER}")
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name[0] != ".")
        present = set(names)
        named = sorted(name for name in names if name[0] != "." and name.lower().endswith(_NAMED))
        for name in (*folders, *named):
            path = os.path.join(folder, name)
            reason = _link_fault(path, root) if os.path.islink(path) else None
            if reason is None and name in present:
                reason = _name_fault(name, present)
            if reason is not None:
                yield UnservedFile(path, reason)
    for fault in faults:
        remedy = f"; {_ENTER}" if isinstance(fault, PermissionError) else ""
        reason = f"cannot be listed, so that nothing in it is served: {fault.strerror}{remedy}"
        yield UnservedFile(str(fault.filename), reason)


def _link_fault(path: str, root: str) -> str | None:
    target = os.path.realpath(path)
    if not os.path.exists(target):
        return f"is a link to {target}, which does not exist or cannot be reached"
    if not Path(target).is_relative_to(root):
        return "leads out of the folder; serve the folder that it points into"
    return None


def _name_fault(name: str, present: set[str]) -> str | None:
    stem, suffix = os.path.splitext(name)
    if suffix in _UNSERVED:
        endpoint, mend = _UNSERVED[suffix]
        return mend if present.isdisjoint(stem + served for served in _SERVED[endpoint]) else None
    lower = next((suffix for suffix in _DATA if name.lower().endswith(suffix)), "")
    if lower and not name.endswith(lower):
        return f"its suffix is not in lower case: rename it to {name[: -len(lower)]}{lower}"
    return None
