"""FASTA files and their tables: made once for each version of a file, then kept; and what is wrong with such a file."""

import contextlib
import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from htsget_flask.array_file import is_private
from htsget_flask.errors import FileFaultError, FormatError, NotFound, StorageError
from htsget_flask.formats.fasta import MAX_FAI
from htsget_flask.formats.unpacking import check_size
from htsget_flask.sequences.fasta_index import BESIDE, Table, kept_path, load_table, store_table
from htsget_flask.sequences.fasta_scan import scan
from htsget_flask.sequences.fasta_text import Blocks, bgzf_pieces, plain_pieces
from htsget_flask.sequences.lookup import Fasta
from htsget_flask.storage import Stat, Storage, VersionError

log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
# So many names are told of those that are at fault.
_MAX_NAMED = 5
_FAI_COLUMNS = 5
_READ_BY_ALL = 0o644


def known_table(storage: Storage, key: str, stat: Stat, folder: Path | None) -> Table | None:
    """The table of this version of a FASTA file, if this user or root kept it: next to it, or in the cache folder."""
    location = storage.location(key)
    table = None
    if storage.local_path(key) is not None:
        table = load_table(Path(location + BESIDE), stat)
    if table is None and folder is not None:
        table = load_table(kept_path(folder, location), stat)
    return table


def keep_table(
    storage: Storage, key: str, stat: Stat, table: Table, folder: Path | None, *, beside: bool
) -> Path | None:
    """Keep a table, beside the file where that is wanted and possible, else in the cache folder; where it is now."""
    location = storage.location(key)
    if beside and storage.local_path(key) is not None:
        path = Path(location + BESIDE)
        with contextlib.suppress(OSError):
            # The server may be another user.
            store_table(path, stat, table, mode=_READ_BY_ALL & os.stat(location).st_mode)
            return path
    if folder is None:
        return None
    try:
        store_table(kept_path(folder, location), stat, table)
    except OSError as error:
        log.warning("digests are not kept between runs: the cache folder cannot be written: %s", error)
        return None
    return kept_path(folder, location)


def make_table(
    storage: Storage,
    key: str,
    stat: Stat,
    *,
    progress: Callable[[int], None] = lambda _: None,
    helper: Executor | None = None,
) -> Table:
    """The table of a version of a FASTA file, by reading all of it; `progress` is told bytes of the file.

    Raises:
        FileFaultError: when it is no FASTA file, or a damaged one.
        VersionError: when it is replaced or changed meanwhile.
        OSError: when it cannot be read.
    """
    blocks = Blocks(array("q"), array("q"))
    try:
        with storage.open(key, etag=stat.etag) as file:
            is_compressed = file.read(len(_GZIP)) == _GZIP
            pieces = bgzf_pieces(file, blocks, progress) if is_compressed else plain_pieces(file, progress)
            table = scan(pieces, blocks, helper=helper)
    except FormatError as error:
        raise FileFaultError(str(error), location=storage.location(key)) from error
    if storage.stat(key) != stat:
        raise VersionError(key)
    return table


def oddities(fasta: Fasta) -> Iterator[str]:
    """What its keeper should know of a FASTA file whose sequences can be served."""
    table = fasta.table
    if not len(table):
        yield "has no sequence"
    counts = Counter(table.all_names())
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        yield f"has several sequences of the same name: {some(twice)}"
    if fasta.storage.local_path(fasta.key) is not None:
        with contextlib.suppress(OSError):
            if not is_private(Path(fasta.location() + BESIDE).lstat()):
                yield f"its {BESIDE} is not believed: another user can have written it"
    try:
        stat = fasta.storage.stat(fasta.key + ".fai")
        check_size(stat.size, "it", MAX_FAI)
        with fasta.storage.open(fasta.key + ".fai", etag=stat.etag) as file:
            content = file.read(stat.size)
    except (NotFound, VersionError):
        return
    except FormatError as error:
        yield f"its .fai cannot be read: {error}"
        return
    except (OSError, StorageError) as error:
        yield f"its .fai cannot be read: {error}"
        return
    # Counted first: a .fai may have many more lines than its file has sequences.
    is_longer = content.count(b"\n") > len(table)
    fault = "is of another file: it names other sequences" if is_longer else _fai_fault(content, table)
    if fault is not None:
        yield f"its .fai {fault}; remove it, then run `samtools faidx`"


def _fai_fault(content: bytes, table: Table) -> str | None:
    """What is wrong with an index of samtools; this server has no use for it, but other programs read it."""
    # samtools leaves out all but the first sequence of a name.
    first = {table.name(place): place for place in reversed(range(len(table)))}
    rows = [line.split("\t") for line in content.decode("utf-8", "replace").splitlines()]
    try:
        entries = {row[0]: [int(number) for number in row[1:_FAI_COLUMNS]] for row in rows}
    except ValueError:
        return "is broken"
    if any(len(row) != _FAI_COLUMNS for row in rows) or content[-1:] not in (b"\n", b""):
        return "is broken"
    if set(first) != set(entries):
        return "is of another file: it names other sequences"
    for name, place in first.items():
        length, offset, bases, width = entries[name]
        start, _, our_bases, our_width = table.layout(place)
        # Both count the same where a sequence is nothing but letters.
        is_equal = length == table.lengths[place] and start == table.bodies[place] and our_width > our_bases
        if offset != table.bodies[place] or length < table.lengths[place]:
            return f"is of another file: {name} lies elsewhere"
        if is_equal and (bases, width) != (our_bases, our_width):
            return f"is of another file: {name} has other lines"
    return None


def some(names: list[str]) -> str:
    """The first of these names, and how many more there are."""
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
