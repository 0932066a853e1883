"""`htsget-flask refget`: digests computed in advance, and stores filled."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from htsget_flask.errors import FileFaultError, FormatError, NotFound
from htsget_flask.sequences.fasta_files import build_index, load_index, save_index
from htsget_flask.sequences.fasta_index import SUFFIX, read_index_file
from htsget_flask.sequences.lookup import FastaFile
from htsget_flask.sequences.store import StoreWriter
from htsget_flask.storage import VersionError
from htsget_flask.storage.local import LocalStorage

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a task with this label and total; the function inside is called with each step."""


def index_fasta(path: Path, cache_folder: Path | None, progress: Progress) -> tuple[Path | None, int]:
    """Compute the digests of a FASTA file and save them, next to the file if its folder can be written.

    Returns the file that they are saved in, if any, and the number of sequences.

    Raises:
        FileFaultError: when it is not a FASTA file, or is changed meanwhile.
        OSError: when it cannot be read.
    """
    fasta = _read_fasta(path, cache_folder, progress, save=False)
    path_next_to_file = Path(fasta.location() + SUFFIX)
    if read_index_file(path_next_to_file, fasta.stat) is not None:
        return path_next_to_file, len(fasta.index)
    saved = save_index(fasta.storage, fasta.key, fasta.stat, fasta.index, cache_folder, next_to_file=True)
    return saved, len(fasta.index)


def ingest_fasta(path: Path, store: StoreWriter, cache_folder: Path | None, progress: Progress) -> tuple[int, int]:
    """Add all sequences of a FASTA file to a store; the number of new ones, and of all.

    Raises:
        FileFaultError, OSError: as above; also when the store cannot be written.
    """
    fasta = _read_fasta(path, cache_folder, progress, save=True)
    with progress(f"ingesting {path.name}", int(fasta.index.lengths.sum())) as advance:
        try:
            added = store.add(fasta, advance)
        except (FormatError, VersionError) as error:
            raise FileFaultError("was changed while it was read", location=fasta.location()) from error
    return added, len(fasta.index)


def _read_fasta(path: Path, cache_folder: Path | None, progress: Progress, *, save: bool) -> FastaFile:
    """A FASTA file with its saved index, or with one built now, which is saved in the cache folder if `save`."""
    # The server's name of the file: links to its folder are resolved, one to the file itself is not.
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
