"""Decisions over access, and who makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from htsget_flask.auth.caller import Caller
from htsget_flask.regions import Region, RegionSet

ENDPOINTS = ("reads", "variants", "files", "sequence")
# Where records are cut for who may see regions only.
_CUT = ("reads", "variants")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller may have a thing, and why; `regions`: nothing but these, None: all of it."""

    allowed: bool
    reason: str
    regions: RegionSet | None = None


class Authorizer(Protocol):
    """Who decides over access; one answer with a list looks at `most_listed` of its entries."""

    most_listed: int

    def opens(self, caller: Caller, endpoint: str) -> bool | None:
        """Whether there may be something at an endpoint that the caller may have as a whole; None: not known."""

    def decide(
        self, caller: Caller, endpoint: str, resource_id: str, regions: Sequence[Region] | None = None
    ) -> Decision:
        """Whether the caller may have the regions (None: all) of what has this id at an endpoint.

        The id is that of a dataset or sequence, or, of plain files, the storage's name, `/` and the key.

        Raises:
            ServiceUnavailable: when that cannot be found out now.
        """


def decide(
    authorizer: Authorizer,
    caller: Caller,
    endpoint: str,
    resource_id: str,
    regions: Sequence[Region] | None = None,
    *,
    empty_outside: bool = False,
) -> Decision:
    """The authorizer's decision; a grant of regions opens neither plain files nor what lies outside of them.

    With `empty_outside` regions that lie outside are allowed: the answer has no records of them.

    Raises:
        ServiceUnavailable: as the authorizer does.
    """
    decision = authorizer.decide(caller, endpoint, resource_id, regions)
    if not decision.allowed or decision.regions is None:
        return decision
    if endpoint not in _CUT:
        return Decision(False, f"{decision.reason}, which is limited to regions: a file cannot be cut")
    if not all(map(decision.regions.opens, regions or ())):
        reason = f"{decision.reason}, which is limited to other regions"
        if empty_outside:
            return Decision(True, f"{reason}: no records of those outside", decision.regions)
        return Decision(False, reason, decision.regions)
    return decision
