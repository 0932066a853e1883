"""What an operator should know about a configuration that is valid."""

import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from htsget_flask.config.auth import AuthConfig
from htsget_flask.config.models import Config
from htsget_flask.config.storages import LocalStorageConfig
from htsget_flask.config.types import IN_FILE


def remarks(config: Config, base: Path) -> Iterator[str]:
    """Each remark as a sentence, with its path; relative paths in the configuration count from `base`."""
    for where, text in _secrets(config):
        path = base / text.removeprefix(IN_FILE)
        if text.startswith(IN_FILE) and path.stat().st_mode & stat.S_IROTH:
            yield f"{where}: any user of this machine may read {path}: run `chmod o-r` on it"
    if config.auth is not None:
        for where, url in _services(config.auth):
            if _is_exposed(url):
                yield f"{where}: {url.partition('?')[0]} is not https: whoever is on the way reads and changes answers"
        yield from _visa_remarks(config.auth)


def _secrets(config: Config) -> Iterator[tuple[str, str]]:
    """Where secrets stand, each with its text."""
    for name, storage in config.storages.items():
        if isinstance(storage, LocalStorageConfig) and storage.secret is not None:
            yield f"storages.{name}.secret", storage.secret.get_secret_value()
    if config.auth is not None:
        for place, secret in enumerate(config.auth.secrets):
            yield f"auth.secrets[{place}]", secret.get_secret_value()
        if config.auth.introspection is not None:
            yield "auth.introspection.client_secret", config.auth.introspection.client_secret.get_secret_value()


def _services(auth: AuthConfig) -> Iterator[tuple[str, str]]:
    """Where services that decide over access are named, each with its URL or, of key sets, its file."""
    for place, issuer in enumerate(auth.issuers):
        yield f"auth.issuers[{place}].jwks", issuer.jwks
        if issuer.userinfo is not None:
            yield f"auth.issuers[{place}].userinfo", issuer.userinfo
    if auth.introspection is not None:
        yield "auth.introspection.url", auth.introspection.url
    for place, signer in enumerate([] if auth.passports is None else auth.passports.visa_issuers):
        yield f"auth.passports.visa_issuers[{place}].jwks", signer.jwks
    if auth.policy is not None:
        yield "auth.policy.url", auth.policy.url


def _is_exposed(url: str) -> bool:
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
    for place, rule in enumerate(auth.rules):
        for number, visa in enumerate(rule.visas):
            if count > 1 and visa.issuer is None:
                where = f"auth.rules[{place}].visas[{number}]"
                yield f"{where}: any of the {count} visa issuers opens this: write {{value: ..., issuer: ...}}"
