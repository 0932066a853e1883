"""Unknown names of parameters: misspellings are refused, others ignored."""

import itertools
import string

import pytest

from htsget_flask.errors import InvalidInput
from htsget_flask.htsget.misspelling import refuse_misspellings
from htsget_flask.htsget.query import PARAMETERS

LETTERS = string.ascii_letters + "_-"


def edits(name: str) -> set[str]:
    """All texts within one edit of a name."""
    halves = [(name[:position], name[position:]) for position in range(len(name) + 1)]
    deleted = {left + right[1:] for left, right in halves if right}
    exchanged = {left + right[1] + right[0] + right[2:] for left, right in halves if len(right) > 1}
    other = {left + letter + right[1:] for (left, right), letter in itertools.product(halves, LETTERS) if right}
    more = {left + letter + right for (left, right), letter in itertools.product(halves, LETTERS)}
    return deleted | exchanged | other | more


def suggestion(name: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        refuse_misspellings([name], PARAMETERS)
    return caught.value.message.partition("did you mean ")[2].rstrip("?")


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_names_within_one_edit_or_in_another_case_are_refused(parameter: str) -> None:
    for name in edits(parameter) - {parameter}:
        assert suggestion(name) in PARAMETERS
    for name in {parameter.upper(), parameter.title(), parameter.lower()} - {parameter}:
        assert suggestion(name) == parameter


def test_the_nearest_is_suggested() -> None:
    for name, parameter in (
        ("referencename", "referenceName"),
        ("reference_name", "referenceName"),
        ("refrenceName", "referenceName"),
        ("refernceName", "referenceName"),
        ("rfeerenceName", "referenceName"),
        ("referencemd5", "referenceMD5"),
        ("formatt", "format"),
        ("ned", "end"),
        ("tag", "tags"),
        ("region", "referenceName, start and end"),
        ("regions", "referenceName, start and end"),
        ("reference", "referenceName"),
        ("chr", "referenceName"),
        ("Chrom", "referenceName"),
        ("contig", "referenceName"),
        ("begin", "start"),
        ("stop", "end"),
    ):
        assert suggestion(name) == parameter


@pytest.mark.parametrize(
    "name",
    [
        "encryptionScheme",
        "token",
        "access_token",
        "key",
        "id",
        "_",
        "",
        "t",
        "v",
        "alt",
        "userIp",
        "expires",
        "signature",
        "Expires",
        "Signature",
        "Key-Pair-Id",
        "Policy",
        "X-Amz-Date",
        "X-Goog-Date",
        "X-Amz-Signature",
        *("sv", "st", "se", "sp", "sr", "sig", "spr", "sip"),
        "referenceNaem2",
        "x" * 8000,
    ],
    ids=lambda name: name[:20],
)
def test_other_names_are_ignored(name: str) -> None:
    refuse_misspellings([name], PARAMETERS)


def test_many_unknown_names_hide_no_misspelling() -> None:
    refuse_misspellings([*PARAMETERS, *(f"other{number}" for number in range(100_000))], PARAMETERS)
    with pytest.raises(InvalidInput, match="'Format'"):
        refuse_misspellings([*PARAMETERS, "other", "Format", "region"], PARAMETERS)
