import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.fields import EVERYTHING, FIELDS, select_fields
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.table import ANSWER_FORMATS
from htsget_flask.htsget.data_blocks import (
    ConvertedPart,
    DataBlock,
    FilePart,
    RecordGroup,
    Records,
    from_path_segment,
    least_file_size,
    to_path_segment,
)
from htsget_flask.ranges import ByteRange
from htsget_flask.records.region import UNPLACED_ID, RegionFilter

numbers, positions = st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1)
ranges = st.builds(
    lambda start, length: ByteRange(start, start + length), st.integers(0, 1 << 60), st.integers(1, 1 << 60)
)
chunks = st.builds(lambda begin, size: Chunk(begin, begin + size), st.integers(0, 1 << 63), st.integers(1, 1 << 40))
tags = st.lists(st.from_regex("[A-Za-z][A-Za-z0-9]", fullmatch=True), max_size=8)
selections = st.builds(select_fields, st.none() | st.lists(st.sampled_from(FIELDS)), st.none() | tags, tags)
formats = st.sampled_from(sorted(ANSWER_FORMATS))
regions = st.builds(RegionFilter, numbers | st.just(UNPLACED_ID), positions, st.none() | positions, positions)
records = st.builds(
    Records, st.none() | regions, st.none() | ranges | chunks, st.just(EVERYTHING) | selections, st.none() | formats
)
groups = st.builds(
    RecordGroup,
    st.lists(regions, min_size=1, max_size=5).map(tuple),
    st.just(EVERYTHING) | selections,
    st.none() | formats,
)
converted_parts = st.builds(ConvertedPart, st.sampled_from(FilePart), formats)


class TestPathSegments:
    @given(ranges | chunks | st.sampled_from(FilePart) | records | groups | converted_parts)
    def test_are_parsed_to_the_same_block(self, block: DataBlock) -> None:
        segment = to_path_segment(block)
        assert re.fullmatch("[A-Za-z0-9.~,-]+", segment)
        assert from_path_segment(segment) == block

    @pytest.mark.parametrize(
        ("segment", "block"),
        [
            ("5-9", ByteRange(5, 9)),
            ("5.7-9.8", Chunk(5 << 16 | 7, 9 << 16 | 8)),
            ("header", FilePart.HEADER),
            (
                "regions-3.10-20.5,4.7-.0~f3e.NM~BAM",
                RecordGroup(
                    (RegionFilter(3, 10, 20, 5), RegionFilter(4, 7, None, 0)), select_fields([], ["NM"]), "BAM"
                ),
            ),
            ("eof~BAM", ConvertedPart(FilePart.EOF, "BAM")),
            ("records-3.10-20.5", Records(RegionFilter(3, 10, 20, 5))),
            (
                "records-u.0-.0~100-900~BAM",
                Records(RegionFilter(UNPLACED_ID, 0, None, 0), ByteRange(100, 900), format_name="BAM"),
            ),
            ("records-0.0-9.0~0.0-5.7", Records(RegionFilter(0, 0, 9, 0), Chunk(0, 5 << 16 | 7))),
            (
                "records~5.7-9.8~f3e.NM.RG",
                Records(None, Chunk(5 << 16 | 7, 9 << 16 | 8), select_fields([], ["RG", "NM"])),
            ),
            (
                "records~100-900~f7ff-OQ~CRAM",
                Records(None, ByteRange(100, 900), select_fields(None, None, ["OQ"]), "CRAM"),
            ),
        ],
    )
    def test_examples(self, segment: str, block: DataBlock) -> None:
        assert to_path_segment(block) == segment
        assert from_path_segment(segment) == block

    @given(
        st.text()
        | st.from_regex(
            r"(records|regions|header|eof)(-[0-9u.,-]{0,20})?(~[0-9.-]{0,9})?(~f[0-9a-f.-]{0,9})?(~[A-Z]{0,4})?",
            fullmatch=True,
        )
    )
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
            "regions-",
            "regions-1.2-3.0,",
            "regions-1.2-3.0,1.2-3",
            "regions-1.2-3.0~5-9",
            "records-1.2.3-4",
            "records--1.2-3.0",
            "records-v.2-3.0",
            "records-1.2-3.0~",
            "records-1.2-3.0~5-4",
            "records-1.2-3.0~5-9~5-9",
            "records-1.2-3.0~BAM~5-9",
            "records-1.2-3.0~bam",
            "records-1.2-3.0~f",
            "records-1.2-3.0~f1",
            "records-1.2-3.0~f3E",
            "records-1.2-3.0~f3e.RG.NM",
            "records-1.2-3.0~f03e",
            "records-1.2-3.0~fffff",
            "records-1.2-3.0~f7ff-",
            "header~",
            "header~bam",
            "header~BAM~BAM",
            "body~BAM",
            "1 -2",
        ],
    )
    def test_other_texts(self, text: str) -> None:
        assert from_path_segment(text) is None


def test_the_least_size_of_a_file_with_a_block() -> None:
    assert least_file_size(ByteRange(3, 9)) == 9
    assert least_file_size(Chunk(5 << 16, 9 << 16)) == 9
    assert least_file_size(Chunk(5 << 16, 9 << 16 | 1)) == 10
    region = RegionFilter(0, 1, None, 0)
    assert least_file_size(Records(region, ByteRange(3, 9))) == 9
    assert least_file_size(Records(None, Chunk(0, 9 << 16 | 1), format_name="VCF")) == 10
    assert least_file_size(FilePart.EOF) == least_file_size(Records(region)) == 0
    assert least_file_size(ConvertedPart(FilePart.EOF, "BAM")) == 0
