"""Faults between the parts of a configuration whose settings are valid one by one, and its risks."""

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from htsget_flask.config.auth import AuthConfig, SignerConfig
from htsget_flask.config.datasets import PrefixConfig
from htsget_flask.config.models import Config
from htsget_flask.config.storages import LocalStorageConfig
from htsget_flask.config.types import is_loopback


def cross_faults(config: Config, file: Path | None) -> Iterator[str]:
    """Each fault as a sentence, with the path of its setting; `file` is the one that the configuration is read from."""
    if not (config.datasets or config.files.storages or config.refget.fastas or config.refget.store):
        yield "the file: serves nothing: give it datasets, files.storages, refget.fastas or refget.store"
    for where, name in _named_storages(config):
        if name not in config.storages:
            yield f"{where}: there is no storage {name!r} (known: {', '.join(config.storages)})"
    for name, storage in config.storages.items():
        # Without a web server in front that is trusted, any client may send the header field that requests a path.
        if isinstance(storage, LocalStorageConfig) and storage.sendfile and not config.trusted_proxies:
            yield f"storages.{name}.sendfile: needs trusted_proxies: else any client could request the files' paths"
    for path in _private_files(config, file):
        yield from exposing_faults(config, path)
    yield from _unreachable_faults(config)
    yield from _browser_faults(config)
    if config.auth is not None:
        yield from _auth_faults(config.auth)
    elif "auth" in config.model_fields_set:
        # Without the section everything is public, which is not what its author meant.
        yield "auth: is empty: give it its settings, or remove it to make everything public"


def exposing_faults(config: Config, private: Path) -> Iterator[str]:
    """The storages of plain files that contain a private file."""
    for index, name in enumerate(config.files.storages):
        storage = config.storages.get(name)
        if isinstance(storage, LocalStorageConfig) and private.resolve().is_relative_to(storage.root.resolve()):
            where = f"files.storages[{index}]"
            yield f"{where}: {private} lies in this storage, and could be fetched: keep it elsewhere"


def _private_files(config: Config, file: Path | None) -> Iterator[Path]:
    """The files that nobody may fetch: the configuration, its secrets, the audit log, and the cache folder."""
    if file is not None:
        yield file
    if config.cache.folder is not None:
        yield config.cache.folder
    if config.auth is not None and config.auth.audit != "stderr":
        yield Path(config.auth.audit)
    for _, secret in config.secrets():
        if secret.file is not None:
            yield secret.file


def _named_storages(config: Config) -> Iterator[tuple[str, str]]:
    """The settings that name a storage, except for those of browsers: the path of each, and the name."""
    for index, name in enumerate(config.files.storages):
        yield f"files.storages[{index}]", name
    for index, fasta in enumerate(config.refget.fastas):
        yield f"refget.fastas[{index}].storage", fasta.storage
    if config.refget.store is not None:
        yield "refget.store.storage", config.refget.store.storage
    for index, entry in enumerate(config.datasets):
        if isinstance(entry, PrefixConfig):
            yield f"datasets[{index}].storage", entry.storage
            continue
        for endpoint, files in (("reads", entry.reads), ("variants", entry.variants)):
            for format_name, file in files.items():
                yield f"datasets[{index}].{endpoint}.{format_name}.storage", file.storage


def _unreachable_faults(config: Config) -> Iterator[str]:
    """Entries that no request reaches: the first entry that matches an id wins."""
    ids: dict[str, int] = {}
    prefixes: list[tuple[int, str]] = []
    for index, entry in enumerate(config.datasets):
        is_prefix = isinstance(entry, PrefixConfig)
        kind, start = ("prefix", entry.prefix) if isinstance(entry, PrefixConfig) else ("id", entry.id)
        where = f"datasets[{index}].{kind}"
        if not is_prefix and ids.setdefault(start, index) != index:
            yield f"{where}: datasets[{ids[start]}] has this id: give all files of a dataset in one entry"
        for earlier, prefix in prefixes:
            # A prefix has no hidden files.
            is_hidden = "/." in f"/{start.removeprefix(prefix)}"
            if start.startswith(prefix) and not is_hidden and (is_prefix or start != prefix):
                remedy = "give it another prefix" if start == prefix else f"put it before datasets[{earlier}]"
                yield (
                    f"{where}: no request reaches it, because datasets[{earlier}] has all ids that"
                    f" start with {prefix!r}: {remedy}"
                )
                break
        if is_prefix:
            prefixes.append((index, start))


def _browser_faults(config: Config) -> Iterator[str]:
    """Genomes and tracks in storages whose plain files browsers cannot read."""
    for index, entry in enumerate(config.datasets):
        path = f"datasets[{index}]"
        storages = {f"{path}.tracks[{number}]": track.storage for number, track in enumerate(entry.tracks)}
        if entry.genome is not None and not isinstance(entry.genome, str):
            storages = {f"{path}.genome": entry.genome.storage, **storages}
        for where, name in storages.items():
            if name is not None and name not in config.files.storages:
                yield f"{where}.storage: browsers cannot read {name!r}: it is not among files.storages"


def _auth_faults(auth: AuthConfig) -> Iterator[str]:
    if not auth.secrets:
        yield "auth: needs secrets: without one the URLs of data blocks cannot be signed"
    if bool(auth.rules) == (auth.policy is not None):
        yield "auth: needs either rules or a policy: they define who has access to what"
    visa_issuers = _visa_issuers(auth)
    for where, signers in (("auth.issuers", auth.issuers), ("auth.passports.visa_issuers", visa_issuers)):
        if len({signer.issuer for signer in signers}) < len(signers):
            yield f"{where}: names an issuer twice"
    issuers = {signer.issuer for signer in visa_issuers}
    for index, rule in enumerate(auth.rules):
        if rule.visas and auth.passports is None:
            yield f"auth.rules[{index}].visas: rules that name visas need passports"
            continue
        for number, visa in enumerate(rule.visas):
            if visa.issuer is not None and visa.issuer not in issuers:
                yield f"auth.rules[{index}].visas[{number}].issuer: is not among passports.visa_issuers"


def describe_risks(config: Config) -> Iterator[str]:
    """The risks of a valid configuration that its operator should know, each a sentence with its setting's path."""
    for where, secret in config.secrets():
        if secret.file is not None and secret.file.stat().st_mode & stat.S_IROTH:
            yield f"{where}: any user of this machine may read {secret.file}: run `chmod o-r` on it"
    if config.auth is None:
        return
    for where, url in _services(config.auth):
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield f"{where}: {url.partition('?')[0]} is not https: others can read and change its answers"
    count = len(_visa_issuers(config.auth))
    for index, rule in enumerate(config.auth.rules if count > 1 else ()):
        for number, visa in enumerate(rule.visas):
            if visa.issuer is None:
                where = f"auth.rules[{index}].visas[{number}]"
                yield f"{where}: any of the {count} visa issuers can grant this: write {{value: ..., issuer: ...}}"


def _services(auth: AuthConfig) -> Iterator[tuple[str, str]]:
    """The services that access depends on: the path of each setting, and its URL or the file of a key set."""
    for index, issuer in enumerate(auth.issuers):
        yield f"auth.issuers[{index}].jwks", issuer.jwks
        if issuer.userinfo is not None:
            yield f"auth.issuers[{index}].userinfo", issuer.userinfo
    if auth.introspection is not None:
        yield "auth.introspection.url", auth.introspection.url
    for index, signer in enumerate(_visa_issuers(auth)):
        yield f"auth.passports.visa_issuers[{index}].jwks", signer.jwks
    if auth.policy is not None:
        yield "auth.policy.url", auth.policy.url


def _visa_issuers(auth: AuthConfig) -> Sequence[SignerConfig]:
    return [] if auth.passports is None else auth.passports.visa_issuers
