"""An HTTP policy service as an authorizer: the data API of Open Policy Agent, and what speaks like it."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import Decision
from htsget_flask.auth.http_client import JsonClient, UpstreamError
from htsget_flask.cache import ExpiringCache, bytes_of
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.regions import Region, RegionSet

log = logging.getLogger(__name__)

_MAX_KEPT = 10_000


class PolicyAuthorizer:
    """Asks a service for each decision, which is kept for `kept` seconds; nothing is allowed that it does not allow.

    It is sent `{"input": {"claims", "visas", "endpoint", "id", "regions"}}` and answers `{"result": true}`, or an
    object as result: `allow`, a truth value, and optionally `reason`, and `regions` that the grant is limited to.
    """

    # Each is a request, and they go one after the other.
    most_listed = 100

    def __init__(
        self, url: str, client: JsonClient, *, kept: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._client = client
        self._seconds = kept
        self._clock = clock
        self._kept: ExpiringCache[bytes, Decision] = ExpiringCache(_MAX_KEPT, clock)

    def decide(
        self, caller: Caller, endpoint: str, resource_id: str, regions: Sequence[Region] | None = None
    ) -> Decision:
        """The service's decision."""
        try:
            question = _question(caller, endpoint, resource_id, regions)
        except RecursionError:
            return Decision(False, "the policy service cannot be told of claims as deep as these")
        # Not the question itself, which may have thousands of regions.
        key = hashlib.sha256(question).digest()
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        try:
            answer = self._client.post(self._url, question, {"Content-Type": "application/json"})
            decision = _decision(answer)
        except UpstreamError as error:
            log.error("the policy service: %s", error)
            raise ServiceUnavailable("who may see this cannot be found out now") from None
        size = bytes_of((decision.reason, list(decision.regions or ())))
        self._kept.keep(key, decision, self._clock() + self._seconds, size=size)
        return decision

    def opens(self, caller: Caller, endpoint: str) -> None:
        """Nobody knows what the service would say."""


def _question(caller: Caller, endpoint: str, resource_id: str, regions: Sequence[Region] | None) -> bytes:
    content = {
        "input": {
            "claims": None if caller.is_anonymous else caller.claims,
            "visas": [
                {"value": visa.value, "issuer": visa.issuer, "source": visa.source, "expires": visa.expires}
                for visa in caller.current_visas(time.time())
            ],
            "endpoint": endpoint,
            "id": resource_id,
            "regions": None if regions is None else [_spelled(region) for region in regions],
        }
    }
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError:
        # Claims are what their issuer likes: numbers of more than 64 bits, half characters, depths.
        return json.dumps(content).encode()


def _spelled(region: Region) -> dict[str, Any]:
    return {"referenceName": region.reference_name, "start": region.start, "end": region.end}


def _decision(answer: Any) -> Decision:
    """What an answer says; no result is how Open Policy Agent says that no rule is defined."""
    result = answer.get("result") if isinstance(answer, dict) else None
    if isinstance(result, bool):
        return Decision(result, "the policy service")
    if not isinstance(result, dict) or result.get("allow") is not True:
        reason = result.get("reason") if isinstance(result, dict) else None
        return Decision(False, f"the policy service: {reason}" if isinstance(reason, str) else "the policy service")
    regions = result.get("regions")
    if regions is None:
        return Decision(True, "the policy service")
    if not isinstance(regions, list):
        raise UpstreamError("its regions are not understood")
    return Decision(True, "the policy service", RegionSet(map(_region, regions)))


def _region(told: Any) -> Region:
    fields = told if isinstance(told, dict) else {}
    name, start, end = fields.get("referenceName"), fields.get("start", 0), fields.get("end")
    start = 0 if start is None else start
    if not isinstance(name, str) or type(start) is not int or not (end is None or type(end) is int) or start < 0:
        raise UpstreamError("its regions are not understood")
    return Region(name, start, end)
