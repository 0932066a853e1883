"""The sequences of a configuration: scanned for in the background as files come and go, and found by identifier."""

import logging
import threading
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from htsget_flask.config import RefgetConfig
from htsget_flask.errors import NotFound, ServiceUnavailable, printable
from htsget_flask.sequences.digests import parse_identifier
from htsget_flask.sequences.lookup import SequenceMatch, Sequences, SequenceStore
from htsget_flask.sequences.sources import CheckedFasta, FastaVersion, SourceReport, Sources
from htsget_flask.storage import Storage

log = logging.getLogger(__name__)

# Seconds that a request waits for a scan: small files are digested by then.
_LOOKUP_TIMEOUT = 2.0
# Seconds between two scans, and an upper bound on the share of time spent scanning.
_MIN_SCAN_INTERVAL = 5.0
_MAX_SCAN_SHARE = 0.05
# An example is taken from one of the first 20 files, which is digested for it if it has at most 16 MiB.
_MAX_EXAMPLE_FILES = 20
_MAX_EXAMPLE_SIZE = 16 << 20


class Library:
    """The sequences of a configuration. No file is read before the first request for one, or `start_scan`.

    A new FASTA file is digested by one worker, while the others wait for a lock in the cache folder.
    """

    def __init__(self, config: RefgetConfig, storages: Mapping[str, Storage], cache_folder: Path | None) -> None:
        self.sources = Sources(config, storages, cache_folder)
        self._sequences = Sequences(None, ())
        # Changes with the sequences.
        self.generation = 0
        self._fastas: dict[FastaVersion, CheckedFasta] = {}
        self._logged: set[tuple[str, str]] = set()
        # Whether the last scan could not read everything: a sequence that is not found may exist all the same.
        self._is_incomplete = False
        self._thread_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._scan_started = self._next_scan = 0.0

    def find(self, text: str) -> SequenceMatch:
        """The sequence that an identifier names.

        Raises:
            NotFound: when there is none.
            ServiceUnavailable: when that is not known: digests are being computed, or a file cannot be read.
        """
        match = self._sequences.find(text)
        if match is not None:
            return match
        if parse_identifier(text) is not None:
            if scan := self.start_scan():
                scan.join(max(0.0, self._scan_started + _LOOKUP_TIMEOUT - time.monotonic()))
                if match := self._sequences.find(text):
                    return match
                if scan.is_alive():
                    raise ServiceUnavailable("digests of sequences are still being computed; try again")
            if self._is_incomplete:
                raise ServiceUnavailable("not all sequences can be looked up now; try again")
        raise NotFound(f"there is no sequence {text[:200]!r}")

    def has(self, text: str) -> bool:
        """Whether an identifier names a sequence that is known by now."""
        return self._sequences.find(text) is not None

    def example(self) -> str | None:
        """The MD5 of a sequence, if one is found quickly."""
        sources = self.sources
        store = sources.load_store([])
        if store is not None and len(store.lengths):
            return str(store.md5[0].tobytes().hex())
        for version in islice(sources.list_fastas([]), _MAX_EXAMPLE_FILES):
            checked = sources.load_fasta(version)
            is_small = version.stat.size <= _MAX_EXAMPLE_SIZE and not version.storage.reads_are_requests
            if checked is None and is_small:
                checked = sources.index_fasta(version, [])
            if checked and checked[0] and len(checked[0].index):
                return checked[0].index.digests(0).md5.hex()
        return None

    def start_scan(self, *, immediately: bool = False) -> threading.Thread | None:
        """Scan in the background; the thread that scans. None if a scan has just ended, unless `immediately`."""
        with self._thread_lock:
            # A thread does not survive a fork: in the worker it is not alive.
            if self._thread is None or not self._thread.is_alive():
                if not immediately and time.monotonic() < self._next_scan:
                    return None
                self._scan_started = time.monotonic()
                self._thread = threading.Thread(target=self._scan_and_log, name="refget", daemon=True)
                self._thread.start()
            return self._thread

    def _scan_and_log(self) -> None:
        try:
            faults = {(report.location, fault) for report in self.scan() for fault in report.faults}
        except Exception:
            self._is_incomplete = True
            self._next_scan = time.monotonic() + _MIN_SCAN_INTERVAL
            log.exception("the scan for sequences failed")
            return
        for location, fault in sorted(faults - self._logged):
            log.error("%s", printable(f"{location}: {fault}"))
        self._logged = faults

    def scan(self) -> list[SourceReport]:
        """Find all sequences, and digest those of new files; the state of each source."""
        started = time.monotonic()
        failures: list[SourceReport] = []
        versions = list(self.sources.list_fastas(failures))
        store = self.sources.load_store(failures)
        fastas = {version: self._fastas.get(version) or self.sources.load_fasta(version) for version in versions}
        self._publish(store, fastas)
        seconds = time.monotonic() - started
        # The smallest first: they are available soon.
        for version in sorted(versions, key=lambda version: version.stat.size):
            if fastas[version] is None:
                fastas[version] = self.sources.index_fasta(version, failures)
                self._publish(store, fastas)
        self._is_incomplete = bool(failures)
        self._next_scan = time.monotonic() + max(_MIN_SCAN_INTERVAL, seconds / _MAX_SCAN_SHARE)
        # After a failure a name may be in a file that was not read.
        unknown = [] if failures else list(self.sources.find_unknown_names(fastas))
        return [*failures, *(checked[1] for checked in fastas.values() if checked is not None), *unknown]

    def _publish(self, store: SequenceStore | None, fastas: Mapping[FastaVersion, CheckedFasta | None]) -> None:
        checked = {version: fasta for version, fasta in fastas.items() if fasta is not None}
        # Without a change the matches that are remembered stay valid.
        if checked != self._fastas or store is not self._sequences.store:
            self._fastas = checked
            self._sequences = Sequences(store, [fasta for fasta, _ in checked.values() if fasta is not None])
            self.generation += 1
