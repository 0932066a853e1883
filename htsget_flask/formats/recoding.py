"""Records of CRAM files picked by their place: htslib decodes them with their reference, and encodes them without one.

What decodes is told nothing of checksums and places of references: htslib would look for them elsewhere, at others'
servers too. It is given a FASTA file that holds the letters that the slices at hand need, and is empty between them.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pysam

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram import eof_container, read_container, read_groups, read_sequences
from htsget_flask.formats.selection import Wanted
from htsget_flask.formats.slices import MULTIPLE_REFERENCES, Slice, read_slices, read_whole
from htsget_flask.ranges import ByteRange

# Decoded together, in bytes; the first containers by themselves, so that the answer begins soon.
_BATCH = 4 << 20
_PIECE = 256 << 10
# What is cut is sent once: half of the time for 3% more bytes.
_LEVEL = "level=1"

# CRAM 2 cannot say that a read without a reference has no qualities: there the slices have one, made of the reads, for
# which these have to be in order.
_EMBEDDED = ("embed_ref=2", "store_md=1", "store_nm=1")
_UNREFERENCED = ("no_ref=1",)

Letters = Callable[[int, int], Iterator[bytes]]
"""Letters of the wanted reference, from one position to another (0-based, half-open)."""

Bounds = Callable[[int], tuple[int, int] | None]
"""Where the records of the wanted reference lie in the container at a byte offset; None where that is not known."""


class Recoded(NamedTuple):
    """A CRAM file to pick records of: its header, as in the file, and its name, which names records without one."""

    file: BinaryIO
    header: bytes
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
    source: Recoded,
    spans: Iterable[ByteRange],
    wanted: Wanted,
    letters: Letters,
    bounds: Bounds,
    turn: AbstractContextManager[object],
) -> Iterator[bytes]:
    """The wanted records of the containers in some ranges of a CRAM file, as containers of the same version.

    Memory is bounded by a container, or a few small ones. Where slices hold records of several references htslib takes
    all of a reference into memory, up to 250 MB of a human one, and in version 2 all that a container spans: `turn` is
    held meanwhile.

    Raises:
        FormatError: when the file is damaged, or `letters` are not those that it was made with.
    """
    # For the whole process: what htslib says of a file would stand in the log without its name.
    pysam.set_verbosity(0)
    assert isinstance(wanted.reference, int)
    recoder = _Recoder(source, wanted, letters, turn)
    for batch in _batches(source, spans, wanted.reference, recoder.length, bounds):
        yield from recoder.recoded(batch)


def _batches(
    source: Recoded, spans: Iterable[ByteRange], reference_id: int, length: int, bounds: Bounds
) -> Iterator[_Batch]:
    batch, limit = _Batch(is_mixed=False), 0
    major = source.header[4]
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


class _Recoder:
    """Decodes containers and encodes the wanted ones of their records; `length` is that of the wanted reference."""

    def __init__(self, source: Recoded, wanted: Wanted, letters: Letters, turn: AbstractContextManager[object]) -> None:
        self._turn = turn
        self._name = source.name
        self._wanted = wanted
        self._letters = letters
        self._lengths = [
            int(length) if length and length.isdigit() else 0 for _, length in read_sequences(source.header)
        ]
        self._eof = eof_container(source.header[4])
        self._embeds = source.header[4] == 2
        version = f"version={source.header[4]}.{source.header[5]}"
        self._options = [
            option.encode() for option in (version, *(_EMBEDDED if self._embeds else _UNREFERENCED), _LEVEL)
        ]
        # Records name references and read groups by their numbers; no more is needed, nor to be told.
        lines = [f"@SQ\tSN:{number}\tLN:{length}" for number, length in enumerate(self._lengths)]
        lines += [f"@RG\tID:{name}" for name in read_groups(source.header)]
        self._header = pysam.AlignmentHeader.from_text("".join(f"{line}\n" for line in ("@HD\tVN:1.6", *lines)))
        self._begin = self._empty()
        self.length = self._lengths[int(wanted.reference)]

    def recoded(self, batch: _Batch) -> Iterator[bytes]:
        """The containers of the wanted records of a batch."""
        with tempfile.TemporaryFile(buffering=0) as target:
            with (
                tempfile.TemporaryFile() as decoded,
                self._reader(decoded, batch) as reader,
                self._turn if batch.is_mixed or self._embeds else nullcontext(),
                self._writer(target) as writer,
            ):
                kept = 0
                for record in self._picked(reader, batch):
                    writer.write(record)
                    kept += 1
            if not kept:
                return
            left = target.seek(-len(self._eof), os.SEEK_END) - len(self._begin)
            target.seek(len(self._begin))
            while left > 0:
                data = target.read(min(_PIECE, left))
                left -= len(data)
                yield data

    def _reader(self, decoded: BinaryIO, batch: _Batch) -> pysam.AlignmentFile:
        decoded.writelines((self._begin, *batch.containers, self._eof))
        decoded.seek(0)
        options: Any = [b"name_prefix=" + os.fsencode(self._name)]
        with tempfile.TemporaryDirectory(prefix="htsget_flask-") as folder:
            # The file stays open, and is gone by its name.
            return pysam.AlignmentFile(
                decoded,
                "rc",
                check_sq=False,
                reference_filename=self._reference(Path(folder), _merged(batch.parts)) if batch.parts else None,
                format_options=options,
            )

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

    def _writer(self, target: BinaryIO) -> pysam.AlignmentFile:
        # The stubs know options as text, pysam takes bytes.
        options: Any = self._options
        return pysam.AlignmentFile(target, "wc", header=self._header, format_options=options)

    def _picked(self, reader: pysam.AlignmentFile, batch: _Batch) -> Iterator[pysam.AlignedSegment]:
        reference_id, start, end, after = self._wanted
        count = before = 0
        for count, record in enumerate(_decoded(reader), 1):  # noqa: B007 - counted to its end
            if record.reference_id != reference_id:
                continue
            first = record.reference_start
            last = record.reference_end or first + 1
            if first < after or last <= start or (end is not None and first >= end):
                continue
            if (
                batch.is_mixed
                and not record.is_unmapped
                and not any(low <= first and min(last, self.length) <= high for low, high in batch.parts)
            ):
                raise FormatError("the index does not fit the data: a record lies elsewhere than it says")
            if self._embeds and first < before:
                raise FormatError("its records are not in the order of their places; CRAM 2.1 cannot be cut then")
            before = first
            yield record
        if count != batch.records:
            raise FormatError(_UNDECODED)

    def _empty(self) -> bytes:
        """What a file begins with before its first record."""
        with tempfile.TemporaryFile(buffering=0) as file:
            self._writer(file).close()
            file.seek(0)
            return file.read().removesuffix(self._eof)


_UNDECODED = "records cannot be decoded: the file is damaged, or it was made with other references than it says"


def _decoded(reader: pysam.AlignmentFile) -> Iterator[pysam.AlignedSegment]:
    records = reader.fetch(until_eof=True)
    while True:
        try:
            record = next(records, None)
        except OSError as error:
            raise FormatError(_UNDECODED) from error
        if record is None:
            return
        yield record
