"""Bearer tokens (RFC 6750): from the Authorization header to the caller."""

import base64
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus, urlencode

from htsget_flask.auth.caller import ANONYMOUS, Caller
from htsget_flask.auth.http_client import JsonClient, RefusedError, UpstreamError
from htsget_flask.auth.jws import MAX_TOKEN_LENGTH, InvalidTokenError, Signature, is_number, unverified_issuer, verify
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.visas import PASSPORT, Passports
from htsget_flask.cache import ExpiringCache, bytes_of
from htsget_flask.config import IntrospectionConfig, IssuerConfig
from htsget_flask.errors import InvalidAuthentication, ServiceUnavailable

log = logging.getLogger(__name__)

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE | re.ASCII)
_MAX_TOKENS = 10_000
# How long a caller is cached, in s. Visas must not be requested from brokers more often (AAI OIDC profile, access token
# polling).
_MAX_CACHE_SECONDS = 3600.0
# How long a refusal is cached, in s: short, as a client may use a new token before its issuer knows it everywhere.
_REFUSAL_SECONDS = 5.0

_ACCESS_TOKENS = frozenset({"jwt", "at+jwt"})
# GA4GH's AAI OIDC profile 1.2; a passport needs an audience here, as any token does.
_PASSPORTS = frozenset({"vnd.ga4gh.passport+jwt"})
# Claims that access tokens never have: hashes of OpenID Connect Core 3.1.3.6 and 3.3.2.11, RFC 8417 section 2.2,
# GA4GH's AAI OIDC profile 1.2.
_FOREIGN_CLAIMS = {
    "at_hash": "an ID token",
    "c_hash": "an ID token",
    "events": "a security event",
    "ga4gh_visa_v1": "a visa",
}


class Authenticator:
    """Verifies tokens, and caches their callers by the tokens' hashes until they expire, for at most an hour.

    A cached caller counts only while the issuer's key set has the key that signed the token.
    """

    def __init__(
        self,
        issuers: Mapping[str, tuple[IssuerConfig, Keys]],
        *,
        introspection: IntrospectionConfig | None = None,
        passports: Passports | None = None,
        client: JsonClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = issuers
        self._introspection = introspection
        self._passports = passports
        self._client = client
        self._clock = clock
        self._callers: ExpiringCache[bytes, Caller] = ExpiringCache(_MAX_TOKENS, clock)
        # Separate: bad tokens, which anybody can make, must not displace good ones.
        self._refusals: ExpiringCache[bytes, str] = ExpiringCache(_MAX_TOKENS, clock)

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller with this Authorization header; the anonymous caller without one.

        Raises:
            InvalidAuthentication: when the token is not valid.
            ServiceUnavailable: when a service that is needed to verify it is unavailable.
        """
        if authorization is None:
            return ANONYMOUS
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise InvalidAuthentication("the Authorization header holds no bearer token")
        token = match[1]
        key = hashlib.sha256(token.encode()).digest()
        caller = self._callers.get(key)
        if caller is not None and (caller.signature is None or caller.signature.is_trusted()):
            return caller
        refusal = self._refusals.get(key)
        if refusal is not None:
            raise InvalidAuthentication(refusal)
        try:
            caller, expires = self._verify(token, key)
        except InvalidTokenError as error:
            raise InvalidAuthentication(str(error)) from None
        except UpstreamError as error:
            log.error("%s", error)
            raise ServiceUnavailable("a service that verifies tokens is unavailable") from None
        self._callers.keep(key, caller, expires, size=bytes_of((caller.claims, caller.visas)))
        return caller

    def _verify(self, token: str, key: bytes) -> tuple[Caller, float]:
        """The bearer of a token, and until when it may be cached."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise InvalidTokenError("the token is too long")
        issuer, keys = self._issuers.get(unverified_issuer(token) or "", (None, None))
        signature = None
        if issuer is not None and keys is not None:
            claims, signature = self._verify_signed(token, issuer, keys)
            expires = min(float(claims["exp"]), self._clock() + _MAX_CACHE_SECONDS)
        elif self._introspection is not None:
            with self._caching_refusals(key):
                claims, expires = self._introspect(token, self._introspection)
        else:
            raise InvalidTokenError("the token's issuer is not trusted")
        if self._passports is None:
            return Caller(claims, (), key, signature), expires
        passport = claims.get(PASSPORT)
        if passport is None and issuer is not None and issuer.userinfo is not None:
            with self._caching_refusals(key):
                passport = self._fetch_userinfo(token, issuer.userinfo, claims["sub"]).get(PASSPORT)
        return Caller(claims, self._passports.read(passport), key, signature), expires

    def _verify_signed(self, token: str, issuer: IssuerConfig, keys: Keys) -> tuple[Mapping[str, Any], Signature]:
        """The claims of an access token, or of a passport if passports count."""
        types = _ACCESS_TOKENS if self._passports is None else _ACCESS_TOKENS | _PASSPORTS
        required = ("exp", "iss", "aud", "sub")
        verified = verify(token, issuer, keys, audience=issuer.audience, require=required, types=types)
        kind = _foreign_kind(verified.header, verified.claims)
        if kind is not None:
            raise InvalidTokenError(f"the token is {kind}, not an access token")
        return verified.claims, verified.signature

    @contextmanager
    def _caching_refusals(self, key: bytes) -> Iterator[None]:
        try:
            yield
        except InvalidTokenError as error:
            self._refusals.keep(key, str(error), self._clock() + _REFUSAL_SECONDS)
            raise

    def _introspect(self, token: str, service: IntrospectionConfig) -> tuple[Mapping[str, Any], float]:
        """The claims of an opaque token, and until when they may be cached."""
        names = (quote_plus(service.client_id), quote_plus(service.client_secret.get_secret_value()))
        credentials = base64.b64encode(":".join(names).encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        try:
            claims = self._client.fetch(service.url, headers, body)
        except RefusedError as error:
            # The service refuses this server, not the token.
            raise UpstreamError(str(error)) from None
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise InvalidTokenError("the token is not active")
        now = self._clock()
        times = {name: claims[name] for name in ("exp", "nbf") if claims.get(name) is not None}
        if not all(map(is_number, times.values())):
            raise InvalidTokenError("the token's times are not numbers")
        if times.get("exp", now + 1) <= now or times.get("nbf", now) > now:
            raise InvalidTokenError("the token has expired, or is not valid yet")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if service.audience is not None and not any(one in service.audience for one in audiences):
            raise InvalidTokenError("the token is for another audience")
        return claims, min(times.get("exp", now + service.cache), now + service.cache)

    def _fetch_userinfo(self, token: str, url: str, subject: str) -> Mapping[str, Any]:
        """The issuer's claims about the bearer of its token (OpenID Connect Core 5.3)."""
        try:
            claims = self._client.fetch(url, {"Authorization": f"Bearer {token}"})
        except RefusedError as error:
            log.warning("a token was refused: %s", error)
            raise InvalidTokenError("the token's issuer refuses it") from None
        if not isinstance(claims, dict) or claims.get("sub") != subject:
            raise InvalidTokenError("the issuer's userinfo is for another subject")
        return claims


def _foreign_kind(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str | None:
    """The kind of a token that is recognizably not an access token, or None."""
    if foreign := _FOREIGN_CLAIMS.keys() & claims.keys():
        return _FOREIGN_CLAIMS[min(foreign)]
    # Keycloak has the kind of its tokens in a claim; earlier versions put a nonce into access tokens too.
    keycloak_kind = claims.get("typ")
    is_access_token = keycloak_kind == "Bearer" or str(header.get("typ")).lower().endswith("at+jwt")
    return "an ID token" if keycloak_kind == "ID" or ("nonce" in claims and not is_access_token) else None
