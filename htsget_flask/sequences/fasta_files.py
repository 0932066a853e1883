"""The indexes of FASTA files: loaded, built and saved; and what an operator should know of such a file."""

import contextlib
import io
import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from htsget_flask.array_file import is_private
from htsget_flask.errors import FileFaultError, FormatError, NotFound, StorageError
from htsget_flask.formats.fasta import MAX_FAI, parse_fai
from htsget_flask.formats.unpacking import check_size
from htsget_flask.sequences.fasta_index import SUFFIX, FastaIndex, cache_path, read_index_file, write_index_file
from htsget_flask.sequences.fasta_scan import scan_fasta
from htsget_flask.sequences.fasta_text import read_text
from htsget_flask.sequences.lookup import FastaFile
from htsget_flask.storage import Stat, Storage, VersionError

log = logging.getLogger(__name__)

_READ_BY_ALL = 0o644


def load_index(storage: Storage, key: str, stat: Stat, cache_folder: Path | None) -> FastaIndex | None:
    """The index of this version of a FASTA file, saved next to it or in the cache folder by this user or root."""
    location = storage.location(key)
    if storage.local_path(key) is not None and (index := read_index_file(Path(location + SUFFIX), stat)) is not None:
        return index
    return None if cache_folder is None else read_index_file(cache_path(cache_folder, location), stat)


def save_index(
    storage: Storage, key: str, stat: Stat, index: FastaIndex, cache_folder: Path | None, *, next_to_file: bool
) -> Path | None:
    """Save an index, `next_to_file` if the folder can be written, else in the cache folder; the path, or None."""
    location = storage.location(key)
    if next_to_file and storage.local_path(key) is not None:
        path = Path(location + SUFFIX)
        with contextlib.suppress(OSError):
            # The server may run as another user.
            write_index_file(path, stat, index, mode=_READ_BY_ALL & os.stat(location).st_mode)
            return path
    if cache_folder is None:
        return None
    path = cache_path(cache_folder, location)
    try:
        write_index_file(path, stat, index)
        return path
    except OSError as error:
        log.warning("digests cannot be saved: the cache folder cannot be written: %s", error)
        return None


def build_index(
    storage: Storage,
    key: str,
    stat: Stat,
    *,
    progress: Callable[[int], None] = lambda _: None,
    helper: Executor | None = None,
) -> FastaIndex:
    """Read all of a version of a FASTA file and index it; `progress` is called with the bytes of the file read.

    Raises:
        FileFaultError: when it is not a FASTA file, or is damaged.
        VersionError: when it is replaced or changed meanwhile.
        OSError: when it cannot be read.
    """
    blocks = array("q")
    try:
        with storage.open(key, etag=stat.etag) as file:
            index = scan_fasta(read_text(file, blocks, progress), blocks, helper=helper)
    except FormatError as error:
        raise FileFaultError(str(error), location=storage.location(key)) from error
    if storage.stat(key) != stat:
        raise VersionError(key)
    return index


def find_faults(fasta: FastaFile) -> Iterator[str]:
    """What the operator should know of a FASTA file whose sequences can be served."""
    index = fasta.index
    if not len(index):
        yield "has no sequence"
    if duplicates := [name for name, count in Counter(index.all_names()).items() if count > 1]:
        yield f"has several sequences of the same name: {abbreviate(duplicates)}"
    if fasta.storage.local_path(fasta.key) is not None:
        with contextlib.suppress(OSError):
            if not is_private(Path(fasta.location() + SUFFIX).lstat()):
                yield f"its {SUFFIX} is not used: another user may have written it"
    try:
        stat = fasta.storage.stat(fasta.key + ".fai")
        check_size(stat.size, "it", MAX_FAI)
        with fasta.storage.open(fasta.key + ".fai", etag=stat.etag) as file:
            content = file.read(stat.size)
    except (NotFound, VersionError):
        return
    except (FormatError, OSError, StorageError) as error:
        yield f"its .fai cannot be read: {error}"
        return
    if fault := _find_fai_fault(content, index):
        yield f"its .fai {fault}; remove it, then run `samtools faidx`"


def _find_fai_fault(content: bytes, index: FastaIndex) -> str | None:
    """What is wrong with a .fai; this server does not use it, but other programs do."""
    other_names = "belongs to another file: it names other sequences"
    # Counted before it is parsed: a .fai may have many more lines than the file has sequences.
    if content.count(b"\n") > len(index):
        return other_names
    lines = list(parse_fai(io.BytesIO(content)))
    if None in lines or content[-1:] not in (b"\n", b""):
        return "is malformed"
    records = {record.name: record for record in lines if record is not None}
    # samtools leaves out all but the first sequence of a name.
    rows = {index.name(row): row for row in reversed(range(len(index)))}
    if set(rows) != set(records):
        return other_names
    for name, row in rows.items():
        record, layout = records[name], index.layout(row)
        if record.offset != index.bodies[row] or record.length < index.lengths[row]:
            return f"belongs to another file: {name} has another position"
        # Both count the same where a sequence consists of nothing but letters.
        is_plain = record.length == index.lengths[row] and layout.offset == index.bodies[row]
        lines_differ = (record.line_bases, record.line_width) != (layout.line_bases, layout.line_width)
        if is_plain and layout.line_width > layout.line_bases and lines_differ:
            return f"belongs to another file: {name} has lines of another length"
    return None


def abbreviate(names: list[str], limit: int = 5) -> str:
    """The first of these names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
