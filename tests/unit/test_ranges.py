from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.ranges import ByteRange, coalesce

ranges = st.builds(lambda start, length: ByteRange(start, start + length), st.integers(0, 60), st.integers(0, 20))


class TestRangesAreCoalesced:
    @given(st.lists(ranges))
    def test_as_a_set_of_bytes(self, given_ranges: list[ByteRange]) -> None:
        merged = coalesce(given_ranges)
        assert {byte for span in merged for byte in range(span.start, span.end)} == {
            byte for span in given_ranges for byte in range(span.start, span.end)
        }
        assert all(one.end < other.start for one, other in pairwise(merged))
        assert all(len(span) for span in merged)

    @given(st.lists(ranges), st.integers(0, 10))
    def test_small_gaps_are_filled_and_no_others(self, given_ranges: list[ByteRange], max_gap: int) -> None:
        merged = coalesce(given_ranges, max_gap=max_gap)
        exact = coalesce(given_ranges)
        gaps = [ByteRange(one.end, other.start) for one, other in pairwise(exact)]
        small = [gap for gap in gaps if len(gap) <= max_gap]
        assert merged == coalesce([*exact, *small])

    @pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4)])
    def test_a_range_does_not_end_before_its_start(self, start: int, end: int) -> None:
        with pytest.raises(ValueError, match="not a byte range"):
            ByteRange(start, end)
