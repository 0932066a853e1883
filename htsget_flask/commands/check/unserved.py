"""Files that look as if they were served but are not, and why."""

import os
from collections.abc import Iterator
from pathlib import Path

from htsget_flask.config import Config, LocalStorageConfig, PrefixConfig
from htsget_flask.datasets.catalog import Catalog
from htsget_flask.formats.table import FORMATS

_BGZIP = "is not compressed: compress it with bgzip, then index it"
_CONVERT = "is SAM, which is not served: convert it to BAM (`samtools sort -o x.bam x.sam`), then index it"
_GRANT_ACCESS = "give the server's user the rights to list and to enter it"
# By suffix: the endpoint of such data, and the remedy.
_REMEDIES = {".vcf": ("variants", _BGZIP), ".sam": ("reads", _CONVERT)}
# The suffixes of data files, with their endpoints.
_DATA_SUFFIXES = {suffix: format_.endpoint for format_ in FORMATS.values() for suffix in format_.suffixes}
_INDEX_SUFFIXES = {suffix for format_ in FORMATS.values() for suffix in format_.index_suffixes}
_SUFFIXES = (*_REMEDIES, *_DATA_SUFFIXES, *_INDEX_SUFFIXES)


def unserved_files(config: Config, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """The files of datasets that no request reaches, then what else in the folders of datasets is not served.

    Each file, link or folder with the reason.
    """
    # check_files reports the storages that cannot be listed.
    for source, reason in catalog.unreachable(on_fault=lambda _: None):
        yield source.location, reason
    prefix_storages = {entry.storage for entry in config.datasets if isinstance(entry, PrefixConfig)}
    for name, storage in config.storages.items():
        if name in prefix_storages and isinstance(storage, LocalStorageConfig):
            yield from _find_unserved(os.path.realpath(storage.root))


def _find_unserved(root: str) -> Iterator[tuple[str, str]]:
    """What is not served in a folder, except hidden files."""
    faults: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=faults.append):
        if not os.access(folder, os.X_OK):
            yield folder, f"cannot be entered, so nothing in it is served: {_GRANT_ACCESS}"
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name[0] != ".")
        existing = set(names)
        candidates = sorted(name for name in names if name[0] != "." and name.lower().endswith(_SUFFIXES))
        for name in (*folders, *candidates):
            path = os.path.join(folder, name)
            reason = _link_fault(path, root) if os.path.islink(path) else None
            if reason := reason or (_name_fault(name, existing) if name in existing else None):
                yield path, reason
    for fault in faults:
        remedy = f"; {_GRANT_ACCESS}" if isinstance(fault, PermissionError) else ""
        yield str(fault.filename), f"cannot be listed, so nothing in it is served: {fault.strerror}{remedy}"


def _link_fault(path: str, root: str) -> str | None:
    target = os.path.realpath(path)
    if not os.path.exists(target):
        return f"is a link to {target}, which does not exist or cannot be reached"
    if not Path(target).is_relative_to(root):
        return "is a link out of the folder; serve the folder that it points to"
    return None


def _name_fault(name: str, existing: set[str]) -> str | None:
    stem, suffix = os.path.splitext(name)
    if suffix in _REMEDIES:
        endpoint, remedy = _REMEDIES[suffix]
        is_served = any(stem + other in existing for other in _DATA_SUFFIXES if _DATA_SUFFIXES[other] == endpoint)
        return None if is_served else remedy
    lower = next((suffix for suffix in _DATA_SUFFIXES if name.lower().endswith(suffix)), "")
    if lower and not name.endswith(lower):
        return f"its suffix is not in lower case: rename it to {name[: -len(lower)]}{lower}"
    return None
