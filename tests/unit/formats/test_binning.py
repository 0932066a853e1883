"""Bins and chunks against their definitions."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.formats.binning import (
    BAI_DEPTH,
    BAI_MIN_SHIFT,
    Chunk,
    bin_ranges,
    first_bin,
    max_position,
    merge_chunks,
    parent,
)

LIMIT = max_position(BAI_MIN_SHIFT, BAI_DEPTH)

positions = st.one_of(st.integers(0, LIMIT - 1), st.integers(0, 100_000), st.integers(0, 16_384 * 9))
lengths = st.one_of(st.integers(1, 500), st.integers(1, 200_000), st.integers(1, LIMIT))


class TestBins:
    @given(positions, lengths)
    def test_those_of_a_range_are_all_that_overlap_it(self, start: int, length: int) -> None:
        end = min(LIMIT, start + length)
        ranges = bin_ranges(start, end, BAI_MIN_SHIFT, BAI_DEPTH)
        assert len(ranges) == BAI_DEPTH + 1
        for level, (first, last) in enumerate(ranges):
            size = LIMIT >> 3 * level
            for number in {first, last, max(first_bin(level), first - 1), min(first_bin(level + 1) - 1, last + 1)}:
                bin_start = (number - first_bin(level)) * size
                assert (first <= number <= last) == (bin_start < end and start < bin_start + size)

    @given(st.integers(1, first_bin(BAI_DEPTH + 1) - 1))
    def test_a_parent_holds_its_children(self, number: int) -> None:
        level = next(level for level in range(BAI_DEPTH + 1) if number < first_bin(level + 1))
        above = parent(number)
        assert first_bin(level - 1) <= above < first_bin(level)
        assert (above - first_bin(level - 1)) == (number - first_bin(level)) // 8


chunk_lists = st.lists(
    st.builds(lambda begin, length: Chunk(begin, begin + length), st.integers(0, 40 << 16), st.integers(0, 5 << 16))
)


class TestChunksAreMerged:
    @given(chunk_lists, st.integers(0, 3))
    def test_as_sets_of_virtual_offsets(self, chunks: list[Chunk], max_gap: int) -> None:
        merged = merge_chunks(chunks, max_gap=max_gap)
        assert merged == sorted(merged)
        for chunk in chunks:
            if chunk.begin < chunk.end:
                assert any(one.begin <= chunk.begin and chunk.end <= one.end for one in merged)
        for one, other in pairwise(merged):
            assert (other.begin >> 16) - (one.end >> 16) > max_gap
        edges = {chunk.begin for chunk in chunks} | {chunk.end for chunk in chunks}
        assert all(chunk.begin in edges and chunk.end in edges for chunk in merged)
