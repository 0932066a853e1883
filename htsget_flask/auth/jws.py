"""Signed JSON Web Tokens of one issuer, verified (RFC 7515, RFC 7519, RFC 8725)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from htsget_flask.auth.keys import Keys

LONGEST = 16 << 10


class InvalidTokenError(Exception):
    """A token is not to be trusted; the text says why, and holds nothing of it."""


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
    token: str, keys: Keys, *, issuer: str, audience: Sequence[str] | None, leeway: float, require: Sequence[str]
) -> Mapping[str, Any]:
    """The claims of a token that this issuer signed, for one of the audience where there is one, and that is valid now.

    Raises:
        InvalidTokenError: when it is not to be trusted.
        ServiceUnavailable: when the issuer's keys cannot be had.
    """
    header = header_of(token)
    algorithm, key_id = header.get("alg"), header.get("kid")
    # No extension is known here (RFC 7515 4.1.11).
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None) or "crit" in header:
        raise InvalidTokenError("the token's header is not understood")
    key = keys.find(key_id, algorithm)
    if key is None:
        raise InvalidTokenError("the token is signed with an algorithm or a key that is not its issuer's")
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=leeway,
            options={"require": list(require), "verify_aud": audience is not None},
        )
        # A number that is no time raises an OverflowError.
        float(claims.get("exp", 0))
        return claims
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
