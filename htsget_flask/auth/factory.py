"""Creates access control from the configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from htsget_flask.auth.access import Gate
from htsget_flask.auth.audit import Audit
from htsget_flask.auth.decision import Authorizer, Grant, granted_selection
from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.policy_service import PolicyAuthorizer
from htsget_flask.auth.rules import Rule, RuleAuthorizer, any_of, contains, equals, grants
from htsget_flask.auth.signed_urls import UrlSigner
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.auth.visas import Passports
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
    issuers = {one.issuer: (one, _keys(one, client)) for one in config.issuers}
    passports = None
    if config.passports is not None:
        passports = Passports({one.issuer: (one, _keys(one, client)) for one in config.passports.visa_issuers})
    return Authenticator(issuers, introspection=config.introspection, passports=passports, client=client)


def make_authorizer(config: AuthConfig) -> Authorizer:
    """The authorizer: rules, or a policy service."""
    if config.policy is not None:
        policy = config.policy
        return PolicyAuthorizer(policy.url, JsonClient(policy.timeout), cache_seconds=policy.cache)
    return RuleAuthorizer([_rule(rule) for rule in config.rules])


def _keys(config: SignerConfig, client: JsonClient) -> Keys:
    def fetch() -> Any:
        if is_url(config.jwks):
            return client.fetch(config.jwks)
        return orjson.loads(Path(config.jwks).read_bytes())

    return Keys(fetch, config.algorithms, issuer=config.issuer, interval=config.refresh_interval)


def _rule(config: RuleConfig) -> Rule:
    regions = None
    if config.regions is not None:
        regions = RegionSet(Region(one.reference, one.start, one.end) for one in config.regions)
    return Rule(
        ids=config.ids,
        endpoints=config.endpoints,
        public=config.public,
        claims={name: _predicate(claim) for name, claim in config.claims.items()},
        scopes=config.scopes,
        visas=[grants(visa.value, issuer=visa.issuer, source=visa.source) for visa in config.visas],
        grant=Grant(regions, granted_selection(config.fields, config.tags, config.notags)),
    )


def _predicate(config: ClaimConfig) -> Callable[[Any], bool]:
    if config.any_of is not None:
        return any_of(config.any_of)
    return equals(config.equals) if config.contains is None else contains(config.contains)
