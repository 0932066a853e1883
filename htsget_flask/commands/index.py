"""Building the indexes that datasets and FASTA files lack, with htslib."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pysam
import pysam.bcftools
import pysam.samtools
from pysam.utils import SamtoolsError

from htsget_flask.datasets.catalog import Source
from htsget_flask.datasets.open_file import READ_HEADER
from htsget_flask.errors import FileFaultError, FormatError, NotFound, StorageError
from htsget_flask.formats.fasta import COMPRESSED, is_fasta
from htsget_flask.replacement import default_mode, replacement
from htsget_flask.services import Services
from htsget_flask.storage import Storage

# Beyond this position BAI and TBI have no bins (SAMv1 5.1.1).
_BAI_LIMIT = 1 << 29


def unindexed(sources: Iterable[Source], on_fault: Callable[[FileFaultError], None]) -> Iterator[Source]:
    """Those of the files that have no index as recent as their data; `on_fault` gets what cannot be read."""
    for source in sources:
        try:
            # Times of uploads say nothing about age.
            is_dated = source.storage.mtime_is_meaningful
            modified = int(source.stat(source.key, fresh=True).modified) if is_dated else 0
            if not any(_modified(source, key) >= modified for key in source.index_keys):
                yield source
        except NotFound:
            on_fault(FileFaultError("the file that the configuration names does not exist", location=source.location))
        except FileFaultError as error:
            on_fault(error)


class UnindexedFasta(NamedTuple):
    """A FASTA file that lacks indexes: the suffixes of those, `.fai` and, where it is compressed, `.gzi`.

    This server needs none; samtools, pysam and igv.js do.
    """

    storage: Storage
    key: str
    lacking: Sequence[str]

    @property
    def location(self) -> str:
        """The file, as its keeper knows it."""
        return self.storage.location(self.key)


def unindexed_fastas(services: Services) -> Iterator[UnindexedFasta]:
    """Those FASTA files of refget, and of storages that are opened, that lack indexes."""
    seen = set()
    # What cannot be looked at is told by those who need it.
    with contextlib.suppress(OSError, StorageError):
        for storage, key in _fastas(services):
            if storage.location(key) not in seen:
                seen.add(storage.location(key))
                wanted = (".fai", ".gzi") if key.endswith(COMPRESSED) else (".fai",)
                lacking = [suffix for suffix in wanted if not _is_there(storage, key, suffix)]
                if lacking:
                    yield UnindexedFasta(storage, key, lacking)


def _fastas(services: Services) -> Iterator[tuple[Storage, str]]:
    yield from services.sequences.files()
    for name in services.config.files.storages:
        storage = services.storages[name]
        yield from ((storage, entry.key) for entry in storage.entries() if is_fasta(entry.key))


def _is_there(storage: Storage, key: str, suffix: str) -> bool:
    try:
        storage.stat(key + suffix, max_age=storage.max_age, sibling_prefix=key)
    except NotFound:
        return False
    return True


def build_fasta_indexes(fasta: UnindexedFasta) -> None:
    """Build the indexes that a FASTA file of a local storage lacks, beside it.

    Raises:
        FileFaultError: when the folder cannot be written, or htslib cannot index the file: lines of different lengths.
    """
    data = fasta.location
    places = {suffix: Path(data + suffix) for suffix in (".fai", ".gzi")}
    wanted = " and ".join(fasta.lacking)
    _require_writable(data, wanted)
    verbosity = pysam.set_verbosity(0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = {suffix: Path(folder, f"index{suffix}") for suffix in places}
            options = ["--fai-idx", str(built[".fai"]), "--gzi-idx", str(built[".gzi"])]
            pysam.samtools.faidx(data, *options, catch_stdout=False)
            # The .fai last: who finds one takes the file for indexed.
            for suffix in reversed(fasta.lacking):
                if built[suffix].exists():
                    _put(built[suffix], places[suffix])
    except SamtoolsError as error:
        reason = "it is no FASTA file, not compressed with bgzip, or a sequence has lines of different lengths"
        raise FileFaultError(f"no {wanted} can be built: {reason}", location=data) from error
    except OSError as error:
        raise FileFaultError(f"no {wanted} can be built: {error.strerror}", location=data) from error
    finally:
        pysam.set_verbosity(verbosity)


def build_index(source: Source) -> Path:
    """Build the index of a file of a local storage, beside it or where the configuration says; returns its path.

    Raises:
        FileFaultError: when the file cannot be read, its folder cannot be written, or it is damaged, unsorted or not
            compressed as it has to be.
    """
    if source.storage.local_path(source.key) is None:
        raise FileFaultError("indexes can be built in local storages only", location=source.location)
    data = source.location
    format_name = source.format.name
    try:
        with source.storage.open(source.key) as file:
            # Before htslib: it would compress a file that is not, and remove the original.
            READ_HEADER[format_name](file)
    except FormatError as error:
        raise FileFaultError(str(error), location=data) from error
    except OSError as error:
        raise FileFaultError(
            f"it cannot be read: {error.strerror}; give the user that runs this the right to read it", location=data
        ) from error
    # htslib would write its own remarks among ours.
    verbosity = pysam.set_verbosity(0)
    try:
        long_reference = max(_lengths(data, format_name), default=0) > _BAI_LIMIT
        key = next(key for key in source.index_keys if not long_reference or key.endswith((".csi", ".crai")))
        index = Path(source.storage.location(key))
        _require_writable(str(index), "index")
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder, f"index{index.suffix}")
            _build(data, str(built), format_name, is_csi=key.endswith(".csi"))
            _put(built, index)
    except StopIteration:
        raise FileFaultError("a reference is longer than a BAI or TBI index allows", location=data) from None
    except (SamtoolsError, OSError, ValueError) as error:
        if format_name == "BAM" and _is_unsorted(data):
            raise FileFaultError("is not sorted by coordinate; run `samtools sort`", location=data) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileFaultError(f"no index can be built: {reason[-1]}", location=data) from error
    finally:
        pysam.set_verbosity(verbosity)
    return index


def _require_writable(path: str, wanted: str) -> None:
    if not os.access(Path(path).parent, os.W_OK):
        reason = f"no {wanted} can be built: its folder cannot be written; run this as a user that may write there"
        raise FileFaultError(reason, location=path)


def _put(built: Path, place: Path) -> None:
    """Copy an index to its place: htslib would follow a link that others put there."""
    with built.open("rb") as file, replacement(place, mode=default_mode()) as copy:
        shutil.copyfileobj(file, copy)


def _build(data: str, index: str, format_name: str, *, is_csi: bool) -> None:
    if format_name in ("BAM", "CRAM"):
        pysam.samtools.index(*(["-c"] if is_csi else []), "-o", index, data)
    elif format_name == "VCF":
        pysam.tabix_index(data, preset="vcf", index=index, csi=is_csi, force=True)
    else:
        pysam.bcftools.index("--force", "--output", index, data)


def _is_unsorted(data: str) -> bool:
    """Whether a record lies before the one that it follows; looked at only where samtools has failed."""
    last = (0, 0)
    try:
        with pysam.AlignmentFile(data, check_sq=False) as reads:
            for read in reads.fetch(until_eof=True):
                # Those without a place come last.
                place = (len(reads.references) if read.reference_id < 0 else read.reference_id, read.reference_start)
                if place < last:
                    return True
                last = place
    except (OSError, ValueError):
        # The file is damaged, which is the reason then.
        return False
    return False


def _lengths(data: str, format_name: str) -> list[int]:
    if format_name in ("BAM", "CRAM"):
        with pysam.AlignmentFile(data, check_sq=False) as reads:
            return list(reads.lengths)
    with pysam.VariantFile(data) as variants:
        # Not header.contigs: pysam does not count contigs whose IDX leaves gaps.
        contigs = (record for record in variants.header.records if record.key == "contig")
        return [int(contig.get("length", 0)) for contig in contigs]


def _modified(source: Source, key: str) -> int:
    try:
        return int(source.stat(key, fresh=True).modified)
    except NotFound:
        return -1
