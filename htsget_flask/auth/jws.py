"""Verifies signed JSON Web Tokens of one issuer (RFC 7515, RFC 7519, RFC 8725)."""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import jwt

from htsget_flask.auth.keys import Keys
from htsget_flask.config import SignerConfig

MAX_TOKEN_LENGTH = 16 << 10


class InvalidTokenError(Exception):
    """A token is not valid; the text says why, and holds nothing of the token."""


class Signature(NamedTuple):
    """A signature that was verified with a key of an issuer."""

    keys: Keys
    fingerprint: bytes

    def is_trusted(self) -> bool:
        """Whether the issuer's key set still has the key.

        Raises:
            ServiceUnavailable: when the issuer's signing keys are unavailable.
        """
        return self.keys.trusts(self.fingerprint)


class VerifiedToken(NamedTuple):
    """The header and the claims of a token, with their signature."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signature: Signature


def is_number(value: object) -> TypeGuard[float]:
    """Whether a claim is a finite JSON number (RFC 7519 section 2, NumericDate), not a text or a boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def header_of(token: str) -> dict[str, Any]:
    """The header of a token, unverified."""
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidTokenError("the token is malformed") from None


def unverified_issuer(token: str) -> str | None:
    """The claim `iss` of a token, unverified; None if the text is not a signed token."""
    if len(token) > MAX_TOKEN_LENGTH or token.count(".") != 2:
        return None
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def verify(
    token: str,
    issuer: SignerConfig,
    keys: Keys,
    *,
    audience: Sequence[str] | None,
    require: Sequence[str],
    types: Container[str],
) -> VerifiedToken:
    """Verify that this issuer signed the token, that it is for one of the `audience`, if any, and is valid now.

    `types` are the accepted media types of the header's `typ`, in lower case and without `application/` (RFC 7515
    section 4.1.9); a token without `typ` is accepted, one with an extension (`crit`, 4.1.11) is not.

    Raises:
        InvalidTokenError: when the token is not valid.
        ServiceUnavailable: when the issuer's signing keys are unavailable.
    """
    header = header_of(token)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None) or "crit" in header:
        raise InvalidTokenError("the token's header is not supported")
    if "typ" in header and str(header["typ"]).lower().removeprefix("application/") not in types:
        raise InvalidTokenError("the token has another type")
    key = keys.find(key_id, algorithm)
    if key is None:
        raise InvalidTokenError("the token's algorithm or key is not one of its issuer's")
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.jwk,
            algorithms=[algorithm],
            issuer=issuer.issuer,
            audience=audience,
            leeway=issuer.leeway,
            options={"require": list(require), "verify_aud": audience is not None},
        )
    except jwt.ExpiredSignatureError:
        raise InvalidTokenError("the token has expired") from None
    except jwt.ImmatureSignatureError:
        raise InvalidTokenError("the token is not valid yet") from None
    except jwt.InvalidAudienceError:
        raise InvalidTokenError("the token is for another audience") from None
    except jwt.MissingRequiredClaimError as error:
        raise InvalidTokenError(f"the token has no {error.claim}") from None
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
        raise InvalidTokenError("the token's signature or claims are not valid") from None
    if not all(is_number(claims[name]) for name in ("exp", "nbf", "iat") if name in claims):
        raise InvalidTokenError("the token's times are not numbers")
    return VerifiedToken(header, claims, Signature(keys, key.fingerprint))
