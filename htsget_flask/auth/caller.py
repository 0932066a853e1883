"""Who asks: what a verified token says of its bearer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from htsget_flask.auth.jws import Signature


class Visa(NamedTuple):
    """A verified GA4GH visa that opens data; `issuer` signed it, `source` made the grant.

    `expires` is in seconds since the epoch.
    """

    value: str
    expires: float
    issuer: str
    source: str
    signature: Signature


@dataclass(frozen=True)
class Caller:
    """The bearer of a verified token; `key` tells tokens apart, and is of no use to get one."""

    claims: Mapping[str, Any]
    visas: Sequence[Visa] = ()
    key: bytes = b""

    @property
    def is_anonymous(self) -> bool:
        """Whether no token was given."""
        return not self.key

    @cached_property
    def subject(self) -> str | None:
        """The claim `sub`, where it is a text."""
        return _text(self.claims.get("sub"))

    @cached_property
    def issuer(self) -> str | None:
        """The claim `iss`, where it is a text."""
        return _text(self.claims.get("iss"))

    def current_visas(self, now: float) -> Iterator[Visa]:
        """The visas that have not expired, and whose issuers' key sets still have the keys that signed them.

        Raises:
            ServiceUnavailable: when the keys of a visa's issuer cannot be had.
        """
        return (visa for visa in self.visas if visa.expires > now and visa.signature.is_trusted())

    @cached_property
    def scopes(self) -> frozenset[str]:
        """The scopes of the token (RFC 8693 section 4.2, and `scp` as a list, which some issuers write)."""
        scope = self.claims.get("scope", self.claims.get("scp"))
        listed = scope.split(" ") if isinstance(scope, str) else scope if isinstance(scope, list) else []
        return frozenset(one for one in listed if isinstance(one, str) and one)


ANONYMOUS = Caller({})


def _text(value: object) -> str | None:
    """The text, in which lone surrogates, which cannot be written, are replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
