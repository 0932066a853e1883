"""What one request may do: views ask it for each thing that they answer with."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from htsget_flask.auth.audit import Audit, Origin
from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import Authorizer, Decision, decide
from htsget_flask.auth.signed_urls import UrlSigner, names_signature
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.errors import InvalidAuthentication, NotFound, PermissionDenied, ServiceError
from htsget_flask.regions import Region, RegionSet

# Where the access of a request stands in its WSGI environment.
ACCESS = "htsget_flask.access"

_NEEDS_BEARER = "this needs a bearer token in the Authorization header"


def access_of(environ: Mapping[str, Any]) -> "Access":
    """The access of the request with this WSGI environment."""
    access: Access = environ[ACCESS]
    return access


class Access:
    """What a request may do where there is no access control: everything."""

    is_limited = False
    # When the URLs that are signed for this request end, in seconds since the epoch.
    expires: int | None = None

    @property
    def most_listed(self) -> int | None:
        """How many entries of a list one answer may look at, to find those that it shows; None for all."""
        return None

    @property
    def was_decided(self) -> bool:
        """Whether a decision was made, which allowed something or showed what is allowed."""
        return True

    def require(self, endpoint: str, resource_id: str, regions: Sequence[Region] | None = None) -> RegionSet | None:
        """Go on only if the request may have this; the regions that it is limited to, None for no limit.

        Raises:
            InvalidAuthentication: when there is no token, and one may help.
            PermissionDenied: when the token's bearer may not have it; NotFound where that is hidden.
        """
        return None

    def allows_whole(self, endpoint: str, resource_id: str) -> bool:
        """Whether the request may have this as a whole, for what it is shown a list of."""
        return True

    def allows(self, endpoint: str, resource_id: str) -> bool:
        """Whether the request may have this, or regions of it."""
        return True

    def require_sign_in_if_nothing_is_public(self, endpoint: str, *, looked: bool = False) -> None:
        """Go on unless it is known that there is nothing at an endpoint that the request may have.

        `looked`: what may be looked at was, and nothing of it may be had.

        Raises:
            InvalidAuthentication: when it is known, and there is no token.
        """

    def require_dataset(self, endpoints: Sequence[str], resource_id: str) -> Mapping[str, RegionSet | None]:
        """At which endpoints the request may have a dataset, and the regions that it is limited to there.

        Raises:
            InvalidAuthentication: for none, and when there is no token.
            NotFound: for none.
        """
        return dict.fromkeys(endpoints)

    def record_denial(self, endpoint: str, resource_id: str, regions: Sequence[Region] | None, reason: str) -> None:
        """Put on record that what was allowed is denied after all."""

    def record_listing(self, what: str, shown: int) -> None:
        """Put on record that the request was shown so many things of a list: those that it may see."""

    def seal(self, key: str) -> str:
        """A place in a list as a text for URLs, which tells no more of it than the request may know."""
        return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")

    def unseal(self, text: str) -> str:
        """The place that was made such a text of.

        Raises:
            ValueError: when none was.
        """
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()

    def signature_query(self, *parts: str) -> str:
        """What goes behind the URL of a thing, named by these parts, that may then be had without a token."""
        return ""


class Gate:
    """Access control of an application: makes an `Access` of each request."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        links: UrlSigner,
        audit: Audit,
        *,
        hides: bool,
        empty_outside: bool = False,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._audit = audit
        self._hides = hides
        self._empty_outside = empty_outside
        self.links = links

    def admit(self, authorization: str | None, origin: Origin) -> "LimitedAccess":
        """The access of a request with a token, or without.

        Raises:
            InvalidAuthentication: for a token that is not to be trusted.
            ServiceUnavailable: when that cannot be found out now.
        """
        try:
            caller = self._authenticator.authenticate(authorization)
        except ServiceError as error:
            decision = "denied" if isinstance(error, InvalidAuthentication) else "failed"
            self._audit.write(None, origin, "token", None, None, decision=decision, reason=error.message)
            raise
        return LimitedAccess(
            caller,
            self._authorizer,
            self.links,
            self._audit,
            origin,
            hides=self._hides,
            empty_outside=self._empty_outside,
        )

    def check_link(
        self, query: str, origin: Origin, endpoint: str, resource_id: str, candidates: Sequence[Sequence[str]]
    ) -> None:
        """Go on only if the query signs one of the candidates, each the parts that name a thing.

        Raises:
            PermissionDenied: when it does not, or not any more.
        """
        allowed = any(self.links.is_signed(query, *parts) for parts in candidates)
        decision, reason = ("allowed", "signed URL") if allowed else ("denied", "no valid signature")
        if not allowed and not names_signature(query):
            reason = "not signed"
        self._audit.write(None, origin, endpoint, resource_id, None, decision=decision, reason=reason)
        if not allowed:
            raise PermissionDenied("the URL has no valid signature, or one that has expired; ask for a new one")


class LimitedAccess(Access):
    """What the bearer of a token may do, or who has none."""

    is_limited = True

    def __init__(
        self,
        caller: Caller,
        authorizer: Authorizer,
        links: UrlSigner,
        audit: Audit,
        origin: Origin,
        *,
        hides: bool,
        empty_outside: bool,
    ) -> None:
        self._caller = caller
        self._authorizer = authorizer
        self._links = links
        self._audit = audit
        self._origin = origin
        self._hides = hides
        self._empty_outside = empty_outside
        self._was_decided = False
        self.expires: int = links.expiry()

    @property
    def most_listed(self) -> int | None:
        return self._authorizer.most_listed

    @property
    def was_decided(self) -> bool:
        return self._was_decided

    def require(self, endpoint: str, resource_id: str, regions: Sequence[Region] | None = None) -> RegionSet | None:
        decision = self._decide(endpoint, resource_id, regions)
        self._record(endpoint, resource_id, regions, "allowed" if decision.allowed else "denied", decision.reason)
        if not decision.allowed:
            raise self._refusal(endpoint, resource_id, decision)
        self._was_decided = True
        return decision.regions

    def allows_whole(self, endpoint: str, resource_id: str) -> bool:
        decision = self._decide(endpoint, resource_id)
        return decision.allowed and decision.regions is None

    def allows(self, endpoint: str, resource_id: str) -> bool:
        return self._decide(endpoint, resource_id).allowed

    def require_sign_in_if_nothing_is_public(self, endpoint: str, *, looked: bool = False) -> None:
        if not self._caller.is_anonymous:
            return
        opens = self._authorizer.opens(self._caller, endpoint)
        if opens is False or (opens is None and looked):
            self._record(endpoint, None, None, "denied", "nothing is open without a token")
            raise InvalidAuthentication(_NEEDS_BEARER)

    def require_dataset(self, endpoints: Sequence[str], resource_id: str) -> Mapping[str, RegionSet | None]:
        try:
            decisions = {
                endpoint: self._authorizer.decide(self._caller, endpoint, resource_id) for endpoint in endpoints
            }
        except ServiceError as error:
            self._record("page", resource_id, None, "failed", error.message)
            raise
        allowed = {endpoint: decision.regions for endpoint, decision in decisions.items() if decision.allowed}
        reasons = "; ".join(f"{endpoint}: {decision.reason}" for endpoint, decision in decisions.items())
        self._record("page", resource_id, None, "allowed" if allowed else "denied", reasons)
        if not allowed:
            if self._caller.is_anonymous:
                raise InvalidAuthentication(_NEEDS_BEARER)
            raise NotFound(f"there is no dataset {resource_id[:200]!r}")
        self._was_decided = True
        return allowed

    def record_denial(self, endpoint: str, resource_id: str, regions: Sequence[Region] | None, reason: str) -> None:
        self._record(endpoint, resource_id, regions, "denied", reason)

    def record_listing(self, what: str, shown: int) -> None:
        self._was_decided = True
        self._record(what, None, None, "allowed", f"{shown} shown")

    def seal(self, key: str) -> str:
        return self._links.seal(key)

    def unseal(self, text: str) -> str:
        return self._links.unseal(text)

    def signature_query(self, *parts: str) -> str:
        return "?" + self._links.sign(*parts, expires=self.expires)

    def _decide(self, endpoint: str, resource_id: str, regions: Sequence[Region] | None = None) -> Decision:
        try:
            return decide(
                self._authorizer, self._caller, endpoint, resource_id, regions, empty_outside=self._empty_outside
            )
        except ServiceError as error:
            self._record(endpoint, resource_id, regions, "failed", error.message)
            raise

    def _record(
        self, endpoint: str, resource_id: str | None, regions: Sequence[Region] | None, decision: str, reason: str
    ) -> None:
        self._audit.write(self._caller, self._origin, endpoint, resource_id, regions, decision=decision, reason=reason)

    def _refusal(self, endpoint: str, resource_id: str, decision: Decision) -> ServiceError:
        if self._caller.is_anonymous:
            return InvalidAuthentication(_NEEDS_BEARER)
        if decision.regions is not None:
            return PermissionDenied("this token does not open the region that is asked for")
        if self._hides:
            return NotFound(absence(endpoint, resource_id))
        return PermissionDenied("this token does not open what is asked for")


def absence(endpoint: str, resource_id: str) -> str:
    """What is said of a thing that is not there, or that must seem so."""
    if endpoint == "files":
        return "no such file"
    if endpoint == "sequence":
        return f"there is no sequence {resource_id[:200]!r}"
    return f"there is no dataset {resource_id[:200]!r} at /{endpoint}"
