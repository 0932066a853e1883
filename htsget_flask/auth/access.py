"""The access of one request: views check it for each thing that they answer with."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from htsget_flask.auth.audit import Audit, Origin
from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import WHOLE, Authorizer, Decision, Grant, Regions, decide
from htsget_flask.auth.signed_urls import UrlSigner, has_signature
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.errors import InvalidAuthentication, NotFound, PermissionDenied, ServiceError

# The key of a request's access in its WSGI environment.
ACCESS = "htsget_flask.access"

_NEEDS_BEARER = "a bearer token in the Authorization header is required"


def access_of(environ: Mapping[str, Any]) -> "Access":
    """The access of the request with this WSGI environment."""
    access: Access = environ[ACCESS]
    return access


class Access:
    """The access of a request without access control: to everything."""

    is_limited = False
    # The most entries of a list that one answer may decide on; None for no limit.
    listing_limit: int | None = None
    # Whether a decision allowed something, or a listing was recorded.
    was_decided = True
    # When the URLs that are signed for this request expire, in seconds since the epoch.
    expires: int | None = None

    def require(self, endpoint: str, resource_id: str, regions: Regions = None) -> Grant:
        """Require access; what the caller has access to.

        Raises:
            InvalidAuthentication: without a token.
            PermissionDenied: when the token gives no access; NotFound if denials are hidden.
        """
        return WHOLE

    def allows_whole(self, endpoint: str, resource_id: str) -> bool:
        """Whether the request has unlimited access to this, for listings."""
        return True

    def allows(self, endpoint: str, resource_id: str) -> bool:
        """Whether the request has access to this, or to a part of it."""
        return True

    def require_sign_in_if_nothing_is_public(self, endpoint: str, *, listing_is_empty: bool = False) -> None:
        """Require a token if the request has access to nothing at an endpoint.

        `listing_is_empty` decides where the authorizer cannot know: no entry of the listing is public.

        Raises:
            InvalidAuthentication: without a token, if nothing is public.
        """

    def require_dataset(self, endpoints: Sequence[str], resource_id: str) -> Mapping[str, Grant]:
        """The endpoints at which the request has access to a dataset, each with the grant.

        Raises:
            InvalidAuthentication: when there are none, without a token.
            NotFound: when there are none, with a token.
        """
        return dict.fromkeys(endpoints, WHOLE)

    def record_denial(self, endpoint: str, resource_id: str, regions: Regions, reason: str) -> None:
        """Record that a request that was allowed is denied after all."""

    def record_listing(self, endpoint: str, shown: int) -> None:
        """Record that a listing showed this number of entries: those that the request has access to."""

    def seal(self, key: str) -> str:
        """A key as an opaque cursor for URLs, encrypted if the request may not know the key."""
        return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")

    def unseal(self, text: str) -> str:
        """The key of a cursor.

        Raises:
            ValueError: when the text is not a valid cursor.
        """
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()

    def signature_query(self, *parts: str) -> str:
        """The query that gives access without a token to the thing that these parts name; may be empty."""
        return ""


@dataclass(frozen=True, slots=True)
class Gate:
    """The access control of an application: creates the `Access` of each request."""

    authenticator: Authenticator
    authorizer: Authorizer
    url_signer: UrlSigner
    audit: Audit
    hide: bool
    empty_outside: bool = False

    def admit(self, authorization: str | None, origin: Origin) -> "LimitedAccess":
        """The access of a request with or without a token.

        Raises:
            InvalidAuthentication: when the token is not valid.
            ServiceUnavailable: when the token cannot be verified now.
        """
        try:
            caller = self.authenticator.authenticate(authorization)
        except ServiceError as error:
            decision = "denied" if isinstance(error, InvalidAuthentication) else "failed"
            self.audit.write(None, origin, "token", None, None, decision, error.message)
            raise
        return LimitedAccess(self, caller, origin)

    def check_signed_url(
        self, query: str, origin: Origin, endpoint: str, resource_id: str, candidates: Sequence[Sequence[str]]
    ) -> None:
        """Require a query that signs one of the candidates, each the parts that name a thing.

        Raises:
            PermissionDenied: when the query has no valid signature, or an expired one.
        """
        if any(self.url_signer.is_signed(query, *parts) for parts in candidates):
            self.audit.write(None, origin, endpoint, resource_id, None, "allowed", "signed URL")
        else:
            reason = "no valid signature" if has_signature(query) else "not signed"
            self.audit.write(None, origin, endpoint, resource_id, None, "denied", reason)
            raise PermissionDenied("the URL's signature is missing, not valid or expired; request a new URL")


class LimitedAccess(Access):
    """The access of a caller, with or without a token."""

    is_limited = True

    def __init__(self, gate: Gate, caller: Caller, origin: Origin) -> None:
        self._gate = gate
        self._caller = caller
        self._origin = origin
        self.listing_limit = gate.authorizer.listing_limit
        self.was_decided = False
        self.expires: int = gate.url_signer.expiry()

    def require(self, endpoint: str, resource_id: str, regions: Regions = None) -> Grant:
        decision = self._decide(endpoint, resource_id, regions)
        self._record(endpoint, resource_id, regions, "allowed" if decision.allowed else "denied", decision.reason)
        if not decision.allowed:
            raise self._refusal(endpoint, resource_id, decision)
        self.was_decided = True
        return decision.grant

    def allows_whole(self, endpoint: str, resource_id: str) -> bool:
        decision = self._decide(endpoint, resource_id)
        return decision.allowed and not decision.grant.is_limited

    def allows(self, endpoint: str, resource_id: str) -> bool:
        return self._decide(endpoint, resource_id).allowed

    def require_sign_in_if_nothing_is_public(self, endpoint: str, *, listing_is_empty: bool = False) -> None:
        if not self._caller.is_anonymous:
            return
        opens = self._gate.authorizer.opens(self._caller, endpoint)
        if opens is False or (opens is None and listing_is_empty):
            self._record(endpoint, None, None, "denied", "nothing is public")
            raise InvalidAuthentication(_NEEDS_BEARER)

    def require_dataset(self, endpoints: Sequence[str], resource_id: str) -> Mapping[str, Grant]:
        authorizer, caller = self._gate.authorizer, self._caller
        try:
            decisions = {endpoint: decide(authorizer, caller, endpoint, resource_id) for endpoint in endpoints}
        except ServiceError as error:
            self._record("page", resource_id, None, "failed", error.message)
            raise
        allowed = {endpoint: decision.grant for endpoint, decision in decisions.items() if decision.allowed}
        reasons = "; ".join(f"{endpoint}: {decision.reason}" for endpoint, decision in decisions.items())
        self._record("page", resource_id, None, "allowed" if allowed else "denied", reasons)
        if not allowed:
            if self._caller.is_anonymous:
                raise InvalidAuthentication(_NEEDS_BEARER)
            raise NotFound(f"there is no dataset {resource_id[:200]!r}")
        self.was_decided = True
        return allowed

    def record_denial(self, endpoint: str, resource_id: str, regions: Regions, reason: str) -> None:
        self._record(endpoint, resource_id, regions, "denied", reason)

    def record_listing(self, endpoint: str, shown: int) -> None:
        self.was_decided = True
        self._record(endpoint, None, None, "allowed", f"{shown} shown")

    def seal(self, key: str) -> str:
        return self._gate.url_signer.seal(key)

    def unseal(self, text: str) -> str:
        return self._gate.url_signer.unseal(text)

    def signature_query(self, *parts: str) -> str:
        return "?" + self._gate.url_signer.sign(*parts, expires=self.expires)

    def _decide(self, endpoint: str, resource_id: str, regions: Regions = None) -> Decision:
        gate = self._gate
        try:
            return decide(
                gate.authorizer, self._caller, endpoint, resource_id, regions, empty_outside=gate.empty_outside
            )
        except ServiceError as error:
            self._record(endpoint, resource_id, regions, "failed", error.message)
            raise

    def _record(self, endpoint: str, resource_id: str | None, regions: Regions, decision: str, reason: str) -> None:
        self._gate.audit.write(self._caller, self._origin, endpoint, resource_id, regions, decision, reason)

    def _refusal(self, endpoint: str, resource_id: str, decision: Decision) -> ServiceError:
        if self._caller.is_anonymous:
            return InvalidAuthentication(_NEEDS_BEARER)
        if decision.grant.regions is not None:
            return PermissionDenied("the token gives no access to this region")
        if not self._gate.hide:
            return PermissionDenied("the token gives no access to this resource")
        if endpoint == "files":
            return NotFound("no such file")
        if endpoint == "sequence":
            return NotFound(f"there is no sequence {resource_id[:200]!r}")
        return NotFound(f"there is no dataset {resource_id[:200]!r} at /{endpoint}")
