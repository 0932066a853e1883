import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException, NotAcceptable

from htsget_flask.refget.query import JSON_TYPES, TEXT_TYPES, Part, bounded_part, choose_type, ranged_part


class TestMediaTypesAreNegotiated:
    V1, V2 = "text/vnd.ga4gh.refget.v1.0.0+plain", "text/vnd.ga4gh.refget.v2.0.0+plain"

    @pytest.mark.parametrize(
        ("accept", "chosen"),
        [
            (None, V2),
            ("", V2),
            ("*/*", V2),
            ("text/*", V2),
            ("text/plain", "text/plain"),
            ("TEXT/PLAIN", "text/plain"),
            ("text/plain; charset=us-ascii", "text/plain"),
            (V1, V1),
            ("text/vnd.ga4gh.refget.v1.0.1+plain", "text/vnd.ga4gh.refget.v1.0.1+plain"),
            (f"{V2}, {V1}, text/plain", V2),
            (f"{V1}, {V2}", V1),
            (f"{V2};q=0.5, {V1}", V1),
            ("text/html, */*;q=0.1", V2),
            ("text/*;q=0.5, text/plain", "text/plain"),
            (f"text/*, {V2};q=0", "text/vnd.ga4gh.refget.v1.0.1+plain"),
            (f"application/json, {V1};q=0.001", V1),
        ],
    )
    def test_chosen(self, accept: str | None, chosen: str) -> None:
        assert choose_type(accept, TEXT_TYPES) == chosen

    @pytest.mark.parametrize(
        "accept",
        ["embl/some_json", "text/html", "application/json", "text/plain;q=0", "*/*;q=0", ",", "text", "x;;;,;"],
    )
    def test_refused(self, accept: str) -> None:
        with pytest.raises(NotAcceptable):
            choose_type(accept, TEXT_TYPES)

    def test_json(self) -> None:
        assert (
            choose_type("application/json;q=0.9, application/vnd.ga4gh.refget.v1.0.0+json", JSON_TYPES) == JSON_TYPES[2]
        )


class TestPartsAreSlices:
    """Against Python's own slicing."""

    @given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60), st.booleans())
    def test_bounds(self, length: int, start: int | None, end: int | None, is_circular: bool) -> None:
        text = bytes(range(65, 65 + length))
        try:
            part = bounded_part(start, end, length, is_circular, True)
        except HTTPException as error:
            assert error.code == 416
            is_out = (start is not None and start >= length) or (end is not None and end > length)
            assert is_out or (not is_circular and (start or 0) > (length if end is None else end))
            return
        if part.start <= part.end:
            assert text[part.start : part.end] == text[start:end]
        else:
            assert is_circular
            assert part == (start, end)

    @given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
    def test_ranges(self, length: int, first: int | None, last: int | None) -> None:
        text = bytes(range(65, 65 + length))
        try:
            part = ranged_part(f"bytes={'' if first is None else first}-{'' if last is None else last}", length)
        except HTTPException as error:
            if first is None and last is None:
                assert error.code == 400
                return
            assert error.code == 416
            assert ("Content-Range", f"bytes */{length}") in error.get_headers()
            assert not length or last == 0 or (first or 0) >= length or (last is not None and last < (first or 0))
            return
        if first is None:
            assert last
            assert text[part.start : part.end] == text[-last:]
        else:
            assert text[part.start : part.end] == text[first : None if last is None else last + 1] != b""

    def test_a_part_is_half_open(self) -> None:
        assert bounded_part(2, 5, 10, False, True) == Part(2, 5)
        assert ranged_part("bytes=2-5", 10) == Part(2, 6)
