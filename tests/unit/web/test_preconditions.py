from datetime import datetime, timezone

import pytest

from htsget_flask.web.preconditions import drop_odd_dates, failed_precondition, http_date, if_range_holds

DATE = "Sun, 13 Sep 2020 12:26:40 GMT"
ODD_DATES = ["", "yesterday", "Sun, 13 Sep 2020 12:26:40 +0200", "Sun, 13 Sep 99999999999 12:26:40 GMT"]


@pytest.mark.parametrize("value", [DATE, "Sunday, 13-Sep-20 12:26:40 GMT", "Sun Sep 13 12:26:40 2020"])
def test_http_dates_have_three_forms(value: str) -> None:
    assert http_date(value) == datetime(2020, 9, 13, 12, 26, 40, tzinfo=timezone.utc)


@pytest.mark.parametrize("value", [None, *ODD_DATES])
def test_other_dates_are_ignored(value: str | None) -> None:
    assert http_date(value) is None


def test_if_match_is_evaluated_before_if_none_match() -> None:
    environ = {"HTTP_IF_MATCH": '"other"', "HTTP_IF_NONE_MATCH": '"tag"'}
    assert failed_precondition(environ, etag="tag", last_modified=None) == 412


def test_an_entity_tag_replaces_the_date() -> None:
    environ = {"HTTP_IF_NONE_MATCH": '"other"', "HTTP_IF_MODIFIED_SINCE": DATE}
    assert failed_precondition(environ, etag="tag", last_modified=DATE) is None


@pytest.mark.parametrize("name", ["HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"])
def test_evaluation_adds_nothing_to_the_environ(name: str) -> None:
    """A request object there would refer back to the environ: the garbage collector alone frees such cycles."""
    environ = {name: '"tag"'}
    failed_precondition(environ, etag="tag", last_modified=None)
    assert environ == {name: '"tag"'}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [('"tag"', True), (' "tag" ', True), ('W/"tag"', False), ("tag", False), ('"other"', False), (DATE, True)],
)
def test_if_range_takes_the_identical_validator(condition: str, holds: bool) -> None:
    assert if_range_holds({"HTTP_IF_RANGE": condition}, etag="tag", last_modified=DATE) is holds


@pytest.mark.parametrize("value", ODD_DATES)
def test_odd_dates_are_dropped_for_werkzeug(value: str) -> None:
    environ = dict.fromkeys(("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"), value)
    environ["HTTP_RANGE"] = "bytes=0-1"
    drop_odd_dates(environ)
    assert environ == {}
