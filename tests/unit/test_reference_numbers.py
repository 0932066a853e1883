"""References by name: the same in a dict and in arrays."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.errors import FormatError
from htsget_flask.formats import reference_numbers
from htsget_flask.formats.reference_numbers import limit_of, memory_of, name_of, number_references
from tests.support.bounded import outcome

pairs = st.lists(
    st.tuples(
        st.text(max_size=3).map(lambda text: text.encode("utf-8", "replace").decode()), st.integers(0, 30) | st.none()
    )
)


class TestArraysAnswerAsADictDoes:
    @given(pairs, st.text(max_size=3))
    def test_whatever_the_names(self, content: list[tuple[str, int | None]], other: str) -> None:
        expected: dict[str, int | None] = {}
        for name, number in content:
            expected.setdefault(name, number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference_numbers, "_MAX_IN_DICT", 2)
            found = number_references(content, "the header")
        assert isinstance(found, dict) == (len(content) <= 2)
        assert (len(found), list(found), list(found.items())) == (len(expected), list(expected), list(expected.items()))
        assert {name: found[name] for name in expected} == expected
        assert (other in found, found.get(other, -5)) == (other in expected, expected.get(other, -5))
        assert limit_of(found) == limit_of(expected)
        for number in (-1, 0, 5, 31):
            assert name_of(found, number) == name_of(expected, number)

    def test_to_names_that_are_no_text(self) -> None:
        found = number_references([(str(number), number) for number in range(200_000)], "the header")
        assert "\ud800" not in found
        assert "?" not in found


def three_million(_: Path) -> int:
    pairs = ((f"contig_{number:07}", number) for number in range(3_000_000))
    found = number_references(pairs, "the header")
    assert (found["contig_2999999"], limit_of(found), len(found)) == (2_999_999, 3_000_000, 3_000_000)
    return memory_of(found)


class TestManyReferencesTakeLittleMemory:
    @pytest.mark.slow
    def test_three_million(self, tmp_path: Path) -> None:
        found = outcome(three_million, tmp_path)
        assert (int(found.text) < 150_000_000, found.mib < 300) == (True, True), found

    def test_more_than_ten_million_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reference_numbers, "_MAX_REFERENCES", 150_000)
        names = ((str(number), None) for number in range(150_001))
        with pytest.raises(FormatError, match="the header has more than 150,000 references"):
            number_references(names, "the header")
