"""Decisions on access, and the protocol of authorizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from htsget_flask.auth.caller import Caller
from htsget_flask.regions import Region, RegionSet

ENDPOINTS = ("reads", "variants", "files", "sequence")
# The endpoints that filter records for grants of regions.
_FILTERED = ("reads", "variants")


Regions = Sequence[Region] | None
"""The requested regions of a thing; None for all of it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller has access, and why; `regions` limits the access, None is no limit."""

    allowed: bool
    reason: str
    regions: RegionSet | None = None


class Authorizer(Protocol):
    """Decides on access; one answer with a list decides on at most `listing_limit` of its entries."""

    listing_limit: int

    def opens(self, caller: Caller, endpoint: str) -> bool | None:
        """Whether the caller has access without a limit to regions to anything at an endpoint; None if unknown."""

    def decide(self, caller: Caller, endpoint: str, resource_id: str, regions: Regions = None) -> Decision:
        """Whether the caller has access to the regions of the thing with this id at an endpoint.

        The id is that of a dataset or sequence, or, for plain files, the storage's name, `/` and the key.

        Raises:
            ServiceUnavailable: when no decision can be made now.
        """


def decide(
    authorizer: Authorizer,
    caller: Caller,
    endpoint: str,
    resource_id: str,
    regions: Regions = None,
    *,
    empty_outside: bool = False,
) -> Decision:
    """The authorizer's decision; a grant of regions gives no access to plain files or to other regions.

    With `empty_outside` other regions are allowed, and the answer has no records of them.

    Raises:
        ServiceUnavailable: when the authorizer cannot decide now.
    """
    decision = authorizer.decide(caller, endpoint, resource_id, regions)
    if not decision.allowed or decision.regions is None:
        return decision
    if endpoint not in _FILTERED:
        return Decision(False, f"{decision.reason}, which is limited to regions: only records can be filtered")
    if not all(map(decision.regions.opens, regions or ())):
        reason = f"{decision.reason}, which is limited to other regions"
        if empty_outside:
            return Decision(True, f"{reason}: without records of these", decision.regions)
        return Decision(False, reason, decision.regions)
    return decision
