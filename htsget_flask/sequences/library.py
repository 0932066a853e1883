"""Which sequences there are: looked up again as files come and go, digested in the background where that takes long."""

import contextlib
import fcntl
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from htsget_flask.config import RefgetConfig, RefgetFastaConfig
from htsget_flask.errors import (
    FileFaultError,
    FormatError,
    NotFound,
    ServiceUnavailable,
    StorageError,
    printable,
)
from htsget_flask.formats.fasta import is_fasta
from htsget_flask.formats.unpacking import check_size
from htsget_flask.sequences.digests import parse_identifier
from htsget_flask.sequences.fasta_files import keep_table, known_table, make_table, oddities, some
from htsget_flask.sequences.fasta_index import Table
from htsget_flask.sequences.lookup import Fasta, Found, Sequences, Stored
from htsget_flask.sequences.store import LIST, faulty, read_store
from htsget_flask.storage import Stat, Storage, VersionError

log = logging.getLogger(__name__)

# So long requests wait for what is being looked up, in seconds: small files are digested by then.
_LOOKUP_TIMEOUT = 2.0
# After a look the next one waits so long, and so that all of them together take at most this part of the time.
_REST = 5.0
_MAX_SCAN_SHARE = 0.05
# An example is looked for in so many FASTA files, digested if they are of at most so many bytes.
_MAX_TRIED = 20
_QUICK = 16 << 20

_UNREADABLE = (OSError, StorageError, VersionError, NotFound)


class Known(NamedTuple):
    """What was found out of a source of sequences: how many it has, None where it cannot be served; its faults.

    `is_file`: whether it is one FASTA file; else all those of a prefix, or a store. `is_broken`: requests for some of
    its sequences fail.
    """

    location: str
    sequences: int | None
    faults: Sequence[str]
    is_file: bool = True
    is_broken: bool = False


class _Version(NamedTuple):
    """A version of a FASTA file, and the place of its entry in the configuration."""

    entry: int
    key: str
    stat: Stat


class Library:
    """The sequences of a configuration. Nothing is looked up before the first one is asked for, or `begin` is called.

    A FASTA file that was never seen is digested by one worker, while the others wait at a lock in the cache folder.
    """

    def __init__(self, config: RefgetConfig, storages: Mapping[str, Storage], folder: Path | None) -> None:
        self.config = config
        self._storages = storages
        self._folder = folder
        self._sequences = Sequences.of((), ())
        self._fastas: dict[_Version, tuple[Fasta | None, Known]] = {}
        self._stored: tuple[Stat, Stored] | None = None
        self._told: set[tuple[str, str]] = set()
        # Whether something could not be looked up: what is not found may be there all the same.
        self._is_unsure = False
        self._lock = threading.Lock()
        self._looking: threading.Thread | None = None
        self._began = self._rests_until = 0.0

    def find(self, text: str) -> Found:
        """The sequence that an identifier names.

        Raises:
            NotFound: when there is none.
            ServiceUnavailable: when that is not known: digests are being computed, or a file cannot be read.
        """
        found = self._sequences.find(text)
        if found is not None:
            return found
        if parse_identifier(text) is not None:
            looking = self.begin()
            if looking is not None:
                looking.join(max(0.0, self._began + _LOOKUP_TIMEOUT - time.monotonic()))
                found = self._sequences.find(text)
                if found is not None:
                    return found
                if looking.is_alive():
                    raise ServiceUnavailable("digests of sequences are still being computed; ask again")
            if self._is_unsure:
                raise ServiceUnavailable("not all sequences can be looked up now; ask again")
        raise NotFound(f"there is no sequence {text[:200]!r}")

    def has(self, text: str) -> bool:
        """Whether an identifier names a sequence that is known by now."""
        return self._sequences.find(text) is not None

    def files(self) -> Iterator[tuple[Storage, str]]:
        """The FASTA files that there are now, by storage and key; without those that cannot be looked up."""
        yield from ((self._storage(version), version.key) for version in self._versions([]))

    def example(self) -> str | None:
        """The MD5 of a sequence, if one is found quickly."""
        stored = self._look_at_store([])
        if stored is not None and len(stored.lengths):
            return str(stored.md5[0].tobytes().hex())
        for version in islice(self._versions([]), _MAX_TRIED):
            is_quick = version.stat.size <= _QUICK and not self._storage(version).reads_are_requests
            try:
                known = self._kept(version) or (self._digested(version) if is_quick else None)
            except _UNREADABLE:
                continue
            if known is not None and known[0] is not None and len(known[0].table):
                return known[0].table.digests(0).md5.hex()
        return None

    def begin(self, *, at_once: bool = False) -> threading.Thread | None:
        """Look in the background which sequences there are, unless that was done just now; the thread that does it.

        `at_once`: even so.
        """
        with self._lock:
            # A thread does not survive a fork: it is not alive in the worker then.
            if self._looking is None or not self._looking.is_alive():
                if not at_once and time.monotonic() < self._rests_until:
                    return None
                self._began = time.monotonic()
                self._looking = threading.Thread(target=self._look_quietly, name="refget", daemon=True)
                self._looking.start()
            return self._looking

    def _look_quietly(self) -> None:
        try:
            known = self.look()
        except Exception:
            self._is_unsure = True
            self._rests_until = time.monotonic() + _REST
            log.exception("sequences cannot be looked up")
            return
        faults = {(source.location, fault) for source in known for fault in source.faults}
        for location, fault in sorted(faults - self._told):
            log.error("%s", printable(f"{location}: {fault}"))
        self._told = faults

    def look(self) -> list[Known]:
        """Look which sequences there are, and digest those of which that is not known; all sources of sequences."""
        began = time.monotonic()
        failed: list[Known] = []
        versions = list(self._versions(failed))
        stored = self._look_at_store(failed)
        fastas = {version: self._fastas.get(version) or self._kept(version) for version in versions}
        self._publish(stored, fastas)
        took = time.monotonic() - began
        # The short ones first: they are ready all the sooner.
        for version in sorted(versions, key=lambda version: version.stat.size):
            if fastas[version] is None:
                try:
                    fastas[version] = self._digested(version)
                except _UNREADABLE as error:
                    failed.append(_unreadable(self._location(version), error))
                self._publish(stored, fastas)
        self._is_unsure = bool(failed)
        self._rests_until = time.monotonic() + max(_REST, took / _MAX_SCAN_SHARE)
        # Where not all could be looked at, a name may be in the others.
        unknown = [] if failed else list(self._unknown(fastas))
        return [*failed, *(entry[1] for entry in fastas.values() if entry is not None), *unknown]

    def check_store(self) -> Known | None:
        """What was found of the store, with a look at the file of each of its sequences; None where none is known."""
        if self._stored is None:
            return None
        stored = self._stored[1]
        location, count = stored.storage.location(stored.prefix), len(stored.lengths)
        try:
            names = list(faulty(stored))
        except (OSError, StorageError) as error:
            fault = f"its files cannot be looked at: {getattr(error, 'strerror', None) or error}"
            return Known(location, count, [fault], is_file=False)
        faults = [f"sequences of its list are not there, or not whole: {some(names)}"] if names else []
        return Known(location, count, faults, is_file=False, is_broken=bool(names))

    def _unknown(self, fastas: Mapping[_Version, tuple[Fasta | None, Known] | None]) -> Iterator[Known]:
        """The entries with a prefix that have names which no file of theirs has."""
        for place, entry in enumerate(self.config.fastas):
            found = [known[0] for version, known in fastas.items() if known is not None and version.entry == place]
            fastas_found = [fasta for fasta in found if fasta is not None]
            if entry.prefix is None or len(fastas_found) < len(found):
                continue
            there = {fasta.table.name(at) for fasta in fastas_found for at in (*fasta.circular, *fasta.aliases)}
            absent = [name for name in entry.names() if name not in there]
            if absent:
                count = sum(len(fasta.table) for fasta in fastas_found)
                fault = f"no file has a sequence {some(absent)}, which the configuration names"
                yield Known(self._storages[entry.storage].location(entry.prefix), count, [fault], is_file=False)

    def _publish(self, stored: Stored | None, fastas: Mapping[_Version, tuple[Fasta | None, Known] | None]) -> None:
        known = {version: entry for version, entry in fastas.items() if entry is not None}
        # Where nothing changed, what was found so far is still remembered.
        stores = () if stored is None else (stored,)
        if known != self._fastas or stores != self._sequences.stored:
            self._fastas = known
            self._sequences = Sequences.of(stores, [fasta for fasta, _ in known.values() if fasta is not None])

    def _versions(self, failed: list[Known]) -> Iterator[_Version]:
        """The FASTA files that there are now; of a file that several entries name, the first one's."""
        seen: set[tuple[str, str]] = set()
        for place, entry in enumerate(self.config.fastas):
            storage = self._storages[entry.storage]
            try:
                for key, stat in self._entries(entry, storage):
                    if (entry.storage, key) not in seen:
                        seen.add((entry.storage, key))
                        yield _Version(place, key, stat)
            except _UNREADABLE as error:
                failed.append(_unreadable(storage.location(entry.key or ""), error))

    def _entries(self, entry: RefgetFastaConfig, storage: Storage) -> Iterator[tuple[str, Stat]]:
        if entry.key is not None:
            yield entry.key, storage.stat(entry.key)
        else:
            assert entry.prefix is not None
            yield from ((key, stat) for key, stat in storage.entries(entry.prefix) if is_fasta(key))

    def _look_at_store(self, failed: list[Known]) -> Stored | None:
        store = self.config.store
        if store is None:
            return None
        storage = self._storages[store.storage]
        key = store.prefix + LIST
        try:
            stat = storage.stat(key)
            if self._stored is None or self._stored[0] != stat:
                check_size(stat.size, "the list of sequences")
                with storage.open(key, etag=stat.etag) as file:
                    self._stored = stat, read_store(storage, store.prefix, file.read())
        except _UNREADABLE as error:
            failed.append(_unreadable(storage.location(key), error)._replace(is_file=False))
        except FormatError as error:
            failed.append(Known(storage.location(key), None, [str(error)], is_file=False))
        return None if self._stored is None else self._stored[1]

    def _kept(self, version: _Version) -> tuple[Fasta, Known] | None:
        table = known_table(self._storage(version), version.key, version.stat, self._folder)
        return None if table is None else self._taken(version, table)

    def _digested(self, version: _Version) -> tuple[Fasta | None, Known]:
        with self._alone():
            # Another worker may have done it meanwhile.
            kept = self._kept(version)
            if kept is not None:
                return kept
            storage = self._storage(version)
            try:
                table = make_table(storage, version.key, version.stat)
            except FileFaultError as fault:
                return None, Known(fault.location, None, [fault.reason])
            keep_table(storage, version.key, version.stat, table, self._folder, beside=False)
        # The kept one is mapped, and nobody's private memory.
        return self._kept(version) or self._taken(version, table)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process at a time, as far as the cache folder allows."""
        if self._folder is None:
            yield
            return
        path = self._folder / "refget.lock"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = path.open("wb")
        except OSError:
            yield
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _taken(self, version: _Version, table: Table) -> tuple[Fasta, Known]:
        entry, storage = self.config.fastas[version.entry], self._storage(version)
        fasta = Fasta(storage, version.key, version.stat, table, namespace=entry.namespace)
        faults = []
        if entry.circular or entry.aliases:
            places = {name: place for place, name in reversed(list(enumerate(table.all_names())))}
            circular = frozenset(places[name] for name in entry.circular if name in places)
            aliases = {places[name]: tuple(given) for name, given in entry.aliases.items() if name in places}
            fasta = fasta._replace(circular=circular, aliases=aliases)
            unknown = [name for name in entry.names() if name not in places]
            if unknown and entry.key is not None:
                faults.append(f"has no sequence {some(unknown)}, which the configuration names")
        faults += oddities(fasta)
        return fasta, Known(storage.location(version.key), len(table), faults)

    def _storage(self, version: _Version) -> Storage:
        return self._storages[self.config.fastas[version.entry].storage]

    def _location(self, version: _Version) -> str:
        return self._storage(version).location(version.key)


def _unreadable(location: str, error: Exception) -> Known:
    if isinstance(error, VersionError):
        return Known(location, None, ["was replaced while it was read"])
    reason = "it is not there" if isinstance(error, NotFound) else getattr(error, "strerror", None) or str(error)
    return Known(location, None, [f"cannot be read: {reason}"])
