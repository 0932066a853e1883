"""The fields and tags that requests select; tests/http has the other parameters."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from werkzeug.datastructures import MultiDict

from htsget_flask.errors import InvalidInput
from htsget_flask.fields import EVERYTHING, FIELDS, FieldSelection, select_fields
from htsget_flask.htsget.query import Query, parse_get, parse_post


def get(query: str, endpoint: str = "reads", *, strict: bool | None = None) -> Query:
    arguments: MultiDict[str, str] = MultiDict(parse_qsl(query, keep_blank_values=True))
    return parse_get(arguments, endpoint, strict_header_class=strict)


def post(content: Mapping[str, Any], endpoint: str = "reads", *, strict: bool | None = None) -> Query:
    return parse_post(orjson.dumps(content), endpoint, strict_header_class=strict, max_regions=9)


class TestTheSelectionOfARequest:
    @pytest.mark.parametrize(
        ("query", "selection"),
        [
            ("", EVERYTHING),
            ("referenceName=chr1&start=5&end=9", EVERYTHING),
            (f"fields={','.join(FIELDS)}", EVERYTHING),
            ("fields=QNAME", select_fields(["QNAME"], None)),
            ("fields=QUAL,POS&referenceName=chr1", select_fields(["SEQ", "QUAL"], None)),
            ("tags=", select_fields(None, ())),
            ("tags=NM,RG", select_fields(None, ["NM", "RG"])),
            ("tags=NM,,NM", select_fields(None, ["NM"])),
            ("notags=MD", select_fields(None, None, ["MD"])),
            ("notags=", EVERYTHING),
            ("tags=NM&notags=MD", select_fields(None, ["NM"])),
            ("tags=&notags=MD", select_fields(None, ())),
            ("fields=FLAG&tags=&referenceName=%2A", select_fields((), ())),
            ("fields=SEQ&notags=X0,a1&referenceMD5=" + "0" * 32, select_fields(["SEQ"], None, ["X0", "a1"])),
        ],
    )
    def test_in_a_url(self, query: str, selection: FieldSelection) -> None:
        assert get(query).selection == selection
        assert get(query, "variants").selection == EVERYTHING

    @pytest.mark.parametrize(
        ("content", "selection"),
        [
            ({}, EVERYTHING),
            ({"fields": None, "tags": None, "notags": None}, EVERYTHING),
            ({"fields": ["TLEN", "QUAL"]}, select_fields(["TLEN", "QUAL"], None)),
            ({"fields": []}, EVERYTHING),
            ({"tags": []}, select_fields(None, ())),
            ({"tags": ["NM"], "notags": ["MD"]}, select_fields(None, ["NM"])),
            ({"notags": []}, EVERYTHING),
            ({"notags": ["MD"], "fields": ["POS"]}, select_fields((), None, ["MD"])),
            ({"tags": [], "regions": [{"referenceName": "chr1"}]}, select_fields(None, ())),
        ],
        ids=str,
    )
    def test_in_a_body(self, content: Mapping[str, Any], selection: FieldSelection) -> None:
        assert post(content).selection == selection
        assert post(content, "variants").selection == EVERYTHING

    def test_of_a_header_is_everything(self) -> None:
        for extra in ("", "&referenceName=chr1", "&tags=", "&fields=SEQ&tags=&referenceName=chr1"):
            query = get(f"class=header{extra}", strict=False)
            assert query == Query(None, header_only=True, regions=None)
        assert post({"class": "header", "fields": ["SEQ"], "tags": []}, strict=False).selection == EVERYTHING

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("fields=", "there is no field ''"),
            ("fields=QNAME,", "there is no field ''"),
            ("fields=seq", "there is no field 'seq'"),
            ("tags=N", "'N' is not a tag"),
            ("tags=9M", "'9M' is not a tag"),
            ("notags=NM.", "'NM.' is not a tag"),
            ("tags=NM,MD&notags=MD", "tags and notags both name MD"),
            ("tags=NM&tags=MD", "tags occurs 2 times"),
            (f"tags={',' * 5}{'NM,' * 251}", "tags has 251 tags; at most 250 are possible"),
            (f"notags={'NM,' * 300}", "notags has 300 tags; at most 250 are possible"),
        ],
    )
    def test_may_have_faults(self, query: str, message: str) -> None:
        with pytest.raises(InvalidInput) as error:
            get(query)
        assert error.value.message.startswith(message)
        if "occurs" not in message:
            assert get(query, "variants").selection == EVERYTHING

    def test_has_at_most_250_tags(self) -> None:
        names = [f"{first}{second}" for first in "ABCDEFGHIJ" for second in "ABCDEFGHIJKLMNOPQRSTUVWXY"]
        selection = select_fields(None, names)
        assert post({"tags": names}).selection == get(f"tags={','.join(names)}").selection == selection
        with pytest.raises(InvalidInput, match="251"):
            post({"notags": [*names, "ZZ"]})
