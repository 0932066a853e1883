"""Decisions over access, and who makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from htsget_flask.auth.caller import Caller
from htsget_flask.regions import Region

ENDPOINTS = ("reads", "variants", "files", "sequence")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller may have a thing, and why; `regions`: nothing but these, None: all of it."""

    allowed: bool
    reason: str
    regions: tuple[Region, ...] | None = None


class Authorizer(Protocol):
    """Who decides over access."""

    def decide(
        self, caller: Caller, endpoint: str, resource_id: str, regions: Sequence[Region] | None = None
    ) -> Decision:
        """Whether the caller may have the regions (None: all) of what has this id at an endpoint.

        The id is that of a dataset or sequence, or, of plain files, the storage's name, `/` and the key.

        Raises:
            ServiceUnavailable: when that cannot be found out now.
        """
