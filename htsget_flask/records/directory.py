"""The directory of a file's BGZF blocks: which positions the records that start in each block have.

A row costs a fifth of a millisecond, as its block is inflated and parsed. The rows are therefore stored, in segments of
the file.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.array_file import ArrayFields
from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import Chunk
from htsget_flask.records.block_records import UNSORTED, BlockRecords

# The bits of a virtual offset in a segment: it has 32 MiB of the file, and usually about 100 kB of rows.
_SEGMENT_BITS = 16 + 25


class Row(NamedTuple):
    """The records that start in one BGZF block, from virtual offset `begin` up to `next`.

    `reference_id`: of all of them, in the index. `start`, `last`: where the first and the last one start; `end`: the
    greatest of all (0-based, half-open).
    """

    begin: int
    next: int
    reference_id: int
    start: int
    last: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Segment(ArrayFields):
    """The known rows of a part of a file. `rows`: int64[6, rows], the fields of `Row`, sorted by `begin`."""

    rows: npt.NDArray[np.int64]

    columns: Sequence[memoryview] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Access to single items is several times as fast as in numpy.
        object.__setattr__(self, "columns", [column.data for column in self.rows])

    def __len__(self) -> int:
        return len(self.columns[0])

    def find(self, begin: int) -> Row | None:
        """The row that begins at a virtual offset, if it is known."""
        begins, *others = self.columns
        rank = bisect_left(begins, begin)
        if rank == len(begins) or begins[rank] != begin:
            return None
        return Row(begin, *(column[rank] for column in others))

    def extend(self, rows: Collection[Row]) -> "Segment":
        """A segment with further rows."""
        table = np.concatenate((self.rows, np.array(list(rows), np.int64).T), axis=1)
        return Segment(np.ascontiguousarray(table[:, np.unique(table[0], return_index=True)[1]]))


NO_ROWS = Segment(np.empty((6, 0), np.int64))


class Segments(NamedTuple):
    """Where segments are kept, by number: `load` returns `NO_ROWS` for one that is not. `extend`: with new rows."""

    load: Callable[[int], Segment]
    extend: Callable[[int, Collection[Row]], None]


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
        self._loaded: dict[int, Segment] = {}
        self._new: dict[int, Row] = {}

    def rows(self, chunk: Chunk) -> Iterator[Row]:
        """The rows of a chunk's records, in file order; the last one may go beyond the chunk.

        Raises:
            FormatError: when the chunk's records are not on this reference, not sorted by position, or damaged.
        """
        begin, before = chunk.begin, -1
        while begin < chunk.end:
            row = self.row(begin)
            if row is None:
                return
            if row.start < before:
                raise FormatError(UNSORTED)
            yield row
            begin, before = row.next, row.last

    def row(self, begin: int) -> Row | None:
        """The row of the records from a virtual offset on; None at the end of the file.

        Raises:
            FormatError: when they are not on this reference, not sorted by position, or damaged.
        """
        number = begin >> _SEGMENT_BITS
        if number not in self._loaded:
            self._loaded[number] = self._segments.load(number)
        row = self._loaded[number].find(begin) or self._new.get(begin)
        if row is None:
            records = self._read(begin)
            if records is None:
                return None
            if records.reference != self._key:
                raise FormatError("the index does not fit the data: a record is on another reference")
            starts, end = records.starts, int(records.ends.max())
            row = Row(begin, records.next, self._reference_id, int(starts[0]), int(starts[-1]), end)
            self._new[begin] = row
        elif row.reference_id != self._reference_id:
            raise FormatError("the index does not fit the data: a record is on another reference")
        return row

    def save(self) -> None:
        """Keep the rows that were made."""
        numbers = {begin >> _SEGMENT_BITS for begin in self._new}
        for number in numbers:
            rows = [row for row in self._new.values() if row.begin >> _SEGMENT_BITS == number]
            self._segments.extend(number, rows)
        self._new.clear()
