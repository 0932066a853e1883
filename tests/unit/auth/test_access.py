"""The access of requests: decisions, signed URLs, the audit log."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.auth.access import Access, Gate
from htsget_flask.auth.audit import Audit
from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import WHOLE, Grant
from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.rules import Rule, RuleAuthorizer
from htsget_flask.auth.signed_urls import UrlSigner
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.errors import InvalidAuthentication, NotFound, PermissionDenied
from htsget_flask.fields import select_fields
from htsget_flask.regions import Region, RegionSet
from tests.support.callers import ADA, GENE, ORIGIN


class FixedAuthenticator(Authenticator):
    """Takes every token for one of the same caller."""

    def __init__(self, caller: Caller) -> None:
        super().__init__({}, client=JsonClient(1))
        self._caller = caller

    def authenticate(self, authorization: str | None) -> Caller:
        return self._caller if authorization else super().authenticate(authorization)


def gate(folder: Path, rules: Sequence[Rule], *, hide: bool = False) -> Gate:
    signer = UrlSigner(["secret-0123456789abc"], 60)
    return Gate(FixedAuthenticator(ADA), RuleAuthorizer(rules), signer, Audit(folder / "audit"), hide=hide)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit").read_text().splitlines()]


class TestAccess:
    def test_401_without_a_token_and_403_with_one(self, tmp_path: Path) -> None:
        control = gate(tmp_path, [Rule(["public"], public=True)])
        assert control.admit(None, ORIGIN).require("reads", "public") == WHOLE
        with pytest.raises(InvalidAuthentication):
            control.admit(None, ORIGIN).require("reads", "lab/a")
        with pytest.raises(PermissionDenied):
            control.admit("Bearer x", ORIGIN).require("reads", "lab/a")

    def test_hidden_denials_are_404(self, tmp_path: Path) -> None:
        control = gate(tmp_path, [], hide=True)
        with pytest.raises(NotFound, match="there is no dataset 'lab/a' at /reads"):
            control.admit("Bearer x", ORIGIN).require("reads", "lab/a")
        with pytest.raises(InvalidAuthentication):
            control.admit(None, ORIGIN).require("reads", "lab/a")

    def test_regions(self, tmp_path: Path) -> None:
        access = gate(tmp_path, [Rule(["*"], grant=Grant(RegionSet([GENE])))], hide=True).admit("Bearer x", ORIGIN)
        assert list(access.require("reads", "lab/a", None).regions or ()) == [GENE]
        assert list(access.require("reads", "lab/a", [Region("chr1", 0, 1001)]).regions or ()) == [GENE]
        for outside in (Region("chr1", 0, 1000), Region("chr1", 2000), Region("chr2"), Region("*")):
            with pytest.raises(PermissionDenied):
                access.require("reads", "lab/a", [GENE, outside])
        assert access.allows("reads", "lab/a")
        assert not access.allows_whole("reads", "lab/a")

    def test_fields(self, tmp_path: Path) -> None:
        granted = Grant(None, select_fields(["QNAME"], ["NM"]))
        access = gate(tmp_path, [Rule(["*"], grant=granted)]).admit("Bearer x", ORIGIN)
        assert access.require("reads", "lab/a", [GENE]) == access.require("reads", "lab/a") == granted
        assert access.allows("reads", "lab/a")
        assert not access.allows_whole("reads", "lab/a")
        assert access.require_dataset(["reads", "variants"], "lab/a") == {"reads": granted}
        for endpoint in ("variants", "files", "sequence"):
            assert not access.allows(endpoint, "lab/a") and not access.allows_whole(endpoint, "lab/a")
            with pytest.raises(PermissionDenied, match="no access to this resource"):
                access.require(endpoint, "lab/a")
        assert (
            lines(tmp_path)[-1]["reason"]
            == "rules[0], which is limited to fields or tags: only records can be filtered"
        )

    def test_each_decision_is_recorded(self, tmp_path: Path) -> None:
        access = gate(tmp_path, [Rule(["lab/*"])]).admit("Bearer x", ORIGIN)
        assert [access.was_decided] == [False]
        access.require("reads", "lab/a", [GENE, Region("chr2")])
        assert [access.was_decided] == [True]
        with pytest.raises(PermissionDenied):
            access.require("reads", "other\n\udcff", [Region("c")] * 60)
        allowed, denied = lines(tmp_path)
        assert allowed.pop("time").endswith("Z")
        assert allowed == {
            "subject": "ada",
            "issuer": "https://i",
            "endpoint": "reads",
            "id": "lab/a",
            "regions": ["chr1:1000-2000", "chr2:0-"],
            "decision": "allowed",
            "reason": "rules[0]",
            "request": "request-7",
            "address": "192.0.2.7",
        }
        assert (denied["decision"], denied["reason"], denied["id"]) == ("denied", "no rule matches", "other\n?")
        assert denied["regions"][-1] == "and 10 more"

    def test_signed_urls(self, tmp_path: Path) -> None:
        control = gate(tmp_path, [])
        signed = control.admit("Bearer x", ORIGIN).signature_query("a", "b")
        control.check_signed_url(signed[1:], ORIGIN, "files", "a/b", [("x", "y"), ("a", "b")])
        for query, candidates in ((signed[1:], [("a", "c")]), ("", [("a", "b")]), (signed[1:], [])):
            with pytest.raises(PermissionDenied):
                control.check_signed_url(query, ORIGIN, "files", "a/b", candidates)
        assert [line["decision"] for line in lines(tmp_path)] == ["allowed", "denied", "denied", "denied"]
        assert "signature=" not in (tmp_path / "audit").read_text()

    def test_without_access_control_everything_is_allowed(self) -> None:
        access = Access()
        assert access.require("reads", "a", [GENE]) == WHOLE
        assert access.allows_whole("files", "a")
        assert access.allows("reads", "a")
        assert access.signature_query("a") == ""
