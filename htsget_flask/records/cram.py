"""Records of CRAM files, decoded with their references: as BAM, or as CRAM that needs no reference.

This module reads the file, container by container; a process of `decoder` decodes. That process gets a header without
M5 and UR, or htslib would fetch references itself, from other servers too; and a sparse FASTA file with the bases that
these slices need.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.fields import FIELDS, FieldSelection
from htsget_flask.formats.cram.container import MAX_READ_GROUPS, read_container
from htsget_flask.formats.cram.slices import MULTIPLE_REFERENCES, Slice, read_slices, read_whole
from htsget_flask.formats.headers import Header
from htsget_flask.ranges import ByteRange, merge_intervals
from htsget_flask.records.decoder import Decoder
from htsget_flask.records.region import UNPLACED_ID, RegionFilter

# Decoded together, in bytes.
_BATCH = 4 << 20
_MAX_CONTAINER = 256 << 20
# For the containers, and for the process.
_FILES = 4
# htslib's numbers, as those of FIELDS (its enum sam_fields). What FLAG states of the mate is decoded with TLEN only.
_ALL_FIELDS, _TLEN, _SEQ, _TAGS = 0x7FFFFFFF, 1 << 8, 1 << 9, 3 << 11
# Where the index does not state which references a container has: all, if they have this many bases at most.
_MAX_UNKNOWN_BASES = 256 << 20

Letters = Callable[[int, int, int], Iterator[bytes]]
"""The bases of a reference, by its id, from one position to another (0-based, half-open)."""

Bounds = Callable[[int], Mapping[int, tuple[int, int]]]
"""Where the records of each reference, by its id, lie in the container at a byte offset, as far as that is known."""


class CramSource(NamedTuple):
    """A CRAM file: its content, its header, and its name, from which htslib names records that have none."""

    file: BinaryIO
    header: Header
    name: str


@dataclass(slots=True)
class _Batch:
    """Containers that are decoded together; `parts` are the intervals of each reference, by its id, that they need.

    `is_mixed`: they hold records of several references, whose bounds only the index states.
    """

    is_mixed: bool
    containers: list[bytes] = field(default_factory=list)
    parts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    size: int = 0
    records: int = 0


def needs_bases(selection: FieldSelection) -> bool:
    """Whether records are decoded with their bases, and so with their reference: MD and NM are made of the bases."""
    return "SEQ" in selection.fields or _has_differences(selection)


def _has_differences(selection: FieldSelection) -> bool:
    return selection.has_tag("MD") or selection.has_tag("NM")


def can_encode(header: Header, selection: FieldSelection) -> bool:
    """Whether CRAM of a file's version can state what is selected: version 2 has no reads without bases."""
    return header.raw[4] > 2 or "SEQ" in selection.fields


def decode_containers(
    source: CramSource,
    spans: Iterable[ByteRange],
    region: RegionFilter | None,
    selection: FieldSelection,
    format_name: str,
    letters: Letters,
    bounds: Bounds,
    decoder: Decoder,
    target: BinaryIO,
) -> None:
    """Append the records of the containers in `spans` to an unbuffered file: BGZF blocks of BAM, or containers.

    `region`: only these records; None: all, of any reference and of none, in the file's order. `format_name`: BAM, or
    CRAM of the same version. Memory is bounded by a container (256 MiB), or a few small ones; the process also has some
    MB of records in memory, and in a temporary file.

    Raises:
        FormatError: when the file is damaged, `letters` are not the reference that it was made with, or decoding fails.
        ServiceUnavailable: when the decoder is busy, before anything is read or written.
    """
    with decoder.reserve() as process:
        plan = _Plan(source, region, selection, format_name)
        for batch in plan.batches(spans, bounds):
            with plan.files(batch, letters) as (job, files):
                process.run(job, [*files, target])


class _Plan:
    """The jobs of the decoder for some containers of a file."""

    def __init__(
        self, source: CramSource, region: RegionFilter | None, selection: FieldSelection, format_name: str
    ) -> None:
        self._source = source
        self._region = region
        self._selection = selection
        self._format_name = format_name
        self._needs_bases = needs_bases(selection)
        header = source.header
        if len(header.read_groups) > MAX_READ_GROUPS:
            raise FormatError(f"the header names more than {MAX_READ_GROUPS:,} read groups")
        if format_name == "BAM" and any("\ufffd" in name for name in header.read_groups):
            raise FormatError("the ID of a read group in the header is not UTF-8")
        self._lengths = [0] * header.references.id_limit
        for reference in header.references.in_order():
            self._lengths[reference.id or 0] = reference.length or 0
        # Records refer to references and read groups by number; M5 and UR are left out on purpose.
        lines = [f"@SQ\tSN:{number}\tLN:{length}" for number, length in enumerate(self._lengths)]
        lines += [f"@RG\tID:{name}" for name in header.read_groups]
        self._header = "".join(f"{line}\n" for line in ("@HD\tVN:1.6", *lines))

    def batches(self, spans: Iterable[ByteRange], bounds: Bounds) -> Iterator[_Batch]:
        """The containers that may have matching records, some MB at a time."""
        batch = _Batch(is_mixed=False)
        major = self._source.header.raw[4]
        for span in spans:
            offset = span.start
            while offset < span.end:
                container = read_container(self._source.file, offset, major)
                if container.end - offset > _MAX_CONTAINER:
                    raise FormatError(f"a container exceeds {_MAX_CONTAINER >> 20} MiB")
                data = read_whole(self._source.file, container)
                slices = read_slices(data, container, major)
                matching = [one for one in slices if self._may_match(one.reference_id)]
                is_mixed = any(one.reference_id == MULTIPLE_REFERENCES and one.needs_reference for one in matching)
                if batch.containers and (batch.size > _BATCH or is_mixed != batch.is_mixed):
                    yield batch
                    batch = _Batch(is_mixed)
                if matching:
                    batch.is_mixed = is_mixed
                    batch.containers.append(data)
                    batch.size += len(data)
                    batch.records += sum(one.records for one in slices)
                    if self._needs_bases:
                        for reference_id, start, end in self._parts(matching, bounds(offset)):
                            batch.parts.setdefault(reference_id, []).append((start, end))
                offset = container.end
        if batch.containers:
            yield batch

    def _may_match(self, reference_id: int) -> bool:
        return self._region is None or reference_id in (self._region.reference_id, MULTIPLE_REFERENCES)

    def _parts(self, slices: Sequence[Slice], bounds: Mapping[int, tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        for slice_ in slices:
            if not slice_.needs_reference:
                continue
            if slice_.reference_id == MULTIPLE_REFERENCES:
                parts = self._mixed_parts(bounds)
            else:
                parts = {slice_.reference_id: (slice_.start, slice_.end)}
            for reference_id, (start, end) in parts.items():
                if not -1 <= reference_id < len(self._lengths):
                    raise FormatError("a container or the index has a reference that is not in the header")
                if reference_id >= 0 and start < min(end, self._lengths[reference_id]):
                    yield reference_id, start, min(end, self._lengths[reference_id])

    def _mixed_parts(self, bounds: Mapping[int, tuple[int, int]]) -> Mapping[int, tuple[int, int]]:
        if self._region is not None:
            reference_id = self._region.reference_id
            if reference_id == UNPLACED_ID:
                return {}
            return {reference_id: bounds.get(reference_id, (0, self._lengths[reference_id]))}
        if not bounds and sum(self._lengths) > _MAX_UNKNOWN_BASES:
            raise FormatError("the index does not state which references a container has")
        return bounds or {number: (0, length) for number, length in enumerate(self._lengths)}

    @contextmanager
    def files(self, batch: _Batch, letters: Letters) -> Iterator[tuple[dict[str, object], list[BinaryIO]]]:
        """A batch's job and its files, without the target; the job names the reference's file."""
        header = self._source.header
        with ExitStack() as stack:
            files: list[BinaryIO] = []
            files += (stack.enter_context(tempfile.TemporaryFile(buffering=0)) for _ in range(_FILES))
            for data in (*batch.containers, header.eof_marker):
                files[0].write(data)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="htsget_flask-")))
            parts = {number: merge_intervals(batch.parts[number]) for number in sorted(batch.parts)}
            reference = None
            if parts or batch.is_mixed:
                reference = self._write_reference(folder / "reference", parts, letters)
            job: dict[str, object] = {
                "kind": "cram",
                "version": list(header.raw[4:6]),
                "header": self._header,
                "name": self._source.name,
                "region": self._region,
                "selection": str(self._selection),
                "required_fields": _required_fields(self._selection),
                "decodes_md": _has_differences(self._selection),
                "format": self._format_name,
                "lengths": self._lengths,
                "is_mixed": batch.is_mixed and self._needs_bases,
                "parts": [*parts.items()],
                "records": batch.records,
                "reference": reference,
                "eof": len(header.eof_marker),
            }
            yield job, files

    def _write_reference(self, path: Path, parts: Mapping[int, list[tuple[int, int]]], letters: Letters) -> str:
        """Write a sparse FASTA file and its index: the references of the parts, all others over the same zeros."""
        # For slices of several references htslib reads each from start to end, even if it decodes no bases.
        end = max(self._lengths, default=0)
        offsets: dict[int, int] = {}
        with path.open("wb") as file:
            for reference_id, intervals in parts.items():
                offsets[reference_id] = end
                for start, stop in intervals:
                    file.seek(end + start)
                    file.writelines(letters(reference_id, start, stop))
                    if file.tell() != end + stop:
                        raise FormatError("a reference is not as long as the header states")
                end += self._lengths[reference_id]
            file.truncate(end)
        index = "".join(
            f"{number}\t{length}\t{offsets.get(number, 0)}\t{length}\t{length}\n"
            for number, length in enumerate(self._lengths)
        )
        path.with_name("reference.fai").write_text(index)
        return str(path)


def _required_fields(selection: FieldSelection) -> int:
    if selection.is_everything:
        return _ALL_FIELDS
    mask = _TLEN | sum(1 << number for number, name in enumerate(FIELDS) if name in selection.fields)
    if needs_bases(selection):
        mask |= _SEQ
    # A read group that the header lacks is an ordinary tag.
    return mask | _TAGS if selection.tags is None or selection.tags else mask
