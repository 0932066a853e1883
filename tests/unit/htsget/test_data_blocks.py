import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.data_blocks import (
    DataBlock,
    FilePart,
    Records,
    from_path_segment,
    least_file_size,
    to_path_segment,
)
from htsget_flask.ranges import ByteRange

numbers, positions = st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1)


class TestPathSegments:
    @given(
        st.one_of(
            st.builds(lambda start, length: ByteRange(start, start + length), st.integers(0, 1 << 60), st.integers(1)),
            st.builds(lambda begin, size: Chunk(begin, begin + size), st.integers(0, 1 << 63), st.integers(1, 1 << 40)),
            st.sampled_from(FilePart),
            st.builds(Records, numbers, positions, st.none() | positions, positions),
        ).filter(lambda block: not isinstance(block, ByteRange) or block.end < 10**19)
    )
    def test_are_parsed_to_the_same_block(self, block: DataBlock) -> None:
        assert from_path_segment(to_path_segment(block)) == block

    @given(st.text())
    def test_are_the_only_text_that_is_parsed(self, text: str) -> None:
        block = from_path_segment(text)
        assert block is None or from_path_segment(to_path_segment(block)) == block

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
            "records-1.2-3",
            "records-1.2.3-4",
            "records--1.2-3.0",
            "1 -2",
        ],
    )
    def test_other_texts(self, text: str) -> None:
        assert from_path_segment(text) is None


def test_the_least_size_of_a_file_with_a_block() -> None:
    assert least_file_size(ByteRange(3, 9)) == 9
    assert least_file_size(Chunk(5 << 16, 9 << 16)) == 9
    assert least_file_size(Chunk(5 << 16, 9 << 16 | 1)) == 10
    assert least_file_size(FilePart.EOF) == least_file_size(Records(0, 1, None, 0)) == 0
