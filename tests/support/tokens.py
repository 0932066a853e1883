"""Clocks and keys for tests of tokens."""

import time
from collections.abc import Callable

import pytest

from htsget_flask.auth.keys import Keys
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.config import IssuerConfig, SignerConfig
from htsget_flask.errors import InvalidAuthentication
from tests.support.issuer import ALGORITHMS, AUDIENCE, Issuer

VISA_VALUE = "https://data.example.org/datasets/1"


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def keys_of(issuer: Issuer, clock: Callable[[], float] = time.monotonic, *, interval: float = 60) -> Keys:
    """The keys of an issuer, without HTTP."""
    return Keys(lambda: issuer.jwks, ALGORITHMS, issuer=issuer.url, interval=interval, clock=clock)


def token_issuer(
    issuer: Issuer, keys: Keys, *, leeway: float = 0, userinfo: str | None = None
) -> tuple[IssuerConfig, Keys]:
    """An issuer of tokens that an authenticator trusts."""
    config = IssuerConfig(
        issuer=issuer.url, jwks=issuer.jwks_url, audience=[AUDIENCE], leeway=leeway, userinfo=userinfo
    )
    return config, keys


def visa_issuer(issuer: Issuer, keys: Keys) -> tuple[SignerConfig, Keys]:
    """A trusted issuer of the visas in passports."""
    return SignerConfig(issuer=issuer.url, jwks=issuer.jwks_url, leeway=0), keys


def refusal(authenticator: Authenticator, token: str) -> str:
    """The message with which a token is refused."""
    with pytest.raises(InvalidAuthentication) as caught:
        authenticator.authenticate(f"Bearer {token}")
    assert token[:40] not in caught.value.message
    return caught.value.message
