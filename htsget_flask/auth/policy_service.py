"""An authorizer that requests decisions from a policy service: the data API of Open Policy Agent, or one like it."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import Decision, Grant, Regions, granted_selection
from htsget_flask.auth.http_client import JsonClient, UpstreamError
from htsget_flask.cache import ExpiringCache, bytes_of
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.fields import FIELDS, MAX_TAGS, TAG
from htsget_flask.regions import Region, RegionSet

log = logging.getLogger(__name__)

_MAX_DECISIONS = 10_000
_REASON = "the policy service"
_REGION_FIELDS = ("referenceName", "start", "end")


class PolicyAuthorizer:
    """Requests each decision from a service, and caches it for `cache_seconds`.

    The request is `{"input": {"claims", "visas", "endpoint", "id", "regions"}}`. The answer is `{"result": true}`, or
    has an object as its result: `allow`, a boolean, and optionally `reason`, and the `regions`, `fields` and `tags` (or
    all but `notags`) that the grant is limited to. Anything else is a denial.
    """

    # Each decision is a request, one after the other.
    listing_limit = 100

    def __init__(
        self, url: str, client: JsonClient, *, cache_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._client = client
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._decisions: ExpiringCache[bytes, Decision] = ExpiringCache(_MAX_DECISIONS, clock)

    def decide(self, caller: Caller, endpoint: str, resource_id: str, regions: Regions = None) -> Decision:
        """The service's decision."""
        try:
            body = _request_body(caller, endpoint, resource_id, regions)
        except RecursionError:
            return Decision(False, "the claims are nested too deeply for the policy service")
        # A hash, as the body may have thousands of regions.
        key = hashlib.sha256(body).digest()
        decision = self._decisions.get(key)
        if decision is not None:
            return decision
        try:
            decision = _parse_decision(self._client.fetch(self._url, {"Content-Type": "application/json"}, body))
        except UpstreamError as error:
            log.error("the policy service: %s", error)
            raise ServiceUnavailable("the policy service is unavailable") from None
        grant = decision.grant
        size = bytes_of((decision.reason, list(grant.regions or ()), str(grant.selection)))
        self._decisions.keep(key, decision, self._clock() + self._cache_seconds, size=size)
        return decision

    def opens(self, caller: Caller, endpoint: str) -> None:
        """Unknown: the service decides on single things only."""


def _request_body(caller: Caller, endpoint: str, resource_id: str, regions: Regions) -> bytes:
    content = {
        "input": {
            "claims": None if caller.is_anonymous else caller.claims,
            "visas": [
                {"value": visa.value, "issuer": visa.issuer, "source": visa.source, "expires": visa.expires}
                for visa in caller.current_visas(time.time())
            ],
            "endpoint": endpoint,
            "id": resource_id,
            "regions": None if regions is None else [dict(zip(_REGION_FIELDS, one, strict=True)) for one in regions],
        }
    }
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError:
        # Claims may hold anything: numbers of more than 64 bits, lone surrogates, deep nesting.
        return json.dumps(content).encode()


def _parse_decision(answer: Any) -> Decision:
    """The decision in an answer; Open Policy Agent leaves out the result if no rule is defined."""
    result = answer.get("result") if isinstance(answer, dict) else None
    content = result if isinstance(result, dict) else {"allow": result}
    if content.get("allow") is not True:
        reason = content.get("reason")
        return Decision(False, f"{_REASON}: {reason}" if isinstance(reason, str) else _REASON)
    regions = content.get("regions")
    if not isinstance(regions, list | None):
        raise UpstreamError("its regions are not valid")
    fields = _parse_names(content, "fields", FIELDS.__contains__, len(FIELDS))
    tags, notags = (_parse_names(content, name, TAG.fullmatch, MAX_TAGS) for name in ("tags", "notags"))
    granted = None if regions is None else RegionSet(map(_parse_region, regions))
    return Decision(True, _REASON, Grant(granted, granted_selection(fields, tags, notags)))


def _parse_names(
    content: Mapping[str, Any], name: str, is_valid: Callable[[str], object], limit: int
) -> list[str] | None:
    """The fields or tags in a result; None without a limit to some."""
    values = content.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) > limit:
        raise UpstreamError(f"its {name} are not valid")
    if not all(isinstance(value, str) and is_valid(value) for value in values):
        raise UpstreamError(f"its {name} are not valid")
    return values


def _parse_region(content: Any) -> Region:
    fields = content if isinstance(content, dict) else {}
    name, start, end = fields.get("referenceName"), fields.get("start", 0), fields.get("end")
    start = 0 if start is None else start
    if not isinstance(name, str) or type(start) is not int or not (end is None or type(end) is int) or start < 0:
        raise UpstreamError("its regions are not valid")
    return Region(name, start, end)
