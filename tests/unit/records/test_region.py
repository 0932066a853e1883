"""Extents in a file of ten blocks, each with five records, 10 positions apart, of 1,000 positions."""

import numpy as np
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import Chunk
from htsget_flask.records.block_records import BlockRecords
from htsget_flask.records.directory import NO_ROWS, Directory, Segments
from htsget_flask.records.region import Extent, RegionFilter, find_extent

BLOCKS, COUNT, DISTANCE, LENGTH = 10, 5, 10, 1000
SIZE = 100


def voffset(record: int) -> int:
    """Where a record starts: each takes 100 bytes of a block's data."""
    number, rank = divmod(record, COUNT)
    return number * 1000 << 16 | rank * SIZE


def read(begin: int) -> BlockRecords | None:
    number, rank = (begin >> 16) // 1000, (begin & 0xFFFF) // SIZE
    if rank == COUNT:
        number, rank = number + 1, 0
    if number >= BLOCKS:
        return None
    first = number * COUNT + rank
    starts = np.arange(first, (number + 1) * COUNT, dtype=np.int64) * DISTANCE
    offsets = np.arange(len(starts) + 1, dtype=np.int64) * SIZE
    data = bytes(len(starts) * SIZE)
    return BlockRecords(voffset(first), voffset((number + 1) * COUNT), 0, data, offsets, starts, starts + LENGTH)


def find(start: int, end: int | None, chunks: list[Chunk], min_shift: int = 4) -> Extent | None:
    directory = Directory(read, Segments(lambda _: NO_ROWS, lambda *_: None), 0, 0)
    return find_extent(
        RegionFilter(0, start, end, 0),
        directory,
        lambda low, high: chunks if high is None or low < high else [],
        lambda low, high: [voffset(n) for n in range(0, BLOCKS * COUNT, 7) if low < voffset(n) < high],
        read,
        min_shift,
    )


ALL = [Chunk(0, voffset(BLOCKS * COUNT))]


class TestAnExtent:
    @pytest.mark.parametrize("min_shift", [2, 4, 7, 14])
    def test_is_from_the_first_start_in_the_region_to_the_first_after_it(self, min_shift: int) -> None:
        count = BLOCKS * COUNT
        for start in range(0, 520, 3):
            for end in (start + 1, start + 9, start + 40, start + 333, None):
                extent = find(start, end, ALL, min_shift)
                assert extent is not None
                first = min(-(-start // DISTANCE), count)
                last = count if end is None else min(-(-end // DISTANCE), count)
                assert extent.chunk == Chunk(voffset(first), voffset(last))
                # All records are long: the blocks from the first one on.
                assert list(extent.earlier) == [voffset(n * COUNT) for n in range(-(-first // COUNT))]

    def test_is_none_where_the_index_has_no_chunk(self) -> None:
        assert find(0, 100, []) is None

    def test_is_empty_after_the_last_record(self) -> None:
        extent = find(10_000, 10_001, ALL)
        assert extent == Extent([], Chunk(ALL[0].end, ALL[0].end))


class TestChunksWithRecordsBetweenThem:
    """Records of the region that the index does not list: they cannot be sorted, or the index is of another file."""

    def test_are_a_fault_within_the_extent(self) -> None:
        apart = [Chunk(0, voffset(12)), Chunk(voffset(20), ALL[0].end)]
        with pytest.raises(FormatError, match="not sorted"):
            find(30, 400, apart)

    def test_are_sound_outside(self) -> None:
        apart = [Chunk(0, voffset(2)), Chunk(voffset(20), ALL[0].end)]
        extent = find(205, 400, apart)
        assert extent is not None
        assert extent.chunk == Chunk(voffset(21), voffset(40))

    def test_are_no_records_where_one_ends_with_its_block(self) -> None:
        # The same position: the end of a block's data, and the start of the next block.
        apart = [Chunk(0, voffset(9) + SIZE), Chunk(voffset(10), ALL[0].end)]
        extent = find(30, 400, apart)
        assert extent is not None
        assert extent.chunk == Chunk(voffset(3), voffset(40))
