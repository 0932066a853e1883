"""Signed JSON Web Tokens of one issuer, verified (RFC 7515, RFC 7519, RFC 8725)."""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import jwt

from htsget_flask.auth.keys import Keys

LONGEST = 16 << 10


class InvalidTokenError(Exception):
    """A token is not to be trusted; the text says why, and holds nothing of it."""


class Signature(NamedTuple):
    """A signature that was verified with a key of an issuer."""

    keys: Keys
    fingerprint: bytes

    def is_trusted(self) -> bool:
        """Whether the issuer's key set still has the key.

        Raises:
            ServiceUnavailable: when the issuer's keys cannot be had.
        """
        return self.keys.trusts(self.fingerprint)


class VerifiedToken(NamedTuple):
    """A token's header and claims, and the signature that vouches for them."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signature: Signature


def is_number(value: object) -> TypeGuard[float]:
    """Whether a claim is a number of JSON (RFC 7519 section 2, NumericDate): no text, no truth value, finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def header_of(token: str) -> dict[str, Any]:
    """What a token's header says, unverified."""
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidTokenError("the token is malformed") from None


def unverified_issuer(token: str) -> str | None:
    """Whom a token says that it is of; None for a text that is no signed token."""
    if len(token) > LONGEST or token.count(".") != 2:
        return None
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def verify(
    token: str,
    keys: Keys,
    *,
    issuer: str,
    audience: Sequence[str] | None,
    leeway: float,
    require: Sequence[str],
    types: Container[str],
) -> VerifiedToken:
    """A token that this issuer signed, for one of the audience where there is one, and that is valid now.

    `types` are the media types that the header may state as `typ`, in lower case and without `application/`
    (RFC 7515 section 4.1.9); a token without `typ` is accepted.

    Raises:
        InvalidTokenError: when it is not to be trusted.
        ServiceUnavailable: when the issuer's keys cannot be had.
    """
    header = header_of(token)
    algorithm, key_id = _algorithm_and_key(header)
    if "typ" in header and _media_type(header["typ"]) not in types:
        raise InvalidTokenError("the token is of another type")
    key = keys.find(key_id, algorithm)
    if key is None:
        raise InvalidTokenError("the token is signed with an algorithm or a key that is not its issuer's")
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.jwk,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=leeway,
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


def _algorithm_and_key(header: Mapping[str, Any]) -> tuple[str, str | None]:
    algorithm, key_id = header.get("alg"), header.get("kid")
    # No extension is known here (RFC 7515 4.1.11).
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None) or "crit" in header:
        raise InvalidTokenError("the token's header is not understood")
    return algorithm, key_id


def _media_type(stated: object) -> str | None:
    return stated.lower().removeprefix("application/") if isinstance(stated, str) else None
