"""The settings of access control, as pydantic models."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from htsget_flask.config.types import AuditLog, ClientSecret, KeySet, Model, Names, Secret, Url, constraint
from htsget_flask.fields import FIELDS, MAX_TAGS, TAG

Endpoint = Literal["reads", "variants", "files", "sequence"]
Scalar = Annotated[
    Any,
    constraint(lambda value: isinstance(value, str | bool | int | float), "must be a text, a number, true or false"),
]
SamField = Annotated[str, constraint(FIELDS.__contains__, f"must be one of {', '.join(FIELDS)}")]
Tag = Annotated[str, constraint(TAG.fullmatch, "must be a letter and a letter or digit")]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]


class SignerConfig(Model):
    """A trusted issuer of tokens or visas."""

    issuer: str = Field(min_length=1)
    """The claim `iss` of the tokens or visas that it signs."""
    jwks: KeySet
    """Its public keys: the URL of a JSON Web Key Set, or a file that holds one. A visa's `jku` has to be this URL."""
    algorithms: list[Literal["RS256", "ES256", "EdDSA"]] = Field(["RS256", "ES256", "EdDSA"], min_length=1)
    """The algorithms that it signs with."""
    leeway: float = Field(30, ge=0, le=600)
    """Tolerated difference between its clock and this one, in s."""
    refresh_interval: float = Field(60, ge=1)
    """Age at which its key set is fetched again, in s: for this long a [new key](access.md#when-keys-change) may be
    unknown, and a removed one trusted."""


class IssuerConfig(SignerConfig):
    """A trusted issuer of bearer tokens."""

    audience: Names
    """The claim `aud` that its tokens need: a text, or a list of alternatives."""
    userinfo: Url | None = None
    """URL that returns the GA4GH passport of a token's bearer, where the token holds none."""


class IntrospectionConfig(Model):
    """Token introspection (RFC 7662), for opaque tokens."""

    url: Url
    """The introspection endpoint."""
    client_id: str = Field(min_length=1)
    """This server's client id at the endpoint."""
    client_secret: ClientSecret
    """The client's secret, or `file:` and the path of its file."""
    audience: Names | None = None
    """The claim `aud` that a token needs: a text, or a list of alternatives; by default any."""
    cache: float = Field(60, ge=0)
    """How long an answer is cached, in s."""


class PassportsConfig(Model):
    """GA4GH passports."""

    visa_issuers: list[SignerConfig] = Field(min_length=1)
    """The trusted issuers of visas, as below."""


class ClaimConfig(Model):
    """A condition on a claim: exactly one of these settings."""

    equals: Scalar | None = None
    """The claim is this value."""
    contains: Scalar | None = None
    """The claim is a list that has this value."""
    any_of: Annotated[list[Scalar], Field(min_length=1)] | None = None
    """The claim is one of these values, or a list that has one of them."""

    def model_post_init(self, context: Any, /) -> None:
        if sum(value is not None for value in (self.equals, self.contains, self.any_of)) != 1:
            raise ValueError("needs one of equals, contains and any_of")


class RegionConfig(Model):
    """A part of a reference, 0-based and half-open."""

    reference: str = Field(min_length=1)
    """The reference's name."""
    start: int = Field(0, ge=0)
    """The first position, 0-based."""
    end: int | None = None
    """The position after the last one, 0-based; by default the reference's length."""

    def model_post_init(self, context: Any, /) -> None:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be greater than start")


class VisaConfig(Model):
    """A visa that a rule needs."""

    value: str = Field(min_length=1)
    """The visa's value."""
    issuer: str | None = None
    """The visa issuer that has to have signed it; by default any of `visa_issuers`."""
    source: str | None = None
    """The source that has to have made the grant; by default any."""


def _visa(value: Any) -> Any:
    if isinstance(value, str):
        return {"value": value}
    if not isinstance(value, dict | VisaConfig):
        raise ValueError("must be the value of a visa, or settings: value, issuer, source")
    return value


class RuleConfig(Model):
    """A rule: ids and endpoints, and the conditions under which callers have access to them."""

    ids: list[str] = Field(min_length=1)
    """Patterns of ids: `*` stands for any text, slashes included, `?` for one character, `[ab]` for one of these. The
    id of a plain file is the storage's name, `/` and its path."""
    endpoints: list[Endpoint] = Field(["reads", "variants", "files", "sequence"], min_length=1)
    """The endpoints that the rule is about."""
    public: bool = False
    """No token is needed. Otherwise, and without any condition below, any valid token is enough."""
    claims: dict[str, ClaimConfig] = {}
    """Conditions on claims by name, all of which are needed."""
    scopes: list[str] = []
    """Scopes, all of which are needed."""
    visas: list[Annotated[VisaConfig, BeforeValidator(_visa)]] = []
    """Visas (`ControlledAccessGrants`), one of which is needed: each a value, or settings."""
    regions: Annotated[list[RegionConfig], Field(min_length=1)] | None = None
    """Limits the grant to the records in these regions, which are then cut one by one ([CRAM with its
    reference](access.md#who-may-see-what))."""
    fields: list[SamField] | None = None
    """Limits the grant to these fields of reads; FLAG, RNAME, POS, MAPQ and CIGAR are always in it, and SEQ with QUAL.
    The rule needs `endpoints: [reads]`, and has no tags unless it has one of the settings below ([what fields
    reveal](access.md#who-may-see-what))."""
    tags: Tags | None = None
    """Limits the grant to these tags of reads."""
    notags: Tags | None = None
    """Limits the grant to all tags of reads but these."""

    def model_post_init(self, context: Any, /) -> None:
        if self.public and (self.claims or self.scopes or self.visas):
            raise ValueError("a public rule must not have claims, scopes or visas")
        for name in ("regions", "fields", "tags", "notags"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} is empty: remove it, or limit the grant to something")
        limits = [name for name in ("fields", "tags", "notags") if getattr(self, name) is not None]
        if limits and self.endpoints != ["reads"]:
            raise ValueError(f"a rule with {' and '.join(limits)} needs endpoints: [reads]: only reads have them")


class PolicyConfig(Model):
    """A policy service that decides instead of rules."""

    url: Url
    """The data API of Open Policy Agent, or of a service that speaks like it."""
    timeout: float = Field(2, gt=0)
    """How long to wait for its answer, in s."""
    cache: float = Field(10, ge=0)
    """How long a decision is cached, in s."""


class AuthConfig(Model):
    """Access control."""

    issuers: list[IssuerConfig] = []
    """The trusted issuers of tokens."""
    introspection: IntrospectionConfig | None = None
    """Where opaque tokens are verified."""
    passports: PassportsConfig | None = None
    """Makes GA4GH passports count."""
    rules: list[RuleConfig] = []
    """The first rule that matches decides; everything else is denied. Rules or a policy are needed."""
    policy: PolicyConfig | None = None
    """A policy service instead of rules."""
    outside: Literal["deny", "empty"] = "deny"
    """The answer for a region outside a caller's [grant of regions](access.md#who-may-see-what): an error, or a file
    without records."""
    hide: bool = False
    """Answer 404 instead of 403 for a dataset that the token gives no access to."""
    secrets: list[Secret] = []
    """Required. The secrets that sign the URLs of data blocks and plain files. The first signs, all verify, so that a
    secret can be replaced. Each has 16 to 256 letters, digits and `_-.+/=`, at least six different ones, or is `file:`
    and a path. A placeholder (`change-me...`), and a file that any user may write or replace, are refused."""
    expires: int = Field(14_400, ge=60, le=604_800)
    """How long a signed URL is valid, in s; some for a quarter less. It also limits the signed URLs of storages."""
    audit: AuditLog = "stderr"
    """The audit log: `stderr`, or a file that lines are appended to."""
