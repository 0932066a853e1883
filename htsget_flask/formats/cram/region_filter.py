"""Records of CRAM files picked by their place: decoded with their reference, and encoded without one.

Here a file is read, container by container; `recoder` has the process that decodes. It learns nothing of checksums and
locations of references: htslib would fetch them from elsewhere, from other servers too. It has a FASTA file that holds
the letters that these slices need, and is empty between them.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.container import MAX_READ_GROUPS, read_container
from htsget_flask.formats.cram.recoder import Recoder
from htsget_flask.formats.cram.slices import MULTIPLE_REFERENCES, Slice, read_slices, read_whole
from htsget_flask.formats.headers import Header
from htsget_flask.formats.region_filter import RecordFilter
from htsget_flask.ranges import ByteRange

# Decoded together, in bytes; the first containers by themselves, so that the answer begins soon.
_BATCH = 4 << 20
_PIECE = 256 << 10

Letters = Callable[[int, int], Iterator[bytes]]
"""Letters of the wanted reference, from one position to another (0-based, half-open)."""

Bounds = Callable[[int], tuple[int, int] | None]
"""Where the records of the wanted reference lie in the container at a byte offset; None where that is not known."""


class CramSource(NamedTuple):
    """A CRAM file to pick records of: its header, as in the file, and its name, which names records without one."""

    file: BinaryIO
    header: Header
    name: str


@dataclass(slots=True)
class _Batch:
    """Containers that are decoded together; `parts` of the wanted reference are needed for it.

    `is_mixed`: they hold records of several references, whose bounds only the index knows.
    """

    is_mixed: bool
    containers: list[bytes] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0
    records: int = 0


def select_recoded(
    source: CramSource,
    spans: Iterable[ByteRange],
    wanted: RecordFilter,
    letters: Letters,
    bounds: Bounds,
    recoder: Recoder,
) -> Iterator[bytes]:
    """The wanted records of the containers in some ranges of a CRAM file, as containers of the same version.

    Memory here is bounded by a container, or a few small ones.

    Raises:
        FormatError: when the file is damaged, `letters` are not those that it was made with, or the decoder fails.
        ServiceUnavailable: when the decoder is busy, before anything is yielded.
    """
    assert isinstance(wanted.reference, int)
    selection = _Selection(source, wanted, letters)
    eof, is_begun = len(source.header.eof_marker), False
    for batch in _batches(source, spans, wanted.reference, selection.length, bounds):
        with tempfile.TemporaryFile(buffering=0) as target:
            with selection.files(batch) as files:
                begin = recoder.recode([*files, target.fileno()], may_refuse=not is_begun)
            is_begun = True
            left = os.fstat(target.fileno()).st_size - eof - begin
            if left < 0:
                raise FormatError("its records cannot be decoded")
            target.seek(begin)
            yield from _pieces(target, left)


def _pieces(target: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0:
        data = target.read(min(_PIECE, left))
        if not data:
            raise FormatError("its records cannot be decoded")
        left -= len(data)
        yield data


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
            held = [piece for piece in slices if piece.reference_id in (reference_id, MULTIPLE_REFERENCES)]
            is_mixed = any(piece.reference_id == MULTIPLE_REFERENCES and piece.needs_reference for piece in held)
            if batch.containers and (batch.size > limit or is_mixed != batch.is_mixed):
                yield batch
                batch, limit = _Batch(is_mixed), _BATCH
            if held:
                batch.is_mixed = is_mixed
                batch.containers.append(data)
                batch.size += len(data)
                batch.records += sum(piece.records for piece in slices)
                batch.parts += _parts(held, bounds(offset) or (0, length), length)
            offset = container.end
    if batch.containers:
        yield batch


def _parts(slices: Sequence[Slice], bounds: tuple[int, int], length: int) -> Iterator[tuple[int, int]]:
    for piece in slices:
        if piece.needs_reference:
            start, end = bounds if piece.reference_id == MULTIPLE_REFERENCES else (piece.start, piece.end)
            if start < min(end, length):
                yield start, min(end, length)


def _merged(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class _Selection:
    """What the decoder is given of a request's batches; `length` is that of the wanted reference."""

    def __init__(self, source: CramSource, wanted: RecordFilter, letters: Letters) -> None:
        self._source = source
        self._wanted = wanted
        self._letters = letters
        header = source.header
        if len(header.read_groups) > MAX_READ_GROUPS:
            raise FormatError(f"the header names more than {MAX_READ_GROUPS:,} read groups")
        self._lengths = [0] * header.references.id_limit
        for reference in header.references.values():
            self._lengths[reference.id or 0] = reference.length or 0
        self.length = self._lengths[int(wanted.reference)]
        # Records name references and read groups by their numbers; no more is needed.
        lines = [f"@SQ\tSN:{number}\tLN:{length}" for number, length in enumerate(self._lengths)]
        lines += [f"@RG\tID:{name}" for name in header.read_groups]
        self._header = "".join(f"{line}\n" for line in ("@HD\tVN:1.6", *lines))

    @contextmanager
    def files(self, batch: _Batch) -> Iterator[list[int]]:
        """Descriptors of a batch's job, its containers and room to work in; the job names the reference's file."""
        eof = self._source.header.eof_marker
        with (
            tempfile.TemporaryFile() as job,
            tempfile.TemporaryFile() as containers,
            tempfile.TemporaryFile(buffering=0) as room,
            tempfile.TemporaryDirectory(prefix="htsget_flask-") as folder,
        ):
            reference = self._reference(Path(folder), _merged(batch.parts)) if batch.parts else None
            containers.writelines((*batch.containers, eof))
            job.write(json.dumps(self._job(batch, reference, len(eof))).encode())
            job.flush()
            containers.flush()
            yield [file.fileno() for file in (job, containers, room)]

    def _job(self, batch: _Batch, reference: str | None, eof: int) -> dict[str, Any]:
        return {
            "version": list(self._source.header.raw[4:6]),
            "header": self._header,
            "name": self._source.name,
            "wanted": self._wanted,
            "length": self.length,
            "is_mixed": batch.is_mixed,
            "parts": batch.parts,
            "records": batch.records,
            "reference": reference,
            "eof": eof,
        }

    def _reference(self, folder: Path, parts: Sequence[tuple[int, int]]) -> str:
        """A FASTA file and its index: of the wanted reference these parts, of all others nothing but room."""
        path, room = folder / "reference", max(self._lengths)
        with path.open("wb", buffering=0) as file:
            for start, end in parts:
                file.seek(room + start)
                for piece in self._letters(start, end):
                    file.write(piece)
            file.truncate(room + self.length)
        places = (room if number == self._wanted.reference else 0 for number in range(len(self._lengths)))
        rows = zip(self._lengths, places, strict=True)
        index = "".join(
            f"{number}\t{length}\t{place}\t{length}\t{length}\n" for number, (length, place) in enumerate(rows)
        )
        path.with_name("reference.fai").write_text(index)
        return str(path)
