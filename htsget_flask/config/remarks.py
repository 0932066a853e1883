"""Remarks on a valid configuration: risks that its operator should know."""

import stat
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from htsget_flask.config.auth import AuthConfig
from htsget_flask.config.models import Config


def remarks(config: Config) -> Iterator[str]:
    """Each remark as a sentence, with the path of its setting."""
    for where, secret in config.secrets():
        if secret.file is not None and secret.file.stat().st_mode & stat.S_IROTH:
            yield f"{where}: any user of this machine may read {secret.file}: run `chmod o-r` on it"
    if config.auth is not None:
        for where, url in _services(config.auth):
            if _is_unencrypted(url):
                yield f"{where}: {url.partition('?')[0]} is not https: others can read and change its answers"
        yield from _visa_remarks(config.auth)


def _services(auth: AuthConfig) -> Iterator[tuple[str, str]]:
    """The services that access depends on: the path of each setting, and its URL or the file of a key set."""
    for index, issuer in enumerate(auth.issuers):
        yield f"auth.issuers[{index}].jwks", issuer.jwks
        if issuer.userinfo is not None:
            yield f"auth.issuers[{index}].userinfo", issuer.userinfo
    if auth.introspection is not None:
        yield "auth.introspection.url", auth.introspection.url
    for index, signer in enumerate([] if auth.passports is None else auth.passports.visa_issuers):
        yield f"auth.passports.visa_issuers[{index}].jwks", signer.jwks
    if auth.policy is not None:
        yield "auth.policy.url", auth.policy.url


def _is_unencrypted(url: str) -> bool:
    """Whether this is an http URL to another machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not is_loopback


def _visa_remarks(auth: AuthConfig) -> Iterator[str]:
    count = 0 if auth.passports is None else len(auth.passports.visa_issuers)
    for index, rule in enumerate(auth.rules):
        for number, visa in enumerate(rule.visas):
            if count > 1 and visa.issuer is None:
                where = f"auth.rules[{index}].visas[{number}]"
                yield f"{where}: any of the {count} visa issuers can grant this: write {{value: ..., issuer: ...}}"
