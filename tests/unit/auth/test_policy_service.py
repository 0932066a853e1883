"""A policy service as an authorizer."""

import time
import tracemalloc
from typing import Any

import pytest

from htsget_flask.auth.caller import ANONYMOUS, Caller
from htsget_flask.auth.decision import WHOLE, Decision, Grant
from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.policy_service import PolicyAuthorizer
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.fields import EVERYTHING, FieldSelection, select_fields
from htsget_flask.regions import Region
from tests.support.callers import ADA, GENE, visa
from tests.support.issuer import Issuer


@pytest.mark.slow
class TestAPolicyServiceDecides:
    def decision(self, served: Issuer, answer: Any, **options: Any) -> Decision:
        served.decide = lambda _: answer
        return self.authorizer(served).decide(ADA, options.get("endpoint", "reads"), "lab/a", options.get("regions"))

    def authorizer(self, served: Issuer, *, timeout: float = 2, cache_seconds: float = 60) -> PolicyAuthorizer:
        return PolicyAuthorizer(f"{served.url}/v1/data/htsget", JsonClient(timeout), cache_seconds=cache_seconds)

    def test_the_request(self, served: Issuer) -> None:
        served.policy_inputs.clear()
        assert self.decision(served, {"result": True}, regions=[GENE]).allowed
        assert served.policy_inputs == [
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
    def test_other_answers_are_denials(self, served: Issuer, answer: Any) -> None:
        assert not self.decision(served, answer).allowed

    def test_regions(self, served: Issuer) -> None:
        answer = {"result": {"allow": True, "regions": [{"referenceName": "chr1", "start": 1000, "end": 2000}]}}
        assert list(self.decision(served, answer).grant.regions or ()) == [GENE]
        assert self.decision(served, {"result": {"allow": True}}).grant == WHOLE

    @pytest.mark.parametrize(
        ("limits", "selection"),
        [
            ({"fields": ["QNAME"]}, select_fields(["QNAME"], ())),
            ({"fields": [], "tags": ["NM"]}, select_fields((), ["NM"])),
            ({"fields": ["SEQ"], "notags": ["MD"]}, select_fields(["SEQ"], None, ["MD"])),
            ({"tags": []}, select_fields(None, ())),
            ({"tags": ["NM", "MD"], "notags": ["MD"]}, select_fields(None, ["NM"])),
            ({"fields": None, "tags": None, "notags": None}, EVERYTHING),
        ],
        ids=str,
    )
    def test_fields(self, served: Issuer, limits: dict[str, Any], selection: FieldSelection) -> None:
        decision = self.decision(served, {"result": {"allow": True, **limits}})
        assert decision == Decision(True, "the policy service", Grant(None, selection))

    @pytest.mark.parametrize("name", ["fields", "tags", "notags"])
    @pytest.mark.parametrize(
        "names", ["SEQ", "NM", {}, [1], [None], ["seq"], ["M"], ["NM"] * 251, True, 0, ""], ids=str
    )
    def test_fields_that_are_not_valid_are_a_failure(self, served: Issuer, name: str, names: Any) -> None:
        with pytest.raises(ServiceUnavailable):
            self.decision(served, {"result": {"allow": True, name: names}})

    @pytest.mark.parametrize("regions", ["chr1", [{}], [{"referenceName": 1}], [{"referenceName": "a", "start": "1"}]])
    def test_regions_that_are_not_valid_are_a_failure(self, served: Issuer, regions: Any) -> None:
        with pytest.raises(ServiceUnavailable):
            self.decision(served, {"result": {"allow": True, "regions": regions}})

    def test_visas_with_issuer_and_source(self, served: Issuer) -> None:
        served.policy_inputs.clear()
        expires = time.time() + 60
        caller = Caller({}, [visa("https://d/1", expires), visa("https://d/2", 1)], b"2")
        served.decide = lambda _: {"result": True}
        self.authorizer(served).decide(caller, "reads", "lab/a", None)
        assert served.policy_inputs[0]["visas"] == [
            {"value": "https://d/1", "issuer": "https://i/1", "source": "https://dac/1", "expires": expires}
        ]

    def test_each_decision_is_cached(self, served: Issuer) -> None:
        served.decide = lambda request: {"result": request["id"] == "lab/a" and request["claims"] is not None}
        authorizer = self.authorizer(served)
        served.policy_inputs.clear()
        for _ in range(3):
            assert authorizer.decide(ADA, "reads", "lab/a").allowed
            assert not authorizer.decide(ADA, "reads", "lab/b").allowed
            assert not authorizer.decide(ANONYMOUS, "reads", "lab/a").allowed
            assert authorizer.decide(ADA, "reads", "lab/a", [GENE]).allowed
        assert len(served.policy_inputs) == 4

    def test_long_requests_are_not_cached(self, served: Issuer) -> None:
        served.decide = lambda _: {"result": False}
        authorizer = self.authorizer(served)
        regions = [Region(f"chr{number}", number, number + 1) for number in range(10_000)]
        tracemalloc.start()
        try:
            authorizer.decide(ANONYMOUS, "reads", "warm")
            before = tracemalloc.get_traced_memory()[0]
            for number in range(3):
                authorizer.decide(ANONYMOUS, "reads", f"lab/{number}", tuple(regions))
            served.policy_inputs.clear()
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()
        assert [len(key) for key in authorizer._decisions._entries] == [32] * 4

    def test_decisions_are_cached_no_longer_than_configured(self, served: Issuer) -> None:
        authorizer = self.authorizer(served, cache_seconds=0)
        served.decide = lambda _: {"result": True}
        assert authorizer.decide(ADA, "reads", "lab/a").allowed
        served.decide = lambda _: {"result": False}
        assert not authorizer.decide(ADA, "reads", "lab/a").allowed

    def test_without_an_answer_the_request_fails(self, served: Issuer) -> None:
        served.decide = lambda _: {"result": True}
        served.is_broken = True
        try:
            with pytest.raises(ServiceUnavailable):
                self.authorizer(served).decide(ADA, "reads", "lab/a")
        finally:
            served.is_broken = False
        with pytest.raises(ServiceUnavailable):
            PolicyAuthorizer("http://127.0.0.1:1/", JsonClient(1), cache_seconds=1).decide(ADA, "reads", "lab/a")

    def test_decisions_with_many_regions_count_by_their_size(self, served: Issuer) -> None:
        regions = [{"referenceName": "1", "start": 9 * number, "end": 9 * number + 5} for number in range(60_000)]
        served.decide = lambda _: {"result": {"allow": True, "regions": regions}}
        authorizer = self.authorizer(served)
        served.policy_inputs.clear()
        ids = ["a", "b", "c", "d", "d", "a"]
        assert all(authorizer.decide(ADA, "reads", resource_id).allowed for resource_id in ids)
        assert [question["id"] for question in served.policy_inputs] == ["a", "b", "c", "d", "a"]

    def test_a_late_answer_is_a_failure(self, served: Issuer) -> None:
        served.decide, served.delay = lambda _: {"result": True}, 0.5
        try:
            with pytest.raises(ServiceUnavailable):
                self.authorizer(served, timeout=0.1).decide(ADA, "reads", "lab/a")
        finally:
            served.delay = 0
