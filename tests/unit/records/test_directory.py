"""Rows are made once, whoever needs them."""

from collections.abc import Collection

import numpy as np
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import Chunk
from htsget_flask.records.block_records import BlockRecords
from htsget_flask.records.directory import NO_ROWS, Directory, Row, Segment, Segments

# In bytes of the file, the distance of the blocks; a segment is 32 MiB.
STEP = 5 << 20
COUNT = 40


def voffset(number: int) -> int:
    return number * STEP << 16


class Sample:
    """A file of blocks 5 MiB apart, each with two records, and the rows that are kept of it."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.loads: list[int] = []
        self.kept: dict[int, Segment] = {}
        self.reference = 3
        self.starts = {voffset(number): (number * 10, number * 10 + 5) for number in range(COUNT)}

    def read(self, begin: int) -> BlockRecords | None:
        self.reads.append(begin)
        if begin not in self.starts:
            return None
        starts = np.array(self.starts[begin], np.int64)
        return BlockRecords(begin, begin + voffset(1), self.reference, b"", np.zeros(3, np.int64), starts, starts + 7)

    def load(self, number: int) -> Segment:
        self.loads.append(number)
        return self.kept.get(number, NO_ROWS)

    def extend(self, number: int, rows: Collection[Row]) -> None:
        self.kept[number] = self.kept.get(number, NO_ROWS).extend(rows)

    def directory(self, reference_id: int = 0) -> Directory:
        return Directory(self.read, Segments(self.load, self.extend), reference_id, 3)


def expected(first: int, last: int) -> list[Row]:
    return [Row(voffset(n), voffset(n + 1), 0, n * 10, n * 10 + 5, n * 10 + 12) for n in range(first, last)]


class TestRows:
    def test_are_made_once(self) -> None:
        sample = Sample()
        directory = sample.directory()
        assert list(directory.rows(Chunk(voffset(3), voffset(30)))) == expected(3, 30)
        assert list(directory.rows(Chunk(voffset(5), voffset(20) - 1))) == expected(5, 20)
        assert directory.row(voffset(4)) == expected(4, 5)[0]
        assert sample.reads == [voffset(number) for number in range(3, 30)]
        directory.save()
        assert set(sample.kept) == {number * STEP >> 25 for number in range(3, 30)}
        assert sum(map(len, sample.kept.values())) == 27
        sample.reads.clear()
        following = sample.directory()
        assert list(following.rows(Chunk(voffset(0), voffset(COUNT)))) == expected(0, COUNT)
        assert sample.reads == [voffset(number) for number in (0, 1, 2, *range(30, COUNT))]
        following.save()
        following.save()
        assert sum(map(len, sample.kept.values())) == COUNT
        assert list(sample.directory().rows(Chunk(voffset(0), voffset(COUNT)))) == expected(0, COUNT)
        assert len(sample.reads) == 13

    def test_load_each_segment_once(self) -> None:
        sample = Sample()
        for _ in range(2):
            sample.loads.clear()
            directory = sample.directory()
            for _ in range(2):
                list(directory.rows(Chunk(0, voffset(COUNT))))
            assert sample.loads == sorted({number * STEP >> 25 for number in range(COUNT)})
            directory.save()

    def test_end_with_the_file(self) -> None:
        sample = Sample()
        directory = sample.directory()
        assert list(directory.rows(Chunk(voffset(COUNT - 1), voffset(COUNT + 9)))) == expected(COUNT - 1, COUNT)
        assert directory.row(voffset(COUNT)) is None
        assert list(directory.rows(Chunk(5, 5))) == []

    def test_may_be_added_in_any_order(self) -> None:
        rows = expected(0, 9)
        segment = NO_ROWS.extend(rows[4:6]).extend(rows[7:]).extend([rows[0], rows[4]]).extend(rows[::-1])
        assert len(segment) == 9
        assert [segment.find(row.begin) for row in rows] == rows
        for begin in (1, voffset(9), voffset(3) + 1):
            assert segment.find(begin) is None
        again = Segment.from_arrays(segment.arrays())
        assert [again.find(row.begin) for row in rows] == rows


class TestFaults:
    @pytest.mark.parametrize("start", [44, 41])
    def test_records_that_are_not_sorted(self, start: int) -> None:
        sample = Sample()
        # The records of the block before start at 40 and 45.
        sample.starts[voffset(5)] = (start, 100)
        for _ in range(2):
            directory = sample.directory()
            with pytest.raises(FormatError, match="not sorted"):
                list(directory.rows(Chunk(0, voffset(COUNT))))
            directory.save()

    def test_another_reference(self) -> None:
        sample = Sample()
        sample.reference = 4
        with pytest.raises(FormatError, match="another reference"):
            sample.directory().row(0)
        sample.reference = 3
        directory = sample.directory()
        assert directory.row(0) is not None
        directory.save()
        with pytest.raises(FormatError, match="another reference"):
            sample.directory(reference_id=1).row(0)
