import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.wrappers import Request

from htsget_flask.ranges import ByteRange
from htsget_flask.web.delivery import parse_range

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-2000", (5, 1000)),
        ("bytes=5-", (5, 1000)),
        ("bytes=-5", (995, 1000)),
        ("bytes=-2000", (0, 1000)),
        (" BYTES = 5 - 9 ", (5, 10)),
        ("bytes=-0", (1000, 1000)),
        ("bytes=1000-", (1000, 1000)),
        ("bytes=2000-3000", (2000, 2000)),
        ("bytes=9-5", None),
        ("bytes=0-1,3-4", None),
        ("records=0-1", None),
        ("bytes", None),
    ],
)
def test_one_range_of_bytes(header: str, span: tuple[int, int] | None) -> None:
    assert parse_range({"HTTP_RANGE": header}, SIZE) == (None if span is None else ByteRange(*span))


def test_no_suffix_of_nothing() -> None:
    assert parse_range({"HTTP_RANGE": "bytes=-5"}, 0) is None


@given(st.integers(0, 2 * SIZE), st.integers(0, 2 * SIZE))
def test_the_common_form_is_parsed_as_by_werkzeug(first: int, last: int) -> None:
    environ = {"HTTP_RANGE": f"bytes={first}-{last}"}
    theirs = Request(environ).range
    span = None if theirs is None else theirs.range_for_length(SIZE)
    ours = parse_range(environ, SIZE)
    if span is None:
        assert ours is None or ours.start >= SIZE
    else:
        assert ours == ByteRange(*span)
