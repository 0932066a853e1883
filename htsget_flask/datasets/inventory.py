"""Searches over the datasets of the catalog, and the FASTA files of storages; both are rescanned now and then."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from htsget_flask.config import DatasetConfig
from htsget_flask.datasets.catalog import Catalog
from htsget_flask.datasets.source import Source
from htsget_flask.errors import StorageError
from htsget_flask.formats.fasta import COMPRESSED, is_fasta
from htsget_flask.formats.table import FORMATS
from htsget_flask.storage import Storage

log = logging.getLogger(__name__)
T = TypeVar("T")

# Upper bound on the share of time spent rescanning; small folders are rescanned on every request.
_MAX_SCAN_SHARE = 0.05
_UNLISTED = "a storage cannot be listed: %s"


class DatasetSummary(NamedTuple):
    """A dataset: its id, name and description, its files in the order of the formats, and the `text` to search in."""

    id: str
    name: str | None
    description: str | None
    sources: Sequence[Source]
    text: str


class SearchResult(NamedTuple):
    """The datasets that a search found; unless `is_complete`, a storage could not be listed and may hold more."""

    datasets: Sequence[DatasetSummary]
    is_complete: bool


class Inventory:
    """The datasets of a catalog, to search in; each worker scans for itself."""

    def __init__(self, catalog: Catalog, storages: Mapping[str, Storage]) -> None:
        self._catalog = catalog
        self._datasets = _Rescanned(self._find_datasets)
        self._fastas = {name: _Rescanned(partial(_find_fastas, storage)) for name, storage in storages.items()}

    def search(self, text: str) -> SearchResult:
        """The datasets whose id, name and description contain all words of the text; case is ignored."""
        words = set(text.casefold().split())
        datasets, is_complete = self._datasets.value()
        return SearchResult([found for found in datasets if all(word in found.text for word in words)], is_complete)

    def fastas(self, storage_name: str) -> Sequence[str]:
        """The keys of the storage's FASTA files that have an index next to them."""
        return self._fastas[storage_name].value()

    def _find_datasets(self) -> SearchResult:
        faults: list[OSError | StorageError] = []
        sources: dict[str, list[Source]] = {}
        for source in self._catalog.sources(on_fault=faults.append):
            sources.setdefault(source.id, []).append(source)
        for fault in faults:
            log.error(_UNLISTED, fault)
        order = list(FORMATS)
        for files in sources.values():
            files.sort(key=lambda source: order.index(source.format.name))
        return SearchResult([self._summary(dataset_id, files) for dataset_id, files in sources.items()], not faults)

    def _summary(self, dataset_id: str, sources: list[Source]) -> DatasetSummary:
        entry = self._catalog.entry_of(dataset_id)
        name = entry.name if isinstance(entry, DatasetConfig) else None
        description = entry.description if entry is not None else None
        text = "\n".join(filter(None, (dataset_id, name, description))).casefold()
        return DatasetSummary(dataset_id, name, description, sources, text)


def _find_fastas(storage: Storage) -> list[str]:
    try:
        keys = {entry.key for entry in storage.entries()}
    except (OSError, StorageError) as error:
        log.error(_UNLISTED, error)
        return []
    return sorted(
        key
        for key in keys
        if is_fasta(key) and key + ".fai" in keys and (not key.endswith(COMPRESSED) or key + ".gzi" in keys)
    )


class _Rescanned(Generic[T]):
    """The value of a slow function, cached for as long as `_MAX_SCAN_SHARE` demands; threads wait for one call."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._cached: tuple[float, T] | None = None

    def value(self) -> T:
        start = time.monotonic()
        with self._lock:
            if self._cached is None or self._cached[0] < start:
                value = self._make()
                end = time.monotonic()
                self._cached = (end + (end - start) / _MAX_SCAN_SHARE, value)
            return self._cached[1]
