"""`htsget-flask refget`: digests computed in advance, and stores filled."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, TypeVar

from htsget_flask.errors import FileFaultError, FormatError, NotFound
from htsget_flask.sequences.fasta_files import build_index, load_index, save_index
from htsget_flask.sequences.fasta_index import SUFFIX, read_index_file
from htsget_flask.sequences.lookup import FastaFile
from htsget_flask.sequences.store import StoreWriter
from htsget_flask.storage import VersionError
from htsget_flask.storage.local import LocalStorage

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a task with this label and total; the function inside is called with each step."""

OnFault = Callable[[Path, FileFaultError | OSError], None]
"""Is called with the fault of a FASTA file, after which the others go on. Without it the error propagates."""

T = TypeVar("T")


class IndexReport(NamedTuple):
    """A FASTA file whose digests are known: the file that they are saved in, if any; how many sequences it has."""

    path: Path
    index_path: Path | None
    sequences: int


class IngestReport(NamedTuple):
    """A FASTA file whose sequences are in the store: how many of them are new."""

    path: Path
    added: int
    sequences: int


def index_fastas(
    paths: Sequence[Path], cache_folder: Path | None, progress: Progress, on_fault: OnFault | None = None
) -> Iterator[IndexReport]:
    """Compute the digests of FASTA files and save them, next to each file if its folder can be written.

    Raises:
        FileFaultError: when one is not a FASTA file, or is changed meanwhile.
        OSError: when one cannot be read.
    """

    def index_one(path: Path) -> IndexReport:
        fasta = _read_fasta(path, cache_folder, progress, save=False)
        index_path = Path(fasta.location() + SUFFIX)
        if read_index_file(index_path, fasta.stat) is not None:
            return IndexReport(path, index_path, len(fasta.index))
        saved = save_index(fasta.storage, fasta.key, fasta.stat, fasta.index, cache_folder, next_to_file=True)
        return IndexReport(path, saved, len(fasta.index))

    return _each(paths, index_one, on_fault)


def ingest_fastas(
    paths: Sequence[Path], folder: Path, cache_folder: Path | None, progress: Progress, on_fault: OnFault | None = None
) -> Iterator[IngestReport]:
    """Add all sequences of FASTA files to the store in a folder.

    Raises:
        FileFaultError, OSError: as above; also when the folder cannot be written.
    """
    store = StoreWriter(folder)

    def ingest_one(path: Path) -> IngestReport:
        fasta = _read_fasta(path, cache_folder, progress, save=True)
        with progress(f"ingesting {path.name}", int(fasta.index.lengths.sum())) as advance:
            try:
                added = store.add(fasta, advance)
            except (FormatError, VersionError) as error:
                raise FileFaultError("was changed while it was read", location=fasta.location()) from error
        return IngestReport(path, added, len(fasta.index))

    return _each(paths, ingest_one, on_fault)


def _each(paths: Sequence[Path], work: Callable[[Path], T], on_fault: OnFault | None) -> Iterator[T]:
    for path in paths:
        try:
            report = work(path)
        except (FileFaultError, OSError) as error:
            if on_fault is None:
                raise
            on_fault(path, error)
        else:
            yield report


def _read_fasta(path: Path, cache_folder: Path | None, progress: Progress, *, save: bool) -> FastaFile:
    """A FASTA file with its saved index, or with one built now, which is saved in the cache folder if `save`."""
    # Named as a server of a folder above it names it: links to the folder are resolved, the file itself is not.
    location = Path(os.path.realpath(path.parent), path.name)
    storage, key = LocalStorage(Path("/")), str(location).lstrip("/")
    try:
        stat = storage.stat(key)
    except NotFound as error:
        raise FileFaultError("is not a file that can be served", location=str(path)) from error
    index = load_index(storage, key, stat, cache_folder)
    if index is None:
        with progress(f"digesting {path.name}", stat.size) as advance, ThreadPoolExecutor(1) as helper:
            try:
                index = build_index(storage, key, stat, progress=advance, helper=helper)
            except (VersionError, NotFound) as error:
                raise FileFaultError("was changed while it was read", location=str(path)) from error
        if save:
            save_index(storage, key, stat, index, cache_folder, next_to_file=False)
    return FastaFile(storage, key, stat, index)
