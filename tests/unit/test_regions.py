import itertools

from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.regions import Region, merge, overlap, restrict

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
