import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.fields import EVERYTHING, FIELDS, TAG, FieldSelection, parse_selection, select_fields

ALWAYS = {"FLAG", "RNAME", "POS", "MAPQ", "CIGAR"}
NAMES = ("NM", "MD", "X0", "a9", "RG")

names = st.sets(st.sampled_from(NAMES))
selections = st.builds(select_fields, st.none() | st.sets(st.sampled_from(FIELDS)), st.none() | names, names)


def tags_of(selection: FieldSelection) -> set[str]:
    """Those of some tags that a selection has, one of which no test selects or excludes by name."""
    return {tag for tag in (*NAMES, "ZZ") if selection.has_tag(tag)}


class TestASelectionHas:
    def test_everything_unless_it_is_limited(self) -> None:
        assert select_fields(None, None) == EVERYTHING
        assert EVERYTHING.is_everything
        assert tags_of(EVERYTHING) == {*NAMES, "ZZ"}
        assert select_fields(FIELDS, None) == EVERYTHING

    @given(st.sets(st.sampled_from(FIELDS)))
    def test_the_fields_that_a_sorted_file_needs(self, fields: set[str]) -> None:
        selection = select_fields(fields, None)
        assert selection.fields - fields <= ALWAYS | {"SEQ"}
        assert selection.fields >= ALWAYS | fields

    def test_bases_with_qualities(self) -> None:
        assert select_fields(["QUAL"], None).fields == ALWAYS | {"SEQ", "QUAL"}
        assert select_fields(["SEQ"], None).fields == ALWAYS | {"SEQ"}

    def test_only_tags_or_all_but_tags(self) -> None:
        assert tags_of(select_fields(None, ["NM", "RG"])) == {"NM", "RG"}
        assert tags_of(select_fields(None, None, ["NM", "RG"])) == {"MD", "X0", "a9", "ZZ"}
        assert tags_of(select_fields(None, [])) == set()
        assert not select_fields(None, []).is_everything
        assert not select_fields(None, None, ["NM"]).is_everything


class TestARestrictedSelection:
    @given(selections, selections)
    def test_has_what_both_have(self, one: FieldSelection, other: FieldSelection) -> None:
        both = one.restrict(other)
        assert both.fields == one.fields & other.fields
        assert tags_of(both) == tags_of(one) & tags_of(other)
        assert both == other.restrict(one)

    @given(selections)
    def test_by_everything_is_the_same(self, selection: FieldSelection) -> None:
        assert selection.restrict(EVERYTHING) == selection == selection.restrict(selection)


class TestATextNamesOneSelection:
    @given(selections)
    def test_which_it_is_read_as(self, selection: FieldSelection) -> None:
        assert parse_selection(str(selection)) == selection

    @given(selections, selections)
    def test_restricted_ones_too(self, one: FieldSelection, other: FieldSelection) -> None:
        both = one.restrict(other)
        assert parse_selection(str(both)) == both

    def test_in_a_form_that_stays(self) -> None:
        assert str(EVERYTHING) == "7ff"
        assert str(select_fields([], [])) == "3e."
        assert str(select_fields(["QNAME"], ["RG", "NM"])) == "3f.NM.RG"
        assert str(select_fields(["SEQ"], None, ["OQ", "BQ"])) == "23e-BQ.OQ"

    @pytest.mark.parametrize(
        "text",
        [
            *("", "7", "07ff", "7FF", "fff", "800", "7ff-", "7ff,NM", "7ff.NM.", "7ff.RG.NM", "7ff.NM.NM", "7ff.N"),
            *("7ff.NMX", "7ff.9M", "7ff.NM-RG", "7ff ", "7ff.\n", "3e.NM\n", "7ff.ÄM", "٣e"),
            # Without a field that is always selected; with qualities, but without bases.
            *("3c", "1e", "1", "43e"),
        ],
    )
    def test_and_no_other(self, text: str) -> None:
        assert parse_selection(text) is None


@pytest.mark.parametrize(("text", "is_tag"), [("NM", True), ("a0", True), ("0a", False), ("NMX", False), ("N", False)])
def test_a_tag_is_a_letter_and_a_letter_or_digit(text: str, is_tag: bool) -> None:
    assert bool(TAG.fullmatch(text)) is is_tag
