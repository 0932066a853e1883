from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.datasets.open_file import FilePart
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.data_blocks import Piece, from_path_segment, to_path_segment
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


class TestPiecesAreSpelled:
    @given(
        st.one_of(
            st.builds(lambda start, length: ByteRange(start, start + length), st.integers(0, 1 << 60), st.integers(1)),
            st.builds(lambda begin, size: Chunk(begin, begin + size), st.integers(0, 1 << 63), st.integers(1, 1 << 40)),
            st.sampled_from(FilePart),
        ).filter(lambda piece: not isinstance(piece, ByteRange) or piece.end < 10**19)
    )
    def test_and_read_again(self, piece: Piece) -> None:
        assert from_path_segment(to_path_segment(piece)) == piece

    @given(st.text())
    def test_or_refused(self, text: str) -> None:
        piece = from_path_segment(text)
        assert piece is None or from_path_segment(to_path_segment(piece)) == piece

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "5",
            "5-",
            "-5",
            "5-4",
            "5-5",
            "1-2,3-4",
            "\u0661-\u0662",
            "1.2",
            "1.2-3-4",
            "1.2-3",
            "1.2-1.2",
            "1.70000-2.0",
            "3.0-2.9",
            "0x1-2",
            "1 -2",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert from_path_segment(text) is None
