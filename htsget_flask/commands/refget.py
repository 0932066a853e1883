"""What `htsget-flask refget` does: digests computed ahead, and stores filled."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, TypeVar

from htsget_flask.errors import FileFaultError, FormatError, NotFound
from htsget_flask.sequences.fasta_files import keep_table, known_table, make_table
from htsget_flask.sequences.fasta_index import BESIDE, load_table
from htsget_flask.sequences.lookup import Fasta
from htsget_flask.sequences.store import Ingest
from htsget_flask.storage import VersionError
from htsget_flask.storage.local import LocalStorage

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows how far something is: with a label and the whole length, what is told of each step."""

OnFault = Callable[[Path, FileFaultError | OSError], None]
"""Is told what is wrong with a FASTA file; then the others go on. Where there is none the error propagates."""

T = TypeVar("T")


class Indexed(NamedTuple):
    """A FASTA file whose digests are known: where they are kept, None: nowhere; how many sequences it has."""

    path: Path
    kept: Path | None
    sequences: int


class Ingested(NamedTuple):
    """A FASTA file all of whose sequences are in the store: how many were not there before, of how many."""

    path: Path
    added: int
    sequences: int


def index_fastas(
    paths: Sequence[Path], cache_folder: Path | None, progress: Progress, on_fault: OnFault | None = None
) -> Iterator[Indexed]:
    """Compute the digests of FASTA files and keep them, beside each file where its folder can be written.

    Raises:
        FileFaultError: when one is no FASTA file, or is changed meanwhile.
        OSError: when one cannot be read.
    """

    def index(path: Path) -> Indexed:
        fasta = _read(path, cache_folder, progress, keep=False)
        beside = Path(fasta.location() + BESIDE)
        if load_table(beside, fasta.stat) is not None:
            return Indexed(path, beside, len(fasta.table))
        kept = keep_table(fasta.storage, fasta.key, fasta.stat, fasta.table, cache_folder, beside=True)
        return Indexed(path, kept, len(fasta.table))

    return _each(paths, index, on_fault)


def ingest_fastas(
    paths: Sequence[Path], folder: Path, cache_folder: Path | None, progress: Progress, on_fault: OnFault | None = None
) -> Iterator[Ingested]:
    """Add all sequences of FASTA files to the store in a folder.

    Raises:
        FileFaultError, OSError: as above; also when the folder cannot be written.
    """
    store = Ingest(folder)

    def ingest(path: Path) -> Ingested:
        fasta = _read(path, cache_folder, progress, keep=True)
        with progress(f"ingesting {path.name}", int(fasta.table.lengths.sum())) as advance:
            try:
                added = store.add(fasta, advance)
            except (FormatError, VersionError) as error:
                raise _changed(fasta) from error
        return Ingested(path, added, len(fasta.table))

    return _each(paths, ingest, on_fault)


def _each(paths: Sequence[Path], work: Callable[[Path], T], on_fault: OnFault | None) -> Iterator[T]:
    for path in paths:
        try:
            done = work(path)
        except (FileFaultError, OSError) as error:
            if on_fault is None:
                raise
            on_fault(path, error)
        else:
            yield done


def _read(path: Path, cache_folder: Path | None, progress: Progress, *, keep: bool) -> Fasta:
    """A FASTA file with its digests; those that are kept already are taken, with `keep` new ones kept."""
    # Named as the server does that serves a folder above it: as it stands there, whatever links lead to the folder.
    location = Path(os.path.realpath(path.parent), path.name)
    storage, key = LocalStorage(Path("/")), str(location).lstrip("/")
    try:
        stat = storage.stat(key)
    except NotFound as error:
        raise FileFaultError("is no file that can be served", location=str(path)) from error
    table = known_table(storage, key, stat, cache_folder)
    if table is None:
        with progress(f"digesting {path.name}", stat.size) as advance, ThreadPoolExecutor(1) as helper:
            try:
                table = make_table(storage, key, stat, progress=advance, helper=helper)
            except (VersionError, NotFound) as error:
                raise FileFaultError("was changed while it was read", location=str(path)) from error
        if keep:
            keep_table(storage, key, stat, table, cache_folder, beside=False)
    return Fasta(storage, key, stat, table)


def _changed(fasta: Fasta) -> FileFaultError:
    return FileFaultError("was changed while it was read", location=fasta.location())
