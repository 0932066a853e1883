"""Files below a folder that look as if they were served and are not: `htsget-flask check` says why."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from htsget_flask.config import Config, LocalStorageConfig, PrefixConfig
from htsget_flask.formats import ENDPOINTS, FORMATS

_BGZIP = "is not compressed: bgzip it, then index it"
_CONVERT = "is SAM, which is not served: convert it to BAM (`samtools sort -o x.bam x.sam`), then index it"
# By suffix: at which endpoint it is looked for in vain, and how it is mended.
_UNSERVED = {".vcf": ("variants", _BGZIP), ".sam": ("reads", _CONVERT)}
_SERVED = {
    endpoint: tuple(suffix for form in FORMATS.values() if form.endpoint == endpoint for suffix in form.suffixes)
    for endpoint in ENDPOINTS
}
_NAMED = (*_UNSERVED, *(suffix for form in FORMATS.values() for suffix in (*form.suffixes, *form.index_suffixes)))


class Overlooked(NamedTuple):
    """A file or a link that a folder holds in vain."""

    location: str
    reason: str


def overlooked(config: Config) -> Iterator[Overlooked]:
    """What the folders that are served as a whole hold in vain; hidden files aside."""
    wanted = {entry.storage for entry in config.datasets if isinstance(entry, PrefixConfig)}
    for name, storage in config.storages.items():
        if name in wanted and isinstance(storage, LocalStorageConfig):
            yield from _below(os.path.realpath(storage.root))


def _below(root: str) -> Iterator[Overlooked]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        present = set(names)
        named = sorted(name for name in names if name[0] != "." and name.endswith(_NAMED))
        for name in (*folders, *named):
            path = os.path.join(folder, name)
            stem, suffix = os.path.splitext(name)
            if os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(root):
                yield Overlooked(path, "leads out of the folder; serve the folder that it points into")
            elif suffix in _UNSERVED and name in present:
                endpoint, mend = _UNSERVED[suffix]
                if present.isdisjoint(stem + served for served in _SERVED[endpoint]):
                    yield Overlooked(path, mend)
