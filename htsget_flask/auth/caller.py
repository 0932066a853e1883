"""The caller: the bearer of a verified token, with its claims and visas."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from htsget_flask.auth.jws import Signature


class Visa(NamedTuple):
    """A verified GA4GH visa that grants access; `issuer` signed it, `source` made the grant.

    `expires` is in seconds since the epoch.
    """

    value: str
    expires: float
    issuer: str
    source: str
    signature: Signature


@dataclass(frozen=True)
class Caller:
    """The bearer of a verified token; `key` identifies the token, and does not reveal it."""

    claims: Mapping[str, Any]
    visas: Sequence[Visa] = ()
    key: bytes = b""
    # None for an introspected token.
    signature: Signature | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether there is no token."""
        return not self.key

    @cached_property
    def subject(self) -> str | None:
        """The claim `sub` if it is a text."""
        return _text(self.claims.get("sub"))

    @cached_property
    def issuer(self) -> str | None:
        """The claim `iss` if it is a text."""
        return _text(self.claims.get("iss"))

    def current_visas(self, now: float) -> Iterator[Visa]:
        """The visas that have not expired, and whose issuers' key sets still have the keys that signed them.

        Raises:
            ServiceUnavailable: when the signing keys of a visa's issuer are unavailable.
        """
        return (visa for visa in self.visas if visa.expires > now and visa.signature.is_trusted())

    @cached_property
    def scopes(self) -> frozenset[str]:
        """The scopes of the token (RFC 8693 section 4.2), or its claim `scp`, a list that some issuers use."""
        scope = self.claims.get("scope", self.claims.get("scp"))
        names = scope.split(" ") if isinstance(scope, str) else scope if isinstance(scope, list) else []
        return frozenset(one for one in names if isinstance(one, str) and one)


ANONYMOUS = Caller({})


def _text(value: object) -> str | None:
    """The text without lone surrogates, which cannot be encoded."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
