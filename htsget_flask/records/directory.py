"""The directory of a file's BGZF blocks: which positions the records that start in each block have.

A row costs a fifth of a millisecond, as its block is inflated and parsed. The rows are therefore stored, in segments of
the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.array_file import ArrayFields
from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import Chunk
from htsget_flask.records.block_records import BlockRecords

# The bits of a virtual offset in a segment: it has 32 MiB of the file, and at most about 100 kB of rows.
_SEGMENT_BITS = 16 + 25


class Row(NamedTuple):
    """The records that start in one BGZF block, from virtual offset `begin` up to `next`.

    `reference_id`: of all of them, in the index. `start`: of the first one; `end`: the greatest of all (0-based,
    half-open).
    """

    begin: int
    next: int
    reference_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Segment(ArrayFields):
    """The known rows of a part of a file. `rows`: int64[rows, 5], the fields of `Row`, sorted by `begin`."""

    rows: npt.NDArray[np.int64]

    def find(self, begin: int) -> Row | None:
        """The row that begins at a virtual offset, if it is known."""
        rank = int(self.rows[:, 0].searchsorted(begin))
        if rank == len(self.rows) or self.rows[rank, 0] != begin:
            return None
        return Row(*self.rows[rank].tolist())

    def extend(self, rows: list[Row]) -> "Segment":
        """A segment with further rows."""
        table = np.concatenate((self.rows, np.array(rows, np.int64)))
        return Segment(table[np.unique(table[:, 0], return_index=True)[1]])


NO_ROWS = Segment(np.empty((0, 5), np.int64))


class Segments(NamedTuple):
    """Where segments are kept, by number: `load` returns `NO_ROWS` for one that is not."""

    load: Callable[[int], Segment]
    store: Callable[[int, Segment], None]


class Directory:
    """The rows of one version of a file, during one request.

    `read`: the records from a virtual offset on. `reference_id` and `key`: the reference as the index and as records
    name it.
    """

    def __init__(
        self, read: Callable[[int], BlockRecords | None], segments: Segments, reference_id: int, key: int | bytes
    ) -> None:
        self._read = read
        self._segments = segments
        self._reference_id = reference_id
        self._key = key
        self._new: dict[int, Row] = {}

    def rows(self, chunk: Chunk) -> Iterator[Row]:
        """The rows of a chunk's records, in file order; the last one may go beyond the chunk.

        Raises:
            FormatError: when the chunk's records are not on this reference, not sorted by position, or damaged.
        """
        begin, before = chunk.begin, -1
        while begin < chunk.end:
            row = self._row(begin)
            if row is None:
                return
            if row.start < before:
                raise FormatError("its records are not sorted by position")
            yield row
            begin, before = row.next, row.start

    def save(self) -> None:
        """Store the rows that were made."""
        segments: dict[int, list[Row]] = {}
        for row in self._new.values():
            segments.setdefault(row.begin >> _SEGMENT_BITS, []).append(row)
        for number, rows in segments.items():
            self._segments.store(number, self._segments.load(number).extend(rows))
        self._new.clear()

    def _row(self, begin: int) -> Row | None:
        row = self._segments.load(begin >> _SEGMENT_BITS).find(begin) or self._new.get(begin)
        if row is None:
            records = self._read(begin)
            if records is None:
                return None
            if records.reference != self._key:
                raise FormatError("the index does not fit the data: a record is on another reference")
            row = Row(begin, records.next, self._reference_id, int(records.starts[0]), int(records.ends.max()))
            self._new[begin] = row
        elif row.reference_id != self._reference_id:
            raise FormatError("the index does not fit the data: a record is on another reference")
        return row
