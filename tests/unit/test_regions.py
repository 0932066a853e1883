import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.regions import Region, RegionSet, merge, parse_region

LENGTH = 30  # bases of every reference in these tests

regions = st.builds(
    lambda name, start, size: Region(name, start, None if size == 0 else start + size),
    st.sampled_from("ab"),
    st.integers(0, LENGTH - 1),
    st.integers(0, LENGTH),
)


def positions(*given_regions: Region) -> set[tuple[str, int]]:
    return {
        (name, position)
        for name, start, end in given_regions
        for position in range(start, LENGTH if end is None else min(end, LENGTH))
    }


def overlap(one: Region, other: Region) -> Region | None:
    """The intersection of two regions, without any order."""
    if one.reference_name != other.reference_name:
        return None
    start = max(one.start, other.start)
    ends = [end for end in (one.end, other.end) if end is not None]
    end = min(ends) if ends else None
    return Region(one.reference_name, start, end) if end is None or start < end else None


def is_open(requested: Region, granted: Region) -> bool:
    """Whether a granted region overlaps a region, or touches an empty one."""
    if requested.start != requested.end:
        return overlap(requested, granted) is not None
    is_below = granted.end is None or requested.start <= granted.end
    return requested.reference_name == granted.reference_name and granted.start <= requested.start and is_below


# A policy service may grant empty regions, and ones that end before they start.
odd_regions = st.builds(Region, st.sampled_from("ab"), st.integers(0, LENGTH), st.none() | st.integers(-1, LENGTH + 5))
requests = st.builds(
    lambda name, start, size: Region(name, start, None if size is None else start + size),
    st.sampled_from("abc"),
    st.integers(0, LENGTH),
    st.none() | st.integers(0, LENGTH) | st.just(1 << 53),
)


class TestASetOfRegionsIsTheUnionOfItsRegions:
    """Compared region by region."""

    @given(st.lists(requests), st.lists(odd_regions))
    def test_restricted(self, requested: list[Region], granted: list[Region]) -> None:
        parts = [overlap(one, other) for one in requested for other in granted]
        expected = merge(part for part in parts if part is not None)
        assert RegionSet(granted).restrict(requested) == expected
        assert list(RegionSet(granted)) == merge(part for one in granted if (part := overlap(one, one)) is not None)

    @given(requests, st.lists(odd_regions))
    def test_open(self, requested: Region, granted: list[Region]) -> None:
        assert RegionSet(granted).opens(requested) == any(is_open(requested, one) for one in granted)

    @pytest.mark.slow
    def test_of_an_exome(self) -> None:
        """Each of 10,000 regions compared with each of 200,000 would take half an hour."""
        granted = RegionSet(Region("a", number * 1000, number * 1000 + 150) for number in range(200_000))
        requested = [Region("a", number * 20_000 + 100, number * 20_000 + 10_100) for number in range(10_000)]
        assert all(map(granted.opens, requested))
        parts = granted.restrict(requested)
        assert len(parts) == 11 * 10_000
        assert sum((part.end or 0) - part.start for part in parts) == (50 + 9 * 150 + 100) * 10_000


class TestRegionsAreSetsOfPositions:
    @given(st.lists(regions))
    def test_merged(self, some: list[Region]) -> None:
        merged = merge(some)
        assert positions(*merged) == positions(*some)
        for one, following in itertools.pairwise(merged):
            if one.reference_name == following.reference_name:
                assert one.end is not None
                assert one.end < following.start

    @given(st.lists(regions), st.lists(regions))
    def test_restricted(self, some: list[Region], granted: list[Region]) -> None:
        assert positions(*RegionSet(granted).restrict(some)) == positions(*some) & positions(*granted)


class TestParseRegion:
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
    def test_one_based_with_both_ends(self, text: str, region: Region) -> None:
        assert parse_region(text) == region

    @pytest.mark.parametrize("text", ["chr1:0-5", "chr1:5-4", "chr1:,"])
    def test_other_texts_are_invalid(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a valid region"):
            parse_region(text)
