"""The visas of GA4GH passports that grant access to data (GA4GH Passport 1.2, AAI OIDC profile 1.2)."""

import logging
import time
from collections.abc import Callable, Mapping

from htsget_flask.auth.caller import Visa
from htsget_flask.auth.jws import MAX_TOKEN_LENGTH, InvalidTokenError, header_of, is_number, unverified_issuer, verify
from htsget_flask.auth.keys import Keys
from htsget_flask.config import SignerConfig, is_url
from htsget_flask.errors import printable

log = logging.getLogger(__name__)

PASSPORT = "ga4gh_passport_v1"
_VISA = "ga4gh_visa_v1"
_GRANT = "ControlledAccessGrants"
# `self` and `peer` are not among them: bearers and their peers cannot grant access.
_GRANTORS = ("dac", "so", "system")
_MAX_VISAS = 200
# Passport 1.2, visa format. `at+jwt` is the type of visa access tokens, which are not accepted.
_TYPES = frozenset({"jwt", "vnd.ga4gh.visa+jwt"})


class Passports:
    """Reads passports; visas of issuers that are not trusted, and visas of other types, are ignored.

    Visas are never combined to one permission, so that linked identities play no part.
    """

    def __init__(
        self, issuers: Mapping[str, tuple[SignerConfig, Keys]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._issuers = issuers
        self._clock = clock

    def read(self, passport: object) -> list[Visa]:
        """The visas of the claim `ga4gh_passport_v1` that grant access to something.

        Raises:
            ServiceUnavailable: when the signing keys of a trusted issuer are unavailable.
        """
        tokens = passport if isinstance(passport, list) else []
        return [visa for token in tokens[:_MAX_VISAS] if (visa := self._read(token)) is not None]

    def _read(self, token: object) -> Visa | None:
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:
            return None
        name = unverified_issuer(token) or ""
        if name not in self._issuers:
            return None
        try:
            return self._verify(token, *self._issuers[name])
        except InvalidTokenError as error:
            log.warning("a visa of %s is ignored: %s", name, printable(str(error)))
            return None

    def _verify(self, token: str, issuer: SignerConfig, keys: Keys) -> Visa | None:
        jku = header_of(token).get("jku")
        if not isinstance(jku, str) or (is_url(issuer.jwks) and jku != issuer.jwks):
            raise InvalidTokenError("its jku is not the configured one")
        verified = verify(token, issuer, keys, audience=None, require=("iss", "sub", "iat", "exp"), types=_TYPES)
        claims = verified.claims
        if "openid" in str(claims.get("scope", "")).split(" "):
            raise InvalidTokenError("it is an access token")
        # Visas have no aud, and a token for another audience must be refused (RFC 7519 section 4.1.3).
        if "aud" in claims:
            raise InvalidTokenError("it has an audience")
        visa = claims.get(_VISA)
        if not isinstance(visa, dict) or visa.get("type") != _GRANT:
            return None
        if visa.get("conditions"):
            raise InvalidTokenError("its conditions are not supported")
        if visa.get("by") not in _GRANTORS:
            raise InvalidTokenError(f"its grantor (by) is not one of {', '.join(_GRANTORS)}")
        value, source, asserted = visa.get("value"), visa.get("source"), visa.get("asserted")
        if not isinstance(value, str) or not isinstance(source, str) or not value or not source:
            raise InvalidTokenError("it has no value or no source")
        if not is_number(asserted) or asserted > self._clock() + issuer.leeway:
            raise InvalidTokenError("it was not asserted yet")
        # Uses of a visa check its key again: when the issuer removes the key, the visa ends and the token stays valid.
        return Visa(value, float(claims["exp"]), issuer.issuer, source, verified.signature)
