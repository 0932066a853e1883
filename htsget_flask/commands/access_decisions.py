"""What `htsget-flask check --as` tells: who a token is of, and what is decided on what it asks for."""

from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from typing import NamedTuple

from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import ENDPOINTS, Decision, decide
from htsget_flask.auth.factory import make_authenticator, make_authorizer
from htsget_flask.config import AuthConfig
from htsget_flask.regions import Region, parse_region


class EndpointDecision(NamedTuple):
    """The decision for one endpoint."""

    endpoint: str
    decision: Decision


def who(config: AuthConfig, token: str) -> Caller:
    """Whose token it is; an empty one is nobody's.

    Raises:
        InvalidAuthentication: for one that is not to be trusted.
        ServiceUnavailable: when that cannot be found out now.
    """
    return make_authenticator(config).authenticate(f"Bearer {token}" if token else None)


def explain(config: AuthConfig, caller: Caller, resource_id: str, region: Region | None) -> Iterator[EndpointDecision]:
    """What is decided for each endpoint, as for a request.

    Raises:
        ServiceUnavailable: when that cannot be found out now.
    """
    authorizer = make_authorizer(config)
    regions = None if region is None else [region]
    for endpoint in ENDPOINTS:
        decision = decide(authorizer, caller, endpoint, resource_id, regions, empty_outside=config.outside == "empty")
        yield EndpointDecision(endpoint, decision)


def understood(
    config: AuthConfig, caller: Caller, resource_id: str, spelled: str, names_of: Callable[[str], Container[str]]
) -> Region:
    """The region that a text is; one that a grant or the files of `resource_id`, by `names_of` it, know is a name.

    Raises:
        ValueError: when it is none.
        ServiceUnavailable: when it cannot be found out now what is granted.
    """
    region = None
    with suppress(ValueError):
        region = parse_region(spelled)
    if region == Region(spelled):
        return region
    # Names may end as positions do: HLA-A*01:01:01:01.
    decisions = (explained.decision for explained in explain(config, caller, resource_id, None))
    granted = {one.reference_name for decision in decisions for one in decision.regions or ()}
    if spelled in granted or spelled in names_of(resource_id):
        return Region(spelled)
    return parse_region(spelled) if region is None else region
