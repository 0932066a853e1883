"""Records of CRAM files that overlap a region: decoded with their reference, and encoded without one.

This module reads the file, container by container; the process of `recoder` decodes. That process gets a header without
M5 and UR, or htslib would fetch references itself, from other servers too; and a sparse FASTA file with the bases that
these slices need.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.container import MAX_READ_GROUPS, read_container
from htsget_flask.formats.cram.slices import MULTIPLE_REFERENCES, Slice, read_slices, read_whole
from htsget_flask.formats.headers import Header
from htsget_flask.ranges import ByteRange, merge_intervals
from htsget_flask.records.decoder import Recoder
from htsget_flask.records.region_filter import RecordFilter

# Decoded together, in bytes; the first containers by themselves, so that the answer begins soon.
_BATCH = 4 << 20
_BUFFER_SIZE = 256 << 10

Letters = Callable[[int, int], Iterator[bytes]]
"""The bases of the requested reference from one position to another (0-based, half-open)."""

Bounds = Callable[[int], tuple[int, int] | None]
"""Where the records of the requested reference lie in the container at a byte offset; None where that is not known."""


class CramSource(NamedTuple):
    """A CRAM file: its content, its header, and its name, from which htslib names records that have none."""

    file: BinaryIO
    header: Header
    name: str


@dataclass(slots=True)
class _Batch:
    """Containers that are decoded together; `parts` are the intervals of the reference that they need.

    `is_mixed`: they hold records of several references, whose bounds only the index states.
    """

    is_mixed: bool
    containers: list[bytes] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0
    records: int = 0


def select_recoded(
    source: CramSource,
    spans: Iterable[ByteRange],
    record_filter: RecordFilter,
    letters: Letters,
    bounds: Bounds,
    recoder: Recoder,
) -> Iterator[bytes]:
    """The matching records of the containers in `spans` of a CRAM file, as containers of the same version.

    The memory is bounded by a container, or a few small ones.

    Raises:
        FormatError: when the file is damaged, `letters` are not the reference that it was made with, or decoding fails.
        ServiceUnavailable: when the decoder is busy, before anything is yielded.
    """
    assert isinstance(record_filter.reference, int)
    selection = _Selection(source, record_filter, letters)
    eof, is_begun = len(source.header.eof_marker), False
    for batch in _batches(source, spans, record_filter.reference, selection.length, bounds):
        with tempfile.TemporaryFile(buffering=0) as target:
            with selection.files(batch) as files:
                begin = recoder.recode([*files, target.fileno()], may_refuse=not is_begun)
            is_begun = True
            length = os.fstat(target.fileno()).st_size - eof - begin
            if length < 0:
                raise FormatError("its records cannot be decoded")
            target.truncate(begin + length)
            target.seek(begin)
            yield from iter(partial(target.read, _BUFFER_SIZE), b"")


def _batches(
    source: CramSource, spans: Iterable[ByteRange], reference_id: int, length: int, bounds: Bounds
) -> Iterator[_Batch]:
    batch, limit = _Batch(is_mixed=False), 0
    major = source.header.raw[4]
    for span in spans:
        offset = span.start
        while offset < span.end:
            container = read_container(source.file, offset, major)
            data = read_whole(source.file, container)
            slices = read_slices(data, container, major)
            matching = [one for one in slices if one.reference_id in (reference_id, MULTIPLE_REFERENCES)]
            is_mixed = any(one.reference_id == MULTIPLE_REFERENCES and one.needs_reference for one in matching)
            if batch.containers and (batch.size > limit or is_mixed != batch.is_mixed):
                yield batch
                batch, limit = _Batch(is_mixed), _BATCH
            if matching:
                batch.is_mixed = is_mixed
                batch.containers.append(data)
                batch.size += len(data)
                batch.records += sum(one.records for one in slices)
                batch.parts += _parts(matching, bounds(offset) or (0, length), length)
            offset = container.end
    if batch.containers:
        yield batch


def _parts(slices: Sequence[Slice], bounds: tuple[int, int], length: int) -> Iterator[tuple[int, int]]:
    for slice_ in slices:
        if slice_.needs_reference:
            start, end = bounds if slice_.reference_id == MULTIPLE_REFERENCES else (slice_.start, slice_.end)
            if start < min(end, length):
                yield start, min(end, length)


class _Selection:
    """The input of the decoder for the batches of a request; `length` is that of the requested reference."""

    def __init__(self, source: CramSource, record_filter: RecordFilter, letters: Letters) -> None:
        self._source = source
        self._filter = record_filter
        self._letters = letters
        header = source.header
        if len(header.read_groups) > MAX_READ_GROUPS:
            raise FormatError(f"the header names more than {MAX_READ_GROUPS:,} read groups")
        self._lengths = [0] * header.references.id_limit
        for reference in header.references.in_order():
            self._lengths[reference.id or 0] = reference.length or 0
        self.length = self._lengths[int(record_filter.reference)]
        # Records refer to references and read groups by number; M5 and UR are left out on purpose.
        lines = [f"@SQ\tSN:{number}\tLN:{length}" for number, length in enumerate(self._lengths)]
        lines += [f"@RG\tID:{name}" for name in header.read_groups]
        self._header = "".join(f"{line}\n" for line in ("@HD\tVN:1.6", *lines))

    @contextmanager
    def files(self, batch: _Batch) -> Iterator[list[int]]:
        """Descriptors of a batch's job, its containers and a scratch file; the job names the reference's file."""
        eof = self._source.header.eof_marker
        with (
            tempfile.TemporaryFile() as job,
            tempfile.TemporaryFile() as containers,
            tempfile.TemporaryFile(buffering=0) as scratch,
            tempfile.TemporaryDirectory(prefix="htsget_flask-") as folder,
        ):
            reference = self._reference(Path(folder), merge_intervals(batch.parts)) if batch.parts else None
            containers.writelines((*batch.containers, eof))
            fields = {
                "version": list(self._source.header.raw[4:6]),
                "header": self._header,
                "name": self._source.name,
                "filter": self._filter,
                "length": self.length,
                "is_mixed": batch.is_mixed,
                "parts": batch.parts,
                "records": batch.records,
                "reference": reference,
                "eof": len(eof),
            }
            job.write(json.dumps(fields).encode())
            job.flush()
            containers.flush()
            yield [file.fileno() for file in (job, containers, scratch)]

    def _reference(self, folder: Path, parts: Sequence[tuple[int, int]]) -> str:
        """A sparse FASTA file and its index: the requested reference at `offset`, all others over the same zeros."""
        path, offset = folder / "reference", max(self._lengths)
        # htslib reads only what it needs of it (30 ms for a gene), but all of each reference for mixed slices.
        with path.open("wb", buffering=0) as file:
            for start, end in parts:
                file.seek(offset + start)
                for letters in self._letters(start, end):
                    file.write(letters)
            file.truncate(offset + self.length)
        index = "".join(
            f"{number}\t{length}\t{offset if number == self._filter.reference else 0}\t{length}\t{length}\n"
            for number, length in enumerate(self._lengths)
        )
        path.with_name("reference.fai").write_text(index)
        return str(path)
