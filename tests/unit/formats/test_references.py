"""References by name: the same in a dict and in arrays."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.errors import FormatError
from htsget_flask.formats import references
from htsget_flask.formats.references import Reference, collect_references
from tests.support.bounded import outcome

MD5S = [f"{number:032x}" for number in (1, 2, 0xABCDEF << 104)]

rows = st.lists(
    st.builds(
        Reference,
        st.text(max_size=3).map(lambda text: text.encode("utf-8", "replace").decode()),
        st.integers(0, 30) | st.none(),
        st.integers(0, 10**18 - 1) | st.none(),
        st.sampled_from(MD5S) | st.none(),
    )
)


class TestArraysAgreeWithADict:
    @given(rows, st.text(max_size=3))
    def test_for_any_references(self, content: list[Reference], other: str) -> None:
        expected: dict[str, Reference] = {}
        for reference in content:
            expected.setdefault(reference.name, reference)
        for limit in (2, 1_000_000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(references, "_MAX_IN_DICT", limit)
                collected = collect_references(content, "the header")
            assert (len(collected), list(collected), list(collected.items())) == (
                len(expected),
                list(expected),
                list(expected.items()),
            )
            assert list(collected.in_order()) == list(expected.values())
            assert {name: collected[name] for name in expected} == expected
            assert (other in collected, collected.get(other)) == (other in expected, expected.get(other))
            ids = [reference.id for reference in expected.values() if reference.id is not None]
            assert collected.id_limit == max(ids, default=-1) + 1
            for reference_id in (-1, 0, 5, 31):
                first = next((one for one in expected.values() if one.id == reference_id), None)
                assert collected.with_id(reference_id) == first
            for md5 in (*MD5S, "0" * 32, "f" * 32):
                assert collected.with_md5(md5) == [one for one in expected.values() if one.md5 == md5]
            assert collected.have_md5s == any(one.md5 for one in expected.values())

    def test_for_names_that_are_not_text(self) -> None:
        numbered = (Reference(str(number), number) for number in range(200_000))
        collected = collect_references(numbered, "the header")
        assert "\ud800" not in collected
        assert "?" not in collected


def three_million(_: Path) -> int:
    numbered = (Reference(f"contig_{number:07}", number, 1000) for number in range(3_000_000))
    collected = collect_references(numbered, "the header")
    assert (collected["contig_2999999"].id, collected.id_limit, len(collected)) == (2_999_999, 3_000_000, 3_000_000)
    return collected.memory


@pytest.mark.slow
class TestManyReferencesTakeLittleMemory:
    def test_three_million(self, tmp_path: Path) -> None:
        result = outcome(three_million, tmp_path)
        assert (int(result.text) < 150_000_000, result.mib < 300) == (True, True), result

    def test_more_than_ten_million_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(references, "_MAX_REFERENCES", 150_000)
        names = (Reference(str(number), None) for number in range(150_001))
        with pytest.raises(FormatError, match="the header has more than 150,000 references"):
            collect_references(names, "the header")
