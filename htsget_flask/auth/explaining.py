"""What `htsget-flask check --as` tells: who a token is of, and what is decided on what it asks for."""

from collections.abc import Iterator
from typing import NamedTuple

from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import ENDPOINTS, Decision, decide
from htsget_flask.auth.making import make_authenticator, make_authorizer
from htsget_flask.config import AuthConfig
from htsget_flask.regions import Region


class Explained(NamedTuple):
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


def explain(config: AuthConfig, caller: Caller, resource_id: str, region: Region | None) -> Iterator[Explained]:
    """What is decided for each endpoint, as for a request.

    Raises:
        ServiceUnavailable: when that cannot be found out now.
    """
    authorizer = make_authorizer(config)
    regions = None if region is None else [region]
    for endpoint in ENDPOINTS:
        yield Explained(endpoint, decide(authorizer, caller, endpoint, resource_id, regions))
