"""Where the sequences of a configuration come from: its FASTA files, with their indexes, and its store."""

import contextlib
import fcntl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from htsget_flask.config import RefgetConfig
from htsget_flask.errors import FileFaultError, FormatError, NotFound, StorageError
from htsget_flask.formats.fasta import is_fasta
from htsget_flask.formats.unpacking import check_size
from htsget_flask.sequences.fasta_files import abbreviate, build_index, find_faults, load_index, save_index
from htsget_flask.sequences.fasta_index import FastaIndex
from htsget_flask.sequences.lookup import FastaFile, SequenceStore
from htsget_flask.sequences.store import LIST_NAME, find_incomplete, parse_store
from htsget_flask.storage import Stat, Storage, VersionError

_READ_ERRORS = (OSError, StorageError, VersionError, NotFound)


class SourceReport(NamedTuple):
    """The state of a source: how many sequences it has, None where it cannot be served; its faults.

    `is_file`: whether it is one FASTA file; else all those of a prefix, or a store. `is_broken`: requests for some of
    its sequences fail.
    """

    location: str
    sequences: int | None
    faults: Sequence[str]
    is_file: bool = True
    is_broken: bool = False


class FastaVersion(NamedTuple):
    """A version of a FASTA file, and the index of its entry in the configuration."""

    entry: int
    storage: Storage
    key: str
    stat: Stat


CheckedFasta = tuple[FastaFile | None, SourceReport]
"""A FASTA file, None where it cannot be served, and its state."""


class Sources:
    """The FASTA files and the store of a configuration. Methods append what cannot be read to `failures`, and go on."""

    def __init__(self, config: RefgetConfig, storages: Mapping[str, Storage], cache_folder: Path | None) -> None:
        self._config, self._storages, self._cache_folder = config, storages, cache_folder
        self._store: tuple[Stat, SequenceStore] | None = None

    def list_fastas(self, failures: list[SourceReport]) -> Iterator[FastaVersion]:
        """The FASTA files that exist now; a file of several entries belongs to the first one."""
        listed: set[tuple[str, str]] = set()
        for number, entry in enumerate(self._config.fastas):
            storage = self._storages[entry.storage]
            try:
                files: Iterable[tuple[str, Stat]]
                if entry.key is not None:
                    files = [(entry.key, storage.stat(entry.key))]
                else:
                    files = (file for file in storage.entries(entry.prefix or "") if is_fasta(file.key))
                for key, stat in files:
                    if (entry.storage, key) not in listed:
                        listed.add((entry.storage, key))
                        yield FastaVersion(number, storage, key, stat)
            except _READ_ERRORS as error:
                failures.append(_unreadable(storage.location(entry.key or ""), error))

    def load_fasta(self, version: FastaVersion) -> CheckedFasta | None:
        """A FASTA file with its saved index; None if there is none."""
        index = load_index(version.storage, version.key, version.stat, self._cache_folder)
        return None if index is None else self._check(version, index)

    def index_fasta(self, version: FastaVersion, failures: list[SourceReport]) -> CheckedFasta | None:
        """A FASTA file with an index built now, by reading all of it, and saved; None if it cannot be read."""
        _, storage, key, stat = version
        try:
            with self._index_lock():
                # Another process may have built it meanwhile.
                if saved := self.load_fasta(version):
                    return saved
                index = build_index(storage, key, stat)
                save_index(storage, key, stat, index, self._cache_folder, next_to_file=False)
        except FileFaultError as fault:
            return None, SourceReport(fault.location, None, [fault.reason])
        except _READ_ERRORS as error:
            failures.append(_unreadable(storage.location(key), error))
            return None
        # The saved one is mapped: processes share its memory.
        return self.load_fasta(version) or self._check(version, index)

    @contextlib.contextmanager
    def _index_lock(self) -> Iterator[None]:
        """Held by one process at a time; by several if no file can be locked in the cache folder."""
        with contextlib.ExitStack() as stack:
            if self._cache_folder is not None:
                with contextlib.suppress(OSError):
                    self._cache_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    file = stack.enter_context((self._cache_folder / "refget.lock").open("wb"))
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _check(self, version: FastaVersion, index: FastaIndex) -> CheckedFasta:
        entry, faults = self._config.fastas[version.entry], []
        fasta = FastaFile(*version[1:], index, namespace=entry.namespace)
        if entry.circular or entry.aliases:
            rows = {name: row for row, name in reversed(list(enumerate(index.all_names())))}
            circular = frozenset(rows[name] for name in entry.circular if name in rows)
            aliases = {rows[name]: tuple(curies) for name, curies in entry.aliases.items() if name in rows}
            fasta = replace(fasta, circular=circular, aliases=aliases)
            unknown = [name for name in entry.names() if name not in rows]
            if unknown and entry.key is not None:
                faults.append(f"has no sequence {abbreviate(unknown)}, which the configuration names")
        faults += find_faults(fasta)
        return fasta, SourceReport(fasta.location(), len(index), faults)

    def find_unknown_names(self, fastas: Mapping[FastaVersion, CheckedFasta | None]) -> Iterator[SourceReport]:
        """The entries with a prefix that name sequences which none of their files has; needs all files."""
        for number, entry in enumerate(self._config.fastas):
            checked = [fasta[0] for version, fasta in fastas.items() if fasta is not None and version.entry == number]
            usable = [fasta for fasta in checked if fasta is not None]
            if entry.prefix is None or len(usable) < len(checked):
                continue
            names = {fasta.index.name(row) for fasta in usable for row in (*fasta.circular, *fasta.aliases)}
            if unknown := [name for name in entry.names() if name not in names]:
                count = sum(len(fasta.index) for fasta in usable)
                fault = f"no file has a sequence {abbreviate(unknown)}, which the configuration names"
                yield SourceReport(self._storages[entry.storage].location(entry.prefix), count, [fault], is_file=False)

    def load_store(self, failures: list[SourceReport]) -> SequenceStore | None:
        """The store as its list is now, or as it was last if the list cannot be read."""
        store = self._config.store
        if store is None:
            return None
        storage = self._storages[store.storage]
        key = store.prefix + LIST_NAME
        try:
            stat = storage.stat(key)
            if self._store is None or self._store[0] != stat:
                check_size(stat.size, "the list of sequences")
                with storage.open(key, etag=stat.etag) as file:
                    self._store = stat, parse_store(storage, store.prefix, file.read())
        except (*_READ_ERRORS, FormatError) as error:
            failures.append(_unreadable(storage.location(key), error)._replace(is_file=False))
        return None if self._store is None else self._store[1]

    def check_store(self) -> SourceReport | None:
        """The state of the store, with a check of the file of each sequence; None where no store was loaded."""
        if self._store is None:
            return None
        store = self._store[1]
        faults, is_broken = [], False
        try:
            if incomplete := list(find_incomplete(store)):
                faults.append(f"sequences of its list are missing or incomplete: {abbreviate(incomplete)}")
                is_broken = True
        except (OSError, StorageError) as error:
            faults.append(f"its files cannot be checked: {getattr(error, 'strerror', None) or error}")
        location = store.storage.location(store.prefix)
        return SourceReport(location, len(store.lengths), faults, is_file=False, is_broken=is_broken)


def _unreadable(location: str, error: Exception) -> SourceReport:
    if isinstance(error, VersionError):
        return SourceReport(location, None, ["was replaced while it was read"])
    reason = "it does not exist" if isinstance(error, NotFound) else getattr(error, "strerror", None) or str(error)
    return SourceReport(location, None, [f"cannot be read: {reason}"])
