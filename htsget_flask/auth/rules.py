"""An authorizer with rules: the first that matches decides, and everything else is denied."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any

from htsget_flask.auth.caller import Caller, Visa
from htsget_flask.auth.decision import ENDPOINTS, WHOLE, Decision, Grant, Regions

# The most cached ids: requests choose them, and they may be kilobytes long.
_MAX_IDS = 1000
_NO_RULE = Decision(False, "no rule matches")


@dataclass(frozen=True, slots=True)
class Rule:
    """A grant to callers that meet all of its conditions; without conditions, to every caller with a verified token.

    `ids` are patterns in which `*` stands for any text, slashes included; `claims` are predicates on claims by name;
    all of `scopes` are needed, and one visa for which one of the predicates `visas` holds.
    """

    ids: Sequence[str]
    endpoints: Sequence[str] = ENDPOINTS
    public: bool = False
    claims: Mapping[str, Callable[[Any], bool]] | None = None
    scopes: Sequence[str] = ()
    visas: Sequence[Callable[[Visa], bool]] = ()
    grant: Grant = WHOLE


class RuleAuthorizer:
    """Decides by rules."""

    listing_limit = 10_000

    def __init__(self, rules: Sequence[Rule], *, clock: Callable[[], float] = time.time) -> None:
        self._rules = [(rule, re.compile("|".join(map(translate, rule.ids))).fullmatch) for rule in rules]
        self._rules_for = lru_cache(_MAX_IDS)(self._find_rules)
        self._clock = clock

    def decide(self, caller: Caller, endpoint: str, resource_id: str, regions: Regions = None) -> Decision:
        """The decision of the first rule that matches, for whatever regions."""
        for rule, decision in self._rules_for(endpoint, resource_id):
            if self._admits(rule, caller):
                return decision
        return _NO_RULE

    def opens(self, caller: Caller, endpoint: str) -> bool:
        """Whether any rule for this endpoint gives the caller unlimited access."""
        return any(
            endpoint in rule.endpoints and not rule.grant.is_limited and self._admits(rule, caller)
            for rule, _ in self._rules
        )

    def _find_rules(self, endpoint: str, resource_id: str) -> list[tuple[Rule, Decision]]:
        """The rules for an id, each with its decision, for any caller."""
        return [
            (rule, Decision(True, f"rules[{index}]", rule.grant))
            for index, (rule, matches) in enumerate(self._rules)
            if endpoint in rule.endpoints and matches(resource_id)
        ]

    def _admits(self, rule: Rule, caller: Caller) -> bool:
        if rule.public:
            return True
        if caller.is_anonymous:
            return False
        claims = caller.claims
        if any(name not in claims or not holds(claims[name]) for name, holds in (rule.claims or {}).items()):
            return False
        if rule.scopes and not caller.scopes.issuperset(rule.scopes):
            return False
        return not rule.visas or any(
            holds(visa) for visa in caller.current_visas(self._clock()) for holds in rule.visas
        )


def equals(expected: object) -> Callable[[Any], bool]:
    """Whether a claim is this value, with the same type: 1 is not true."""
    return lambda claim: type(claim) is type(expected) and claim == expected


def contains(expected: object) -> Callable[[Any], bool]:
    """Whether a claim is a list that has this value."""
    same = equals(expected)
    return lambda claim: isinstance(claim, list) and any(map(same, claim))


def any_of(expected: Sequence[object]) -> Callable[[Any], bool]:
    """Whether a claim is one of these values, or a list that has one of them."""
    tests = [equals(value) for value in expected] + [contains(value) for value in expected]
    return lambda claim: any(test(claim) for test in tests)


def grants(value: str, *, issuer: str | None = None, source: str | None = None) -> Callable[[Visa], bool]:
    """Whether a visa has this value, and this issuer and this source if they are given."""
    return lambda visa: visa.value == value and issuer in (None, visa.issuer) and source in (None, visa.source)
