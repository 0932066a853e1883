"""What there is below the prefixes of the configuration: datasets and reference sequences, remembered for a while."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from htsget_flask.config import DatasetConfig
from htsget_flask.datasets.catalog import Catalog, Source
from htsget_flask.errors import StorageError
from htsget_flask.formats.fasta import COMPRESSED, is_fasta
from htsget_flask.formats.table import FORMATS
from htsget_flask.storage import Storage

log = logging.getLogger(__name__)
T = TypeVar("T")

# Finding out again may take at most this part of the time: a small folder is read at each question.
_MAX_SCAN_SHARE = 0.05


class DatasetSummary(NamedTuple):
    """A dataset: its id, what people call it, its files in the order of the formats; `text` is what searches see."""

    id: str
    name: str | None
    description: str | None
    sources: Sequence[Source]
    text: str


class Found(NamedTuple):
    """Datasets that a search found; unless `is_complete` a storage could not be listed, and there may be more."""

    datasets: Sequence[DatasetSummary]
    is_complete: bool


class Inventory:
    """The datasets of a catalog, for people who look for one; each worker has its own memory of them."""

    def __init__(self, catalog: Catalog, storages: Mapping[str, Storage]) -> None:
        self._catalog = catalog
        self._datasets = _Remembered(self._find_datasets)
        self._fastas = {name: _Remembered(_fasta_finder(storage)) for name, storage in storages.items()}

    def search(self, text: str) -> Found:
        """The datasets in whose id, name or description all words of the text occur, whatever their case."""
        words = set(text.casefold().split())
        known = self._datasets.value()
        return Found(
            [listed for listed in known.datasets if all(word in listed.text for word in words)], known.is_complete
        )

    def fastas(self, storage_name: str) -> Sequence[str]:
        """The keys of the storage's FASTA files that have their index beside them."""
        return self._fastas[storage_name].value()

    def _find_datasets(self) -> Found:
        faults: list[OSError | StorageError] = []
        sources: dict[str, list[Source]] = {}
        for source in self._catalog.sources(on_fault=faults.append):
            sources.setdefault(source.id, []).append(source)
        for fault in faults:
            _log_fault(fault)
        order = list(FORMATS)
        for files in sources.values():
            files.sort(key=lambda source: order.index(source.format.name))
        return Found([self._listed(dataset_id, files) for dataset_id, files in sources.items()], not faults)

    def _listed(self, dataset_id: str, sources: list[Source]) -> DatasetSummary:
        entry = self._catalog.entry_of(dataset_id)
        name = entry.name if isinstance(entry, DatasetConfig) else None
        description = entry.description if entry is not None else None
        text = "\n".join(filter(None, (dataset_id, name, description))).casefold()
        return DatasetSummary(dataset_id, name, description, sources, text)


def _log_fault(error: OSError | StorageError) -> None:
    """A storage that cannot be listed does not take the others with it; its keeper is told."""
    log.error("a storage cannot be listed: %s", error)


def _fasta_finder(storage: Storage) -> Callable[[], list[str]]:
    def find() -> list[str]:
        try:
            keys = {entry.key for entry in storage.entries()}
        except (OSError, StorageError) as error:
            _log_fault(error)
            return []
        return sorted(
            key
            for key in keys
            if is_fasta(key) and key + ".fai" in keys and (not key.endswith(COMPRESSED) or key + ".gzi" in keys)
        )

    return find


class _Remembered(Generic[T]):
    """The value of a slow function, kept for as long as `_MAX_SCAN_SHARE` demands; threads wait for one call."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: tuple[float, T] | None = None

    def value(self) -> T:
        asked = time.monotonic()
        with self._lock:
            if self._kept is None or self._kept[0] < asked:
                value = self._make()
                made = time.monotonic()
                self._kept = (made + (made - asked) / _MAX_SCAN_SHARE, value)
            return self._kept[1]
