"""The settings of access control, as pydantic models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from htsget_flask.config.values import IN_FILE, Model, Secret, is_url, secret_in

Algorithm = Literal["RS256", "ES256", "EdDSA"]
Endpoint = Literal["reads", "variants", "files", "sequence"]
Scalar = StrictStr | StrictBool | StrictInt | StrictFloat


def _url(value: str) -> str:
    if not is_url(value):
        raise ValueError("must be an absolute http or https URL")
    return value


Url = Annotated[str, AfterValidator(_url)]


class SignerConfig(Model):
    """One who signs tokens or visas that are believed."""

    issuer: str = Field(min_length=1, description="The claim iss of what it signs.")
    jwks: str = Field(min_length=1, description="Its public keys: the URL of a JSON Web Key Set, or a file.")
    algorithms: list[Algorithm] = Field(["RS256", "ES256", "EdDSA"], min_length=1)
    leeway: float = Field(30, ge=0, le=600, description="Seconds by which its clock and this one may differ.")
    refresh_interval: float = Field(60, ge=1, description="Seconds between two looks for keys that are not known.")


class IssuerConfig(SignerConfig):
    """One whose bearer tokens are believed."""

    audience: str | list[str] = Field(
        min_length=1, description="The claim aud, or several of which one has to be in it."
    )
    userinfo: Url | None = Field(None, description="Where it tells the passport of a token's bearer.")


class IntrospectionConfig(Model):
    """Where tokens that are no JWT of an issuer are asked about (RFC 7662)."""

    url: Url
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1, description="Or `file:` and the file that holds it.")
    audience: str | list[str] | None = None
    cache: float = Field(60, ge=0, description="Seconds for which an answer is kept.")


class PassportsConfig(Model):
    """GA4GH passports."""

    visa_issuers: list[SignerConfig] = Field(min_length=1)


class ClaimConfig(Model):
    """What is asked of a claim."""

    equals: Scalar | None = None
    contains: Scalar | None = None
    any_of: Annotated[list[Scalar], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "ClaimConfig":
        if sum(value is not None for value in (self.equals, self.contains, self.any_of)) != 1:
            raise ValueError("needs one of equals, contains and any_of")
        return self


class RegionConfig(Model):
    """A part of a reference, 0-based and half-open."""

    reference: str = Field(min_length=1)
    start: int = Field(0, ge=0)
    end: int | None = None

    @model_validator(mode="after")
    def _has_room(self) -> "RegionConfig":
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be greater than start")
        return self


class RuleConfig(Model):
    """Who may have what."""

    ids: list[str] = Field(min_length=1, description="Patterns of ids, in which * stands for any text.")
    endpoints: list[Endpoint] = Field(["reads", "variants", "files", "sequence"], min_length=1)
    public: bool = False
    claims: dict[str, ClaimConfig] = {}
    scopes: list[str] = []
    visas: list[str] = []
    regions: Annotated[list[RegionConfig], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "RuleConfig":
        if self.public and (self.claims or self.scopes or self.visas):
            raise ValueError("what is public has no claims, scopes or visas")
        return self


class PolicyConfig(Model):
    """A service that decides instead of rules: the data API of Open Policy Agent."""

    url: Url
    timeout: float = Field(2, gt=0, description="Seconds to wait for it.")
    cache: float = Field(10, ge=0, description="Seconds for which a decision is kept.")


class AuthConfig(Model):
    """Access control."""

    issuers: list[IssuerConfig] = []
    introspection: IntrospectionConfig | None = None
    passports: PassportsConfig | None = None
    rules: list[RuleConfig] = Field([], description="The first that matches wins; what none matches is denied.")
    policy: PolicyConfig | None = None
    outside: Literal["deny", "empty"] = Field(
        "deny", description="The answer where a grant of regions ends: an error, or no records."
    )
    hide: bool = Field(False, description="Answer for what a caller may not see as for what does not exist.")
    secrets: list[Secret] = Field([], description="What URLs are signed with: the first signs, all verify.")
    expires: int = Field(14_400, ge=60, le=604_800, description="Seconds for which a signed URL is good.")
    audit: str = Field("stderr", min_length=1, description="The audit log's file, or stderr.")

    @model_validator(mode="after")
    def _is_complete(self) -> "AuthConfig":
        if not self.secrets:
            raise ValueError("needs secrets: without one the URLs of data blocks cannot be signed")
        if bool(self.rules) == (self.policy is not None):
            raise ValueError("needs rules or a policy, and not both: they say who may see what")
        for name, signers in (("issuers", self.issuers), ("visa_issuers", self._visa_issuers())):
            if len({signer.issuer for signer in signers}) < len(signers):
                raise ValueError(f"{name} names an issuer twice")
        if self.passports is None and any(rule.visas for rule in self.rules):
            raise ValueError("rules that name visas need passports")
        return self

    def _visa_issuers(self) -> list[SignerConfig]:
        return [] if self.passports is None else self.passports.visa_issuers


def access_faults(content: Any, base: Path) -> Iterator[str]:
    """What is wrong with the files that the raw content of the section names."""
    if not isinstance(content, dict):
        return
    for where, text in _files(content):
        if where.startswith("secrets") and not secret_in(base, text):
            yield f"auth.{where}: the file cannot be read, or does not hold a secret alone"
        elif not where.startswith("secrets") and not (base / text.removeprefix(IN_FILE)).is_file():
            yield f"auth.{where}: there is no file {base / text.removeprefix(IN_FILE)}"


def secret_files(content: Any, base: Path) -> Iterator[Path]:
    """The files that hold secrets, or tell who asked for what: nobody may fetch them."""
    if isinstance(content, dict):
        audit = content.get("audit")
        if isinstance(audit, str) and audit != "stderr":
            yield base / audit
        for where, text in _files(content):
            if "jwks" not in where:
                yield base / text.removeprefix(IN_FILE)


def located(config: AuthConfig, base: Path) -> AuthConfig:
    """The settings with their paths absolute, and with the secrets that are in files."""
    changed: dict[str, Any] = {
        "issuers": [_with_keys(one, base) for one in config.issuers],
        "secrets": [_secret(one, base) for one in config.secrets],
        "audit": config.audit if config.audit == "stderr" else str(base / config.audit),
    }
    if config.passports is not None:
        trusted = [_with_keys(one, base) for one in config.passports.visa_issuers]
        changed["passports"] = config.passports.model_copy(update={"visa_issuers": trusted})
    if config.introspection is not None:
        secret = config.introspection.client_secret.get_secret_value()
        if secret.startswith(IN_FILE):
            held = SecretStr((base / secret.removeprefix(IN_FILE)).read_text(encoding="utf-8").strip())
            changed["introspection"] = config.introspection.model_copy(update={"client_secret": held})
    return config.model_copy(update=changed)


def _secret(secret: SecretStr, base: Path) -> SecretStr:
    text = secret.get_secret_value()
    return SecretStr(secret_in(base, text)) if text.startswith(IN_FILE) else secret


def _with_keys(config: SignerConfig, base: Path) -> SignerConfig:
    return config if is_url(config.jwks) else config.model_copy(update={"jwks": str(base / config.jwks)})


def _files(content: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    """Where the raw section names files, each with its text."""
    for place, secret in enumerate(_list(content.get("secrets"))):
        if isinstance(secret, str) and secret.startswith(IN_FILE):
            yield f"secrets[{place}]", secret
    introspection, passports = content.get("introspection"), content.get("passports")
    secret = introspection.get("client_secret") if isinstance(introspection, dict) else None
    if isinstance(secret, str) and secret.startswith(IN_FILE):
        yield "introspection.client_secret", secret
    signers = {"issuers": _list(content.get("issuers"))}
    signers["passports.visa_issuers"] = _list(passports.get("visa_issuers") if isinstance(passports, dict) else None)
    for name, listed in signers.items():
        for place, signer in enumerate(listed):
            jwks = signer.get("jwks") if isinstance(signer, dict) else None
            if isinstance(jwks, str) and not is_url(jwks):
                yield f"{name}[{place}].jwks", jwks


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
