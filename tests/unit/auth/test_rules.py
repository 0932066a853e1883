"""Rules as an authorizer."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from htsget_flask.auth.caller import ANONYMOUS, Caller
from htsget_flask.auth.decision import Decision, Grant, granted_selection
from htsget_flask.auth.decision import decide as decide_on
from htsget_flask.auth.rules import Rule, RuleAuthorizer, any_of, contains, equals, grants
from htsget_flask.fields import EVERYTHING, FIELDS, FieldSelection, select_fields
from htsget_flask.regions import RegionSet
from tests.support.callers import ADA, GENE, visa


def decide(*rules: Rule, caller: Caller = ADA, endpoint: str = "reads", resource_id: str = "lab/a") -> Decision:
    return RuleAuthorizer(rules).decide(caller, endpoint, resource_id)


class TestTheFirstRuleThatMatchesDecides:
    def test_and_without_a_match_everything_is_denied(self) -> None:
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

    def test_a_rule_that_does_not_match_is_skipped(self) -> None:
        decision = decide(
            Rule(["lab/*"], scopes=["admin"]), Rule(["lab/*"], grant=Grant(RegionSet([GENE]))), Rule(["*"])
        )
        assert (decision.allowed, decision.reason, list(decision.grant.regions or ())) == (True, "rules[1]", [GENE])

    def test_only_public_rules_need_no_token(self) -> None:
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

    def test_one_visa_that_has_not_expired_is_needed(self) -> None:
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
    def test_a_visa_of_the_named_issuer_and_source(self, needed: dict[str, str], allowed: bool) -> None:
        caller = Caller({}, [visa("https://d/1", time.time() + 60)], b"1")
        assert decide(Rule(["*"], visas=[grants("https://d/1", **needed)]), caller=caller).allowed is allowed

    def test_one_visa_has_to_meet_all_conditions(self) -> None:
        good = time.time() + 60
        caller = Caller({}, [visa("https://d/1", good), visa("https://d/1", good, issuer="https://i/2")], b"1")
        both = Rule(["*"], visas=[grants("https://d/1", issuer="https://i/2", source="https://dac/1")])
        assert decide(both, caller=caller).allowed
        other = Caller({}, [visa("https://d/1", good), visa("https://d/2", good, issuer="https://i/2")], b"1")
        assert not decide(both, caller=other).allowed

    @pytest.mark.parametrize("endpoint", ["files", "sequence"])
    def test_only_records_can_be_filtered(self, endpoint: str) -> None:
        grants = RuleAuthorizer([Rule(["*"], grant=Grant(RegionSet([GENE])))])
        assert not decide_on(grants, ADA, endpoint, "lab/a").allowed
        assert decide_on(grants, ADA, "variants", "lab/a").allowed

    @pytest.mark.parametrize(
        "selection", [select_fields((), None), select_fields(None, ()), select_fields(None, None, ["MD"])]
    )
    def test_only_reads_have_fields_and_tags(self, selection: FieldSelection) -> None:
        for regions in (None, RegionSet([GENE])):
            grants = RuleAuthorizer([Rule(["*"], grant=Grant(regions, selection))])
            assert decide_on(grants, ADA, "reads", "lab/a").grant == Grant(regions, selection)
            assert decide_on(grants, ADA, "reads", "lab/a", [GENE]).allowed
            for endpoint in ("variants", "files", "sequence"):
                assert not decide_on(grants, ADA, endpoint, "lab/a").allowed
                assert not decide_on(grants, ADA, endpoint, "lab/a", empty_outside=True).allowed
                assert not grants.opens(ADA, endpoint)
            assert not grants.opens(ADA, "reads")

    def test_regions_are_decided_with_fields_as_without(self) -> None:
        grants = RuleAuthorizer([Rule(["*"], grant=Grant(RegionSet([GENE]), select_fields((), ())))])
        outside = [GENE._replace(reference_name="chr2")]
        assert not decide_on(grants, ADA, "reads", "lab/a", outside).allowed
        empty = decide_on(grants, ADA, "reads", "lab/a", outside, empty_outside=True)
        assert (empty.allowed, empty.grant.selection) == (True, select_fields((), ()))


class TestAGrantOfFields:
    def test_without_limits_is_of_everything(self) -> None:
        assert granted_selection(None, None, None) == EVERYTHING
        assert not Grant().is_limited

    def test_has_no_tags_unless_it_names_some(self) -> None:
        assert granted_selection(["SEQ"], None, None) == select_fields(["SEQ"], ())
        assert granted_selection(FIELDS, None, None) == select_fields(None, ())
        assert granted_selection([], None, None) == select_fields((), ())
        assert granted_selection(["SEQ"], ["NM"], None) == select_fields(["SEQ"], ["NM"])
        assert granted_selection(["SEQ"], None, ["MD"]) == select_fields(["SEQ"], None, ["MD"])
        assert granted_selection(["SEQ"], None, []) == select_fields(["SEQ"], None)

    def test_of_tags_has_all_fields(self) -> None:
        assert granted_selection(None, ["NM"], None) == select_fields(None, ["NM"])
        assert granted_selection(None, None, ["MD"]) == select_fields(None, None, ["MD"])
        assert granted_selection(None, ["NM", "MD"], ["MD"]) == select_fields(None, ["NM"])
