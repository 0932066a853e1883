"""Decisions on access, and the protocol of authorizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from htsget_flask.auth.caller import Caller
from htsget_flask.fields import EVERYTHING, FieldSelection, select_fields
from htsget_flask.regions import Region, RegionSet

ENDPOINTS = ("reads", "variants", "files", "sequence")
# The endpoints that filter records for limited grants.
_FILTERED = ("reads", "variants")


Regions = Sequence[Region] | None
"""The requested regions of a thing; None for all of it."""


class Grant(NamedTuple):
    """What a caller has access to: the records in some regions (None: everywhere), and what of each record."""

    regions: RegionSet | None = None
    selection: FieldSelection = EVERYTHING

    @property
    def is_limited(self) -> bool:
        """Whether it is less than the whole thing."""
        return self.regions is not None or not self.selection.is_everything


WHOLE = Grant()


def granted_selection(
    fields: Sequence[str] | None, tags: Sequence[str] | None, notags: Sequence[str] | None
) -> FieldSelection:
    """The selection that a rule or policy service grants; None is a limit that it does not state.

    A grant of fields that says nothing about tags has none: they may repeat what the other fields hold.
    """
    if tags is None and notags is None and fields is not None:
        tags = ()
    return select_fields(fields, tags, notags or ())


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller has access, and why; `grant` limits the access."""

    allowed: bool
    reason: str
    grant: Grant = WHOLE


class Authorizer(Protocol):
    """Decides on access; one answer with a list decides on at most `listing_limit` of its entries."""

    listing_limit: int

    def opens(self, caller: Caller, endpoint: str) -> bool | None:
        """Whether the caller has unlimited access to anything at an endpoint; None if unknown."""

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
    """The authorizer's decision; a limited grant gives no access to plain files or to other regions.

    Only reads have fields and tags: a grant that is limited to some of them gives no access to variants. With
    `empty_outside` other regions are allowed, and the answer has no records of them.

    Raises:
        ServiceUnavailable: when the authorizer cannot decide now.
    """
    decision = authorizer.decide(caller, endpoint, resource_id, regions)
    granted = decision.grant
    if not decision.allowed or not granted.is_limited:
        return decision
    if endpoint not in _FILTERED:
        limits = "fields or tags" if granted.regions is None else "regions"
        return Decision(False, f"{decision.reason}, which is limited to {limits}: only records can be filtered")
    if endpoint != "reads" and not granted.selection.is_everything:
        return Decision(False, f"{decision.reason}, which is limited to fields or tags: only reads have them")
    if granted.regions is not None and not all(map(granted.regions.opens, regions or ())):
        reason = f"{decision.reason}, which is limited to other regions"
        if empty_outside:
            return Decision(True, f"{reason}: without records of these", granted)
        return Decision(False, reason, granted)
    return decision
