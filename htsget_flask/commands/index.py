"""`htsget-flask index`: builds the indexes that datasets and FASTA files lack, with htslib."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pysam
import pysam.bcftools
import pysam.samtools
from pysam.utils import SamtoolsError

from htsget_flask.datasets.source import Source
from htsget_flask.errors import FileFaultError, FormatError, NotFound, StorageError
from htsget_flask.formats.fasta import COMPRESSED, is_fasta
from htsget_flask.replacement import default_mode, replacement
from htsget_flask.services import Services
from htsget_flask.storage import Storage

# Beyond this position BAI and TBI have no bins (SAMv1 5.1.1).
_BAI_LIMIT = 1 << 29


class IndexJob(NamedTuple):
    """A file to index: its size in bytes, the function that indexes it, and whether it is a dataset's, not a FASTA."""

    size: int
    build: Callable[[], object]
    is_dataset: bool


def find_jobs(services: Services, on_fault: Callable[[Exception], None]) -> list[IndexJob]:
    """The files that lack indexes: datasets, and local FASTA files; `on_fault` is called with what cannot be read."""
    sources = list(_unindexed(services.catalog.sources(on_fault=on_fault), on_fault))
    fastas = [fasta for fasta in unindexed_fastas(services) if fasta.is_local]
    return [
        *(IndexJob(source.storage.stat(source.key).size, partial(build_index, source), True) for source in sources),
        *(IndexJob(fasta.storage.stat(fasta.key).size, partial(build_fasta_indexes, fasta), False) for fasta in fastas),
    ]


def _unindexed(sources: Iterable[Source], on_fault: Callable[[FileFaultError], None]) -> Iterator[Source]:
    for source in sources:
        try:
            # The time of an upload says nothing about age.
            is_dated = source.storage.mtime_is_meaningful
            oldest = int(source.stat(source.key, fresh=True).modified) if is_dated else 0
            if not any(_has_index(source, key, oldest) for key in source.index_keys):
                yield source
        except NotFound:
            on_fault(FileFaultError("the file that the configuration names does not exist", location=source.location))
        except FileFaultError as error:
            on_fault(error)


def _has_index(source: Source, key: str, oldest: int) -> bool:
    with contextlib.suppress(NotFound):
        return int(source.stat(key, fresh=True).modified) >= oldest
    return False


class UnindexedFasta(NamedTuple):
    """A FASTA file and the suffixes of the indexes that it lacks: `.fai` and, where it is compressed, `.gzi`.

    This server needs neither; samtools, pysam and igv.js do.
    """

    storage: Storage
    key: str
    missing: Sequence[str]

    @property
    def location(self) -> str:
        return self.storage.location(self.key)

    @property
    def is_local(self) -> bool:
        return self.storage.local_path(self.key) is not None


def unindexed_fastas(services: Services) -> Iterator[UnindexedFasta]:
    """The FASTA files of refget, and of storages that are open at /files, that lack indexes."""
    locations = set()
    # A storage that cannot be listed is reported where its files are needed.
    with contextlib.suppress(OSError, StorageError):
        for storage, key in _list_fastas(services):
            if storage.location(key) not in locations:
                locations.add(storage.location(key))
                suffixes = (".fai", ".gzi") if key.endswith(COMPRESSED) else (".fai",)
                if missing := [suffix for suffix in suffixes if not _exists(storage, key, suffix)]:
                    yield UnindexedFasta(storage, key, missing)


def _exists(storage: Storage, key: str, suffix: str) -> bool:
    with contextlib.suppress(NotFound):
        storage.stat(key + suffix, max_age=storage.max_age, sibling_prefix=key)
        return True
    return False


def _list_fastas(services: Services) -> Iterator[tuple[Storage, str]]:
    yield from ((version.storage, version.key) for version in services.sequences.sources.list_fastas([]))
    for name in services.config.files.storages:
        storage = services.storages[name]
        yield from ((storage, entry.key) for entry in storage.entries() if is_fasta(entry.key))


def build_fasta_indexes(fasta: UnindexedFasta) -> None:
    """Build the indexes that a FASTA file of a local storage lacks, next to it.

    Raises:
        FileFaultError: when the folder cannot be written, or htslib cannot index the file: lines of different lengths.
    """
    data, names = fasta.location, " and ".join(fasta.missing)
    _require_writable(data, names)
    try:
        with quiet_htslib(), tempfile.TemporaryDirectory() as folder:
            built = {suffix: Path(folder, f"index{suffix}") for suffix in (".fai", ".gzi")}
            options = ["--fai-idx", str(built[".fai"]), "--gzi-idx", str(built[".gzi"])]
            pysam.samtools.faidx(data, *options, catch_stdout=False)
            # The .fai last: programs that find one expect the .gzi to be there.
            for suffix in reversed(fasta.missing):
                if built[suffix].exists():
                    _install(built[suffix], Path(data + suffix))
    except SamtoolsError as error:
        reason = "it is not FASTA, not compressed with bgzip, or has a sequence with lines of different lengths"
        raise FileFaultError(f"no {names} can be built: {reason}", location=data) from error
    except OSError as error:
        raise FileFaultError(f"no {names} can be built: {error.strerror}", location=data) from error


def build_index(source: Source) -> None:
    """Build the index of a file of a local storage, next to it or where the configuration says.

    Raises:
        FileFaultError: when the file cannot be read, its folder cannot be written, or it is damaged, unsorted or not
            compressed as it has to be.
    """
    data = source.location
    if source.storage.local_path(source.key) is None:
        raise FileFaultError("indexes can be built in local storages only", location=data)
    try:
        with source.storage.open(source.key) as file:
            # Before htslib sees it: htslib compresses a file that is not compressed, and removes the original.
            references = source.format.read_header(file).references
    except FormatError as error:
        raise FileFaultError(str(error), location=data) from error
    except OSError as error:
        fault = f"it cannot be read: {error.strerror}; run this as a user that may read it"
        raise FileFaultError(fault, location=data) from error
    is_long = any((reference.length or 0) > _BAI_LIMIT for reference in references.values())
    key = next((key for key in source.index_keys if not is_long or key.endswith((".csi", ".crai"))), None)
    if key is None:
        raise FileFaultError("a reference is longer than a BAI or TBI index allows", location=data)
    index = Path(source.storage.location(key))
    _require_writable(str(index), "index")
    try:
        with quiet_htslib(), tempfile.TemporaryDirectory() as folder:
            built = Path(folder, f"index{index.suffix}")
            _run_htslib(data, str(built), source.format.name, is_csi=key.endswith(".csi"))
            _install(built, index)
    except (SamtoolsError, OSError, ValueError) as error:
        if source.format.name == "BAM" and _is_unsorted(data):
            raise FileFaultError("is not sorted by coordinate; run `samtools sort`", location=data) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileFaultError(f"no index can be built: {reason[-1]}", location=data) from error


@contextlib.contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib's messages out of this command's output."""
    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)


def _require_writable(path: str, names: str) -> None:
    if not os.access(Path(path).parent, os.W_OK):
        reason = f"no {names} can be built: its folder cannot be written; run this as a user that may write there"
        raise FileFaultError(reason, location=path)


def _install(built: Path, path: Path) -> None:
    """Copy an index to its path: htslib would follow a link that other users put there."""
    with built.open("rb") as file, replacement(path, mode=default_mode()) as copy:
        shutil.copyfileobj(file, copy)


def _run_htslib(data: str, index: str, format_name: str, *, is_csi: bool) -> None:
    if format_name in ("BAM", "CRAM"):
        pysam.samtools.index(*(["-c"] if is_csi else []), "-o", index, data)
    elif format_name == "VCF":
        pysam.tabix_index(data, preset="vcf", index=index, csi=is_csi, force=True)
    else:
        pysam.bcftools.index("--force", "--output", index, data)


def _is_unsorted(data: str) -> bool:
    """Whether a record starts before the previous one; checked only after samtools has failed."""
    previous = (0, 0)
    # An error means that the file is damaged, which is the reason then.
    with contextlib.suppress(OSError, ValueError), quiet_htslib(), pysam.AlignmentFile(data, check_sq=False) as reads:
        for read in reads.fetch(until_eof=True):
            # Unplaced reads come last.
            reference_id = len(reads.references) if read.reference_id < 0 else read.reference_id
            position = (reference_id, read.reference_start)
            if position < previous:
                return True
            previous = position
    return False
