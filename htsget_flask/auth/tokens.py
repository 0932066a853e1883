"""Bearer tokens (RFC 6750): from the Authorization header to who asks."""

import base64
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode

from htsget_flask.auth.caller import ANONYMOUS, Caller
from htsget_flask.auth.http_client import JsonClient, RefusedError, UpstreamError
from htsget_flask.auth.jws import (
    LONGEST,
    InvalidTokenError,
    Signature,
    VerifiedToken,
    is_number,
    unverified_issuer,
    verify,
)
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.visas import PASSPORT, Passports
from htsget_flask.cache import ExpiringCache, bytes_of
from htsget_flask.errors import InvalidAuthentication, ServiceUnavailable

log = logging.getLogger(__name__)

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE | re.ASCII)
_MAX_KEPT = 10_000
# In seconds. Visas must not be requested from brokers more often (AAI OIDC profile, access token polling).
_LONGEST_KEPT = 3600.0
# What its issuer refused is not asked about again, in seconds; who gets a token may be quicker than who tells of it.
_REFUSED_KEPT = 5.0

_ACCESS_TOKENS = frozenset({"jwt", "at+jwt"})
# GA4GH's AAI OIDC profile 1.2: a passport names its type; like other tokens it needs an audience here.
_PASSPORTS = frozenset({"vnd.ga4gh.passport+jwt"})
# Claims that access tokens never have: hashes of OpenID Connect Core 3.1.3.6 and 3.3.2.11, RFC 8417 section 2.2,
# GA4GH's AAI OIDC profile 1.2.
_FOREIGN_CLAIMS = {
    "at_hash": "an ID token",
    "c_hash": "an ID token",
    "events": "a security event",
    "ga4gh_visa_v1": "a visa",
}


@dataclass(frozen=True, slots=True)
class Issuer:
    """One whose tokens are believed; `userinfo` is where it tells the visas that are not in its tokens."""

    issuer: str
    audience: Sequence[str]
    keys: Keys
    leeway: float
    userinfo: str | None


@dataclass(frozen=True, slots=True)
class Introspection:
    """Where opaque tokens are asked about (RFC 7662); answers are kept for `kept` seconds."""

    url: str
    client_id: str
    client_secret: str
    audience: Sequence[str] | None
    kept: float


class _KnownCaller(NamedTuple):
    """The bearer of a token; `signature` is None for a token that was introspected."""

    caller: Caller
    signature: Signature | None


class Authenticator:
    """Verifies tokens; each verified one is kept, by its hash, until it expires, a signed one for at most an hour.

    A kept token counts only while its issuer's key set has the key that it was signed with.
    """

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        *,
        introspection: Introspection | None = None,
        passports: Passports | None = None,
        client: JsonClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = issuers
        self._introspection = introspection
        self._passports = passports
        self._client = client
        self._clock = clock
        self._kept: ExpiringCache[bytes, _KnownCaller] = ExpiringCache(_MAX_KEPT, clock)
        # By itself: bad tokens, which everybody can make, push no good ones out.
        self._refused: ExpiringCache[bytes, str] = ExpiringCache(_MAX_KEPT, clock)

    def authenticate(self, authorization: str | None) -> Caller:
        """Who asks, by the Authorization header; the anonymous caller without one.

        Raises:
            InvalidAuthentication: for a token that is not to be trusted.
            ServiceUnavailable: when somebody who has to be asked about it does not answer.
        """
        if authorization is None:
            return ANONYMOUS
        found = _BEARER.fullmatch(authorization)
        if found is None:
            raise InvalidAuthentication("the Authorization header holds no bearer token")
        token = found[1]
        key = hashlib.sha256(token.encode()).digest()
        kept = self._kept.get(key)
        if kept is not None and (kept.signature is None or kept.signature.is_trusted()):
            return kept.caller
        refused = self._refused.get(key)
        if refused is not None:
            raise InvalidAuthentication(refused)
        try:
            known, until = self._verified(token, key)
        except InvalidTokenError as error:
            raise InvalidAuthentication(str(error)) from None
        except UpstreamError as error:
            log.error("%s", error)
            raise ServiceUnavailable("somebody who has to be asked about the token does not answer") from None
        size = bytes_of((known.caller.claims, known.caller.visas))
        self._kept.keep(key, known, until, size=size)
        return known.caller

    def _verified(self, token: str, key: bytes) -> tuple[_KnownCaller, float]:
        """The bearer of a token, and until when that may be kept."""
        if len(token) > LONGEST:
            raise InvalidTokenError("the token is too long")
        issuer = self._issuers.get(unverified_issuer(token) or "")
        signature = None
        if issuer is not None:
            claims, signature = self._signed(token, issuer)
            until = min(float(claims["exp"]), self._clock() + _LONGEST_KEPT)
        elif self._introspection is not None:
            with self._remembering_refusals(key):
                claims, until = self._introspected(token, self._introspection)
        else:
            raise InvalidTokenError("the token is of no issuer that is trusted here")
        if self._passports is None:
            return _KnownCaller(Caller(claims, key=key), signature), until
        passport = claims.get(PASSPORT)
        if passport is None and issuer is not None and issuer.userinfo is not None:
            with self._remembering_refusals(key):
                passport = self._userinfo(token, issuer.userinfo, claims["sub"]).get(PASSPORT)
        return _KnownCaller(Caller(claims, self._passports.read(passport), key), signature), until

    def _signed(self, token: str, issuer: Issuer) -> tuple[Mapping[str, Any], Signature]:
        """The claims of an access token, or where passports are read also of a passport."""
        verified = verify(
            token,
            issuer.keys,
            issuer=issuer.issuer,
            audience=issuer.audience,
            leeway=issuer.leeway,
            require=("exp", "iss", "aud", "sub"),
            types=_ACCESS_TOKENS if self._passports is None else _ACCESS_TOKENS | _PASSPORTS,
        )
        foreign = _foreign(verified)
        if foreign is not None:
            raise InvalidTokenError(f"the token is {foreign}, not an access token")
        return verified.claims, verified.signature

    @contextmanager
    def _remembering_refusals(self, key: bytes) -> Iterator[None]:
        try:
            yield
        except InvalidTokenError as error:
            self._refused.keep(key, str(error), self._clock() + _REFUSED_KEPT)
            raise

    def _introspected(self, token: str, service: Introspection) -> tuple[Mapping[str, Any], float]:
        """What the issuer says of a token, and until when that may be kept."""
        names = (quote_plus(service.client_id), quote_plus(service.client_secret))
        credentials = base64.b64encode(":".join(names).encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        try:
            claims = self._client.post(service.url, body, headers)
        except RefusedError as error:
            # It is this server that was refused, not the token.
            raise UpstreamError(str(error)) from None
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise InvalidTokenError("the token is not active")
        now = self._clock()
        times = {name: claims[name] for name in ("exp", "nbf") if claims.get(name) is not None}
        if not all(map(is_number, times.values())):
            raise InvalidTokenError("the token's times are not understood")
        if times.get("exp", now + 1) <= now or times.get("nbf", now) > now:
            raise InvalidTokenError("the token is not valid now")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if service.audience is not None and not any(one in service.audience for one in named):
            raise InvalidTokenError("the token is for another audience")
        return claims, min(times.get("exp", now + service.kept), now + service.kept)

    def _userinfo(self, token: str, url: str, subject: str) -> Mapping[str, Any]:
        """What the issuer tells of its token's bearer (OpenID Connect Core 5.3)."""
        try:
            told = self._client.get(url, {"Authorization": f"Bearer {token}"})
        except RefusedError as error:
            log.warning("a token was refused: %s", error)
            raise InvalidTokenError("the token's issuer refuses it") from None
        if not isinstance(told, dict) or told.get("sub") != subject:
            raise InvalidTokenError("the token's issuer tells of somebody else")
        return told


def _foreign(verified: VerifiedToken) -> str | None:
    """What a token is that can be seen not to be an access token; None where nothing shows that."""
    claims = verified.claims
    for name, kind in _FOREIGN_CLAIMS.items():
        if name in claims:
            return kind
    # Keycloak states the kind of its tokens in a claim; earlier versions put a nonce into access tokens too.
    stated = claims.get("typ")
    is_access_token = stated == "Bearer" or str(verified.header.get("typ")).lower().endswith("at+jwt")
    return "an ID token" if stated == "ID" or ("nonce" in claims and not is_access_token) else None
