import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.regions import Region, is_open, merge, overlap, parse_region, restrict

LENGTH = 30  # bases of every reference in these tests

regions = st.builds(
    lambda name, start, size: Region(name, start, None if size == 0 else start + size),
    st.sampled_from("ab"),
    st.integers(0, LENGTH - 1),
    st.integers(0, LENGTH),
)


def positions(*given_regions: Region) -> set[tuple[str, int]]:
    return {
        (name, place)
        for name, start, end in given_regions
        for place in range(start, LENGTH if end is None else min(end, LENGTH))
    }


class TestRegionsAreSetsOfPositions:
    @given(regions, regions)
    def test_overlap(self, one: Region, other: Region) -> None:
        common = overlap(one, other)
        assert positions(*([common] if common else [])) == positions(one) & positions(other)

    @given(regions, regions, st.integers(0, LENGTH))
    def test_open(self, asked: Region, granted: Region, place: int) -> None:
        assert is_open(asked, granted) == (overlap(asked, granted) is not None)
        touching = {("a", place - 1), ("a", place)} & positions(granted)
        assert is_open(Region("a", place, place), granted) == (bool(touching) or granted == ("a", place, None))

    @given(st.lists(regions))
    def test_merged(self, some: list[Region]) -> None:
        merged = merge(some)
        assert positions(*merged) == positions(*some)
        for one, following in itertools.pairwise(merged):
            if one.reference_name == following.reference_name:
                assert one.end is not None
                assert one.end < following.start

    @given(st.lists(regions), st.lists(regions))
    def test_restricted(self, asked: list[Region], granted: list[Region]) -> None:
        assert positions(*restrict(asked, granted)) == positions(*asked) & positions(*granted)


class TestRegionsAreWrittenAsForSamtools:
    @pytest.mark.parametrize(
        ("text", "region"),
        [
            ("chr1", Region("chr1")),
            ("chr1:5", Region("chr1", 4)),
            ("chr1:5-", Region("chr1", 4)),
            ("chr1:1-1", Region("chr1", 0, 1)),
            ("chr1:1,001-2,000", Region("chr1", 1000, 2000)),
            ("HLA-A*01:01", Region("HLA-A*01", 0)),
            ("HLA:x", Region("HLA:x")),
        ],
    )
    def test_from_one_with_their_ends(self, text: str, region: Region) -> None:
        assert parse_region(text) == region

    @pytest.mark.parametrize("text", ["chr1:0-5", "chr1:5-4", "chr1:,"])
    def test_others_are_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no region"):
            parse_region(text)
