"""The settings of access control, as pydantic models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, model_validator

from htsget_flask.config.types import (
    IN_FILE,
    ClientSecret,
    Model,
    Names,
    Secret,
    check_writers,
    is_url,
    meant_settings,
    secret_in,
)

Algorithm = Literal["RS256", "ES256", "EdDSA"]
Endpoint = Literal["reads", "variants", "files", "sequence"]


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | bool | int | float):
        raise ValueError("must be a text, a number, true or false")
    return value


Scalar = Annotated[str | bool | int | float, PlainValidator(_scalar)]


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
    refresh_interval: float = Field(60, ge=1, description="Seconds after which its key set is fetched again.")


class IssuerConfig(SignerConfig):
    """One whose bearer tokens are believed."""

    audience: Names = Field(description="The claim aud, or several of which one has to be in it.")
    userinfo: Url | None = Field(None, description="Where it tells the passport of a token's bearer.")


class IntrospectionConfig(Model):
    """Where tokens that are no JWT of an issuer are asked about (RFC 7662)."""

    url: Url
    client_id: str = Field(min_length=1)
    client_secret: ClientSecret = Field(description="Or `file:` and the file that holds it.")
    audience: Names | None = None
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


class VisaConfig(Model):
    """A visa that a rule needs."""

    value: str = Field(min_length=1)
    issuer: str | None = Field(None, description="Who signed it; by default any of the visa issuers.")
    source: str | None = Field(None, description="Who made the grant; by default anyone.")


def _visa(value: Any) -> Any:
    if isinstance(value, str):
        return {"value": value}
    if not isinstance(value, dict | VisaConfig):
        raise ValueError("must be the value of a visa, or settings: value, issuer, source")
    return value


class RuleConfig(Model):
    """Who may have what."""

    ids: list[str] = Field(min_length=1, description="Patterns of ids, in which * stands for any text.")
    endpoints: list[Endpoint] = Field(["reads", "variants", "files", "sequence"], min_length=1)
    public: bool = False
    claims: dict[str, ClaimConfig] = {}
    scopes: list[str] = []
    visas: list[Annotated[VisaConfig, BeforeValidator(_visa)]] = []
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


def access_faults(content: Any, base: Path) -> Iterator[str]:
    """What is wrong between the settings of the raw section, and with the files that it names."""
    if not isinstance(content, dict):
        return
    content = meant_settings(content, AuthConfig.model_fields)
    if not content.get("secrets"):
        yield "auth: needs secrets: without one the URLs of data blocks cannot be signed"
    if bool(content.get("rules")) == (content.get("policy") is not None):
        yield "auth: needs rules or a policy, and not both: they say who may see what"
    yield from _issuer_faults(content)
    for where, text in _files(content):
        path = base / text.removeprefix(IN_FILE)
        try:
            if where.startswith("secrets"):
                secret_in(base, text)
            elif path.is_file():
                check_writers(path)
            else:
                yield f"auth.{where}: there is no file {path}"
        except ValueError as error:
            yield f"auth.{where}: {error}"


def _issuer_faults(content: dict[Any, Any]) -> Iterator[str]:
    known = {name: [signer.get("issuer") for _, signer in signers] for name, signers in _signers(content).items()}
    for name, issuers in known.items():
        if len(set(map(str, issuers))) < len(issuers):
            yield f"auth.{name}: names an issuer twice"
    for place, rule in enumerate(_list(content.get("rules"))):
        visas = _list(rule.get("visas")) if isinstance(rule, dict) else []
        if visas and not isinstance(content.get("passports"), dict):
            yield f"auth.rules[{place}].visas: rules that name visas need passports"
            continue
        for number, visa in enumerate(visas):
            issuer = visa.get("issuer") if isinstance(visa, dict) else None
            if isinstance(issuer, str) and issuer not in known["passports.visa_issuers"]:
                yield f"auth.rules[{place}].visas[{number}].issuer: is not among passports.visa_issuers"


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
    introspection = content.get("introspection")
    secret = introspection.get("client_secret") if isinstance(introspection, dict) else None
    if isinstance(secret, str) and secret.startswith(IN_FILE):
        yield "introspection.client_secret", secret
    for name, signers in _signers(content).items():
        for place, signer in signers:
            jwks = signer.get("jwks")
            if isinstance(jwks, str) and not is_url(jwks):
                yield f"{name}[{place}].jwks", jwks


def _signers(content: dict[Any, Any]) -> dict[str, list[tuple[int, dict[Any, Any]]]]:
    """The raw lists of issuers, by where they stand; each issuer with its place."""
    passports = content.get("passports")
    listed = {
        "issuers": _list(content.get("issuers")),
        "passports.visa_issuers": _list(passports.get("visa_issuers") if isinstance(passports, dict) else None),
    }
    return {
        name: [(place, signer) for place, signer in enumerate(signers) if isinstance(signer, dict)]
        for name, signers in listed.items()
    }


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
