import json
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.auth.access import Access, Gate
from htsget_flask.auth.audit import Audit, Origin
from htsget_flask.auth.caller import ANONYMOUS, Caller, Visa
from htsget_flask.auth.decision import Decision
from htsget_flask.auth.decision import decide as decide_on
from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.jws import Signature
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.policy_service import PolicyAuthorizer
from htsget_flask.auth.rules import Rule, RuleAuthorizer, any_of, contains, equals, grants
from htsget_flask.auth.signed_urls import UrlSigner
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.errors import InvalidAuthentication, NotFound, PermissionDenied, ServiceUnavailable
from htsget_flask.regions import Region, RegionSet
from tests.support.issuer import ALGORITHMS, Issuer, Key, serving_issuer

GENE = Region("chr1", 1000, 2000)
VISA_ISSUER = Issuer(keys=[Key("key", "ES256")])
ORIGIN = Origin("192.0.2.7", "request-7")
ADA = Caller(
    {"sub": "ada", "iss": "https://i", "groups": ["lab", "staff"], "scope": "read write", "level": 3}, key=b"1"
)


def visa(value: str, expires: float, *, issuer: str = "https://i/1", source: str = "https://dac/1") -> Visa:
    """A visa whose key its issuer still has."""
    keys = Keys(lambda: VISA_ISSUER.jwks, ALGORITHMS, issuer=issuer, interval=60)
    key = keys.find(VISA_ISSUER.keys[0].key_id, VISA_ISSUER.keys[0].algorithm)
    assert key is not None
    return Visa(value, expires, issuer, source, Signature(keys, key.fingerprint))


def decide(*rules: Rule, caller: Caller = ADA, endpoint: str = "reads", resource_id: str = "lab/a") -> Decision:
    return RuleAuthorizer(rules).decide(caller, endpoint, resource_id)


class TestTheFirstRuleThatMatchesWins:
    def test_and_without_one_all_is_denied(self) -> None:
        assert not decide().allowed
        assert not decide(Rule(["other"])).allowed

    @pytest.mark.parametrize("pattern", ["lab/a", "*", "lab/*", "l?b/[ab]", "*a"])
    def test_ids(self, pattern: str) -> None:
        assert decide(Rule([pattern])).allowed

    @pytest.mark.parametrize("pattern", ["", "lab", "lab/", "a", "LAB/*", "lab/ab", "lab/a\n"])
    def test_other_ids(self, pattern: str) -> None:
        assert not decide(Rule([pattern])).allowed

    def test_a_line_end_does_not_hide_the_rest_of_an_id(self) -> None:
        assert not decide(Rule(["lab/a"]), resource_id="lab/a\n").allowed
        assert decide(Rule(["lab/*"]), resource_id="lab/a\nb").allowed

    def test_endpoints(self) -> None:
        rule = Rule(["*"], endpoints=["variants"])
        assert decide(rule, endpoint="variants").allowed
        assert not decide(rule, endpoint="reads").allowed

    def test_one_that_does_not_match_is_passed_over(self) -> None:
        decision = decide(Rule(["lab/*"], scopes=["admin"]), Rule(["lab/*"], regions=RegionSet([GENE])), Rule(["*"]))
        assert (decision.allowed, decision.reason, list(decision.regions or ())) == (True, "rules[1]", [GENE])

    def test_what_is_public_needs_no_token_all_else_does(self) -> None:
        assert decide(Rule(["*"], public=True), caller=ANONYMOUS).allowed
        assert not decide(Rule(["*"]), caller=ANONYMOUS).allowed

    @pytest.mark.parametrize(
        ("claims", "holds"),
        [
            ({"sub": equals("ada")}, True),
            ({"sub": equals("bob")}, False),
            ({"level": equals(3)}, True),
            ({"level": equals(True)}, False),
            ({"groups": equals("lab")}, False),
            ({"groups": contains("lab")}, True),
            ({"groups": contains("la")}, False),
            ({"sub": contains("ada")}, False),
            ({"sub": any_of(["bob", "ada"])}, True),
            ({"groups": any_of(["x", "staff"])}, True),
            ({"groups": any_of(["x"])}, False),
            ({"absent": any_of(["x"])}, False),
            ({"sub": equals("ada"), "groups": contains("x")}, False),
        ],
    )
    def test_claims(self, claims: Mapping[str, Any], holds: bool) -> None:
        assert decide(Rule(["*"], claims=claims)).allowed is holds

    def test_all_scopes_are_needed(self) -> None:
        assert decide(Rule(["*"], scopes=["read", "write"])).allowed
        assert not decide(Rule(["*"], scopes=["read", "admin"])).allowed

    def test_one_visa_is_needed_that_has_not_ended(self) -> None:
        rule = Rule(["*"], visas=[grants("https://d/1"), grants("https://d/2")])
        good, over = time.time() + 60, time.time() - 1
        assert decide(rule, caller=Caller({}, [visa("https://d/2", good)], b"1")).allowed
        assert not decide(
            rule, caller=Caller({}, [visa("https://d/2", over), visa("https://d/22", good)], b"1")
        ).allowed
        assert not decide(rule).allowed

    @pytest.mark.parametrize(
        ("needed", "allowed"),
        [
            ({"issuer": "https://i/1"}, True),
            ({"issuer": "https://i/2"}, False),
            ({"source": "https://dac/1"}, True),
            ({"source": "https://dac/2"}, False),
            ({"issuer": "https://i/1", "source": "https://dac/1"}, True),
            ({"issuer": "https://i/1", "source": "https://dac/2"}, False),
            ({"issuer": "https://i/2", "source": "https://dac/1"}, False),
        ],
    )
    def test_a_visa_of_the_issuer_and_source_that_are_named(self, needed: dict[str, str], allowed: bool) -> None:
        caller = Caller({}, [visa("https://d/1", time.time() + 60)], b"1")
        assert decide(Rule(["*"], visas=[grants("https://d/1", **needed)]), caller=caller).allowed is allowed

    def test_one_visa_has_to_fulfil_all_that_is_named(self) -> None:
        good = time.time() + 60
        caller = Caller({}, [visa("https://d/1", good), visa("https://d/1", good, issuer="https://i/2")], b"1")
        both = Rule(["*"], visas=[grants("https://d/1", issuer="https://i/2", source="https://dac/1")])
        assert decide(both, caller=caller).allowed
        other = Caller({}, [visa("https://d/1", good), visa("https://d/2", good, issuer="https://i/2")], b"1")
        assert not decide(both, caller=other).allowed

    @pytest.mark.parametrize("endpoint", ["files", "sequence"])
    def test_plain_files_cannot_be_cut(self, endpoint: str) -> None:
        grants = RuleAuthorizer([Rule(["*"], regions=RegionSet([GENE]))])
        assert not decide_on(grants, ADA, endpoint, "lab/a").allowed
        assert decide_on(grants, ADA, "variants", "lab/a").allowed


@pytest.fixture(scope="module")
def served() -> Iterator[Issuer]:
    with serving_issuer() as issuer:
        yield issuer


@pytest.mark.slow
class TestAPolicyServiceDecides:
    def ask(self, served: Issuer, answer: Any, **options: Any) -> Decision:
        served.decide = lambda _: answer
        return self.authorizer(served).decide(ADA, options.get("endpoint", "reads"), "lab/a", options.get("regions"))

    def authorizer(self, served: Issuer, *, timeout: float = 2, kept: float = 60) -> PolicyAuthorizer:
        return PolicyAuthorizer(f"{served.url}/v1/data/htsget", JsonClient(timeout), kept=kept)

    def test_what_it_is_told(self, served: Issuer) -> None:
        served.questions.clear()
        assert self.ask(served, {"result": True}, regions=[GENE]).allowed
        assert served.questions == [
            {
                "claims": dict(ADA.claims),
                "visas": [],
                "endpoint": "reads",
                "id": "lab/a",
                "regions": [{"referenceName": "chr1", "start": 1000, "end": 2000}],
            }
        ]

    @pytest.mark.parametrize(
        "answer",
        [{}, [], None, {"result": False}, {"result": 1}, {"result": "true"}, {"result": {}}, {"result": {"allow": 1}}],
        ids=str,
    )
    def test_what_it_does_not_allow_is_denied(self, served: Issuer, answer: Any) -> None:
        assert not self.ask(served, answer).allowed

    def test_regions(self, served: Issuer) -> None:
        answer = {"result": {"allow": True, "regions": [{"referenceName": "chr1", "start": 1000, "end": 2000}]}}
        assert list(self.ask(served, answer).regions or ()) == [GENE]
        assert self.ask(served, {"result": {"allow": True}}).regions is None

    @pytest.mark.parametrize("regions", ["chr1", [{}], [{"referenceName": 1}], [{"referenceName": "a", "start": "1"}]])
    def test_regions_that_are_not_understood_are_a_failure(self, served: Issuer, regions: Any) -> None:
        with pytest.raises(ServiceUnavailable):
            self.ask(served, {"result": {"allow": True, "regions": regions}})

    def test_visas_with_issuer_and_source(self, served: Issuer) -> None:
        served.questions.clear()
        expires = time.time() + 60
        caller = Caller({}, [visa("https://d/1", expires), visa("https://d/2", 1)], b"2")
        served.decide = lambda _: {"result": True}
        self.authorizer(served).decide(caller, "reads", "lab/a", None)
        assert served.questions[0]["visas"] == [
            {"value": "https://d/1", "issuer": "https://i/1", "source": "https://dac/1", "expires": expires}
        ]

    def test_its_decisions_are_kept_each_by_itself(self, served: Issuer) -> None:
        served.decide = lambda asked: {"result": asked["id"] == "lab/a" and asked["claims"] is not None}
        authorizer = self.authorizer(served)
        served.questions.clear()
        for _ in range(3):
            assert authorizer.decide(ADA, "reads", "lab/a").allowed
            assert not authorizer.decide(ADA, "reads", "lab/b").allowed
            assert not authorizer.decide(ANONYMOUS, "reads", "lab/a").allowed
            assert authorizer.decide(ADA, "reads", "lab/a", [GENE]).allowed
        assert len(served.questions) == 4

    def test_a_long_question_takes_no_room(self, served: Issuer) -> None:
        served.decide = lambda _: {"result": False}
        authorizer = self.authorizer(served)
        regions = [Region(f"chr{place}", place, place + 1) for place in range(10_000)]
        tracemalloc.start()
        try:
            authorizer.decide(ANONYMOUS, "reads", "warm")
            before = tracemalloc.get_traced_memory()[0]
            for place in range(3):
                authorizer.decide(ANONYMOUS, "reads", f"lab/{place}", tuple(regions))
            served.questions.clear()
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()
        assert [len(key) for key in authorizer._kept._entries] == [32] * 4

    def test_nothing_is_kept_for_longer_than_wanted(self, served: Issuer) -> None:
        authorizer = self.authorizer(served, kept=0)
        served.decide = lambda _: {"result": True}
        assert authorizer.decide(ADA, "reads", "lab/a").allowed
        served.decide = lambda _: {"result": False}
        assert not authorizer.decide(ADA, "reads", "lab/a").allowed

    def test_without_an_answer_nothing_is_allowed(self, served: Issuer) -> None:
        served.decide = lambda _: {"result": True}
        served.is_broken = True
        try:
            with pytest.raises(ServiceUnavailable):
                self.authorizer(served).decide(ADA, "reads", "lab/a")
        finally:
            served.is_broken = False
        with pytest.raises(ServiceUnavailable):
            PolicyAuthorizer("http://127.0.0.1:1/", JsonClient(1), kept=1).decide(ADA, "reads", "lab/a")

    def test_decisions_with_many_regions_take_their_part_of_the_memory(self, served: Issuer) -> None:
        regions = [{"referenceName": "1", "start": 9 * place, "end": 9 * place + 5} for place in range(60_000)]
        served.decide = lambda _: {"result": {"allow": True, "regions": regions}}
        authorizer = self.authorizer(served)
        served.questions.clear()
        ids = ["a", "b", "c", "d", "d", "a"]
        assert all(authorizer.decide(ADA, "reads", resource_id).allowed for resource_id in ids)
        assert [question["id"] for question in served.questions] == ["a", "b", "c", "d", "a"]

    def test_nor_when_the_answer_is_late(self, served: Issuer) -> None:
        served.decide, served.delay = lambda _: {"result": True}, 0.5
        try:
            with pytest.raises(ServiceUnavailable):
                self.authorizer(served, timeout=0.1).decide(ADA, "reads", "lab/a")
        finally:
            served.delay = 0


class Fixed(Authenticator):
    """Believes that everybody is somebody."""

    def __init__(self, caller: Caller) -> None:
        super().__init__({}, client=JsonClient(1))
        self._caller = caller

    def authenticate(self, authorization: str | None) -> Caller:
        return self._caller if authorization else super().authenticate(authorization)


def gate(folder: Path, rules: Sequence[Rule], *, hides: bool = False) -> Gate:
    links = UrlSigner(["secret-0123456789abc"], 60)
    return Gate(Fixed(ADA), RuleAuthorizer(rules), links, Audit(folder / "audit"), hides=hides)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit").read_text().splitlines()]


class TestARequestIsLetInOrNot:
    def test_401_asks_for_a_token_403_says_that_it_does_not_help(self, tmp_path: Path) -> None:
        present = gate(tmp_path, [Rule(["public"], public=True)])
        assert present.admit(None, ORIGIN).require("reads", "public") is None
        with pytest.raises(InvalidAuthentication):
            present.admit(None, ORIGIN).require("reads", "lab/a")
        with pytest.raises(PermissionDenied):
            present.admit("Bearer x", ORIGIN).require("reads", "lab/a")

    def test_what_is_hidden_is_not_there(self, tmp_path: Path) -> None:
        present = gate(tmp_path, [], hides=True)
        with pytest.raises(NotFound, match="there is no dataset 'lab/a' at /reads"):
            present.admit("Bearer x", ORIGIN).require("reads", "lab/a")
        with pytest.raises(InvalidAuthentication):
            present.admit(None, ORIGIN).require("reads", "lab/a")

    def test_regions(self, tmp_path: Path) -> None:
        access = gate(tmp_path, [Rule(["*"], regions=RegionSet([GENE]))], hides=True).admit("Bearer x", ORIGIN)
        assert list(access.require("reads", "lab/a", None) or ()) == [GENE]
        assert list(access.require("reads", "lab/a", [Region("chr1", 0, 1001)]) or ()) == [GENE]
        for outside in (Region("chr1", 0, 1000), Region("chr1", 2000), Region("chr2"), Region("*")):
            with pytest.raises(PermissionDenied):
                access.require("reads", "lab/a", [GENE, outside])
        assert access.allows("reads", "lab/a")
        assert not access.allows_whole("reads", "lab/a")

    def test_each_decision_is_on_record(self, tmp_path: Path) -> None:
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
        present = gate(tmp_path, [])
        signed = present.admit("Bearer x", ORIGIN).signature_query("a", "b")
        present.check_link(signed[1:], ORIGIN, "files", "a/b", [("x", "y"), ("a", "b")])
        for query, candidates in ((signed[1:], [("a", "c")]), ("", [("a", "b")]), (signed[1:], [])):
            with pytest.raises(PermissionDenied):
                present.check_link(query, ORIGIN, "files", "a/b", candidates)
        assert [line["decision"] for line in lines(tmp_path)] == ["allowed", "denied", "denied", "denied"]
        assert "signature=" not in (tmp_path / "audit").read_text()

    def test_without_access_control_all_is_open(self) -> None:
        access = Access()
        assert access.require("reads", "a", [GENE]) is None
        assert access.allows_whole("files", "a")
        assert access.allows("reads", "a")
        assert access.signature_query("a") == ""
