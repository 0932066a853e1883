"""Creates access control from the configuration."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from htsget_flask.auth.access import Gate
from htsget_flask.auth.audit import Audit
from htsget_flask.auth.decision import Authorizer
from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.keys import Keys, KeySource
from htsget_flask.auth.policy_service import PolicyAuthorizer
from htsget_flask.auth.rules import Rule, RuleAuthorizer, any_of, contains, equals, grants
from htsget_flask.auth.signed_urls import UrlSigner
from htsget_flask.auth.tokens import Authenticator, Introspection, Issuer
from htsget_flask.auth.visas import Passports, VisaIssuer
from htsget_flask.config import AuthConfig, ClaimConfig, RuleConfig, SignerConfig, is_url
from htsget_flask.regions import Region, RegionSet

# For services that verify tokens, in s; requests wait for them.
_TIMEOUT = 5.0


def make_gate(config: AuthConfig) -> Gate:
    """The access control that the configuration describes."""
    return Gate(
        make_authenticator(config),
        make_authorizer(config),
        UrlSigner([secret.get_secret_value() for secret in config.secrets], config.expires),
        Audit(None if config.audit == "stderr" else Path(config.audit)),
        hide=config.hide,
        empty_outside=config.outside == "empty",
    )


def make_authenticator(config: AuthConfig) -> Authenticator:
    """The verifier of tokens."""
    client = JsonClient(_TIMEOUT)
    issuers = {
        one.issuer: Issuer(one.issuer, one.audience, _keys(one, client), one.leeway, one.userinfo)
        for one in config.issuers
    }
    passports = None
    if config.passports is not None:
        trusted = config.passports.visa_issuers
        passports = Passports(
            {
                one.issuer: VisaIssuer(
                    one.issuer, _keys(one, client), one.jwks if is_url(one.jwks) else None, one.leeway
                )
                for one in trusted
            }
        )
    introspection = None
    if config.introspection is not None:
        service = config.introspection
        introspection = Introspection(
            service.url, service.client_id, service.client_secret.get_secret_value(), service.audience, service.cache
        )
    return Authenticator(issuers, introspection=introspection, passports=passports, client=client)


def make_authorizer(config: AuthConfig) -> Authorizer:
    """The authorizer: rules, or a policy service."""
    if config.policy is not None:
        policy = config.policy
        return PolicyAuthorizer(policy.url, JsonClient(policy.timeout), cache_seconds=policy.cache)
    return RuleAuthorizer([_rule(rule) for rule in config.rules])


def _keys(config: SignerConfig, client: JsonClient) -> Keys:
    return Keys(
        _key_source(config.jwks, client), config.algorithms, issuer=config.issuer, interval=config.refresh_interval
    )


def _key_source(location: str, client: JsonClient) -> KeySource:
    if is_url(location):
        return lambda: client.get(location)
    return lambda: orjson.loads(Path(location).read_bytes())


def _rule(config: RuleConfig) -> Rule:
    regions = None
    if config.regions is not None:
        regions = RegionSet(Region(one.reference, one.start, one.end) for one in config.regions)
    return Rule(
        ids=config.ids,
        endpoints=config.endpoints,
        public=config.public,
        claims=_claims(config.claims),
        scopes=config.scopes,
        visas=[grants(visa.value, issuer=visa.issuer, source=visa.source) for visa in config.visas],
        regions=regions,
    )


def _claims(configs: Mapping[str, ClaimConfig]) -> dict[str, Callable[[Any], bool]]:
    claims = {}
    for name, config in configs.items():
        if config.any_of is not None:
            claims[name] = any_of(config.any_of)
        else:
            claims[name] = equals(config.equals) if config.contains is None else contains(config.contains)
    return claims
