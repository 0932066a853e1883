"""CRAI, the index of CRAM (CRAMv3 section 12): which containers hold records of which positions."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from htsget_flask.array_file import ArrayFields
from htsget_flask.errors import FormatError
from htsget_flask.formats.unpacking import unpack
from htsget_flask.ranges import ByteRange, coalesce

_COLUMNS = 6
_UNPLACED = -1
_MULTIPLE_REFERENCES = -2
# In bytes of text, each of which takes up to 14 bytes of memory while it is parsed; a whole genome has 2 MB.
_MAX_TEXT = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Crai(ArrayFields):
    """A CRAI: one entry for each slice, or for each reference in a slice of several; sorted by reference.

    `references`: int64, -1 for unplaced records. `starts`, `ends`: int64, 0-based, half-open.
    `container_indices`: int64, the entry's container as an index into `containers`. `containers`: int64, the byte
    offsets of all containers that hold records, ascending.
    """

    references: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    container_indices: npt.NDArray[np.int64]
    containers: npt.NDArray[np.int64]

    def overlapping(self, reference_id: int, start: int, end: int | None) -> list[int]:
        """The containers with records that overlap positions `start` to `end` (0-based, half-open), as indices."""
        if end is not None and end <= start:
            return []
        low, high = np.searchsorted(self.references, (reference_id, reference_id + 1)).tolist()
        overlap = self.ends[low:high] > start
        if end is not None:
            overlap &= self.starts[low:high] < end
        # An entry for several references at once does not state where its records lie.
        unknown = int(np.searchsorted(self.references, _MULTIPLE_REFERENCES + 1))
        indices = np.concatenate((self.container_indices[:unknown], self.container_indices[low:high][overlap]))
        return np.unique(indices).tolist()  # type: ignore[no-any-return]

    def within(self, reference_id: int, start: int, end: int | None) -> frozenset[int]:
        """The containers all of whose records lie between these positions of the reference, as indices."""
        outside = (self.references != reference_id) | (self.starts < start)
        if end is not None:
            outside |= self.ends > end
        return frozenset(self.container_indices[~outside].tolist()) - frozenset(
            self.container_indices[outside].tolist()
        )

    def bounds(self, container: int) -> dict[int, tuple[int, int]]:
        """Where the records of each reference lie in the container at a byte offset (0-based, half-open).

        Without unplaced records, and without references whose records the index does not state.
        """
        index = int(np.searchsorted(self.containers, container))
        if index == len(self.containers) or self.containers[index] != container:
            return {}
        bounds: dict[int, tuple[int, int]] = {}
        for row in np.flatnonzero((self.container_indices == index) & (self.references >= 0)).tolist():
            start, end = int(self.starts[row]), int(self.ends[row])
            low, high = bounds.get(reference_id := int(self.references[row]), (start, end))
            bounds[reference_id] = (min(low, start), max(high, end))
        return bounds

    def first_container(self, reference_id: int) -> int | None:
        """The byte offset of the first container with records of a reference; None without records.

        Where no entry has the reference, a container of several, of which the index does not say which, may have it.
        """
        entry = int(self.references.searchsorted(reference_id))
        if entry == len(self.references) or self.references[entry] != reference_id:
            if not len(self.references) or self.references[0] != _MULTIPLE_REFERENCES:
                return None
            entry = 0
        return int(self.containers[self.container_indices[entry]])

    def first_position(self, reference_id: int) -> int | None:
        """The 0-based position of the first record of a reference; None without records."""
        starts = self.starts[self.references == reference_id]
        return int(starts.min()) if len(starts) else None

    def unplaced(self) -> list[int]:
        """The containers with records that have no reference, as indices."""
        return self.overlapping(_UNPLACED, 0, None)

    def byte_ranges(self, indices: Iterable[int], last_end: int) -> list[ByteRange]:
        """The bytes of these containers; `last_end` is where the file's last container ends."""
        edges = self.containers
        count = len(edges)
        return coalesce(
            ByteRange(int(edges[index]), int(edges[index + 1]) if index + 1 < count else last_end) for index in indices
        )


def read_crai(data: bytes) -> Crai:
    """The index that a CRAI file holds, gzipped or plain.

    Raises:
        FormatError: when it is not a CRAI file, truncated or damaged, or longer than 32 MiB.
    """
    data = bytes(unpack(data, _MAX_TEXT))
    try:
        numbers = np.array(data.split(), dtype=np.int64) if len(data) < 1 << 16 else _fast_numbers(data)
    except (ValueError, OverflowError) as error:
        raise FormatError("the index is not a CRAI file, or damaged") from error
    lines = data.count(b"\n") + (not data.endswith(b"\n") and bool(data.strip()))
    if len(numbers) != _COLUMNS * lines:
        raise FormatError("the index is not a CRAI file, or damaged")
    table = numbers.reshape(-1, _COLUMNS)
    table = table[np.argsort(table[:, 0], kind="stable")]
    references, starts, spans, offsets = table[:, 0].copy(), table[:, 1] - 1, table[:, 2], table[:, 3]
    if (offsets < 0).any() or (references < _MULTIPLE_REFERENCES).any():
        raise FormatError("the index is not a CRAI file, or damaged")
    ends = starts + np.maximum(spans, 1)
    # Writers that do not know a slice's extent leave 0: it may lie anywhere on its reference.
    unknown = (starts < 0) | (spans <= 0) | (references < 0)
    starts[unknown] = 0
    ends[unknown] = np.iinfo(np.int64).max
    containers, indices = np.unique(offsets, return_inverse=True)
    return Crai(references, starts, ends, indices.astype(np.int64), containers)


def _fast_numbers(data: bytes) -> npt.NDArray[np.int64]:
    if data.translate(None, b"-0123456789 \t\r\n"):
        raise ValueError("not a table of numbers")
    return np.fromstring(data, dtype=np.int64, sep=" ")
