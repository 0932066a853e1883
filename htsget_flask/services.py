"""The services that answer requests, created once per application from the configuration."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from htsget_flask.array_file import distrust
from htsget_flask.auth.access import Gate
from htsget_flask.cache import ByteCache
from htsget_flask.config import Config, LocalStorageConfig, StorageConfig, default_cache_folder
from htsget_flask.datasets.catalog import Catalog
from htsget_flask.datasets.inventory import Inventory
from htsget_flask.records.codecs import codec_versions
from htsget_flask.records.decoder import Decoder
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.open_sequence import LibraryBases
from htsget_flask.storage import Storage
from htsget_flask.storage.local import LocalStorage
from htsget_flask.storage.secure_link import SecureLinkSigner
from htsget_flask.storage.sendfile import x_accel, x_sendfile

EXTENSION = "htsget_flask"


@dataclass(frozen=True, slots=True)
class Services:
    """All that views need; without a `gate` there is no access control.

    `sidecars`: the cache folder, None if it is not trustworthy. `bases`: reference bases for CRAM records. `codecs`:
    the versions of the libraries that determine the bytes of record blocks, as a part of their ETags.
    """

    config: Config
    storages: Mapping[str, Storage]
    catalog: Catalog
    inventory: Inventory
    sequences: Library
    bases: LibraryBases
    decoder: Decoder
    cache: ByteCache
    sidecars: Path | None
    codecs: str
    gate: Gate | None = None


def create_services(config: Config) -> Services:
    """The services that the configuration describes, without a gate."""
    auth = config.auth
    # A storage's signed URL outlives no grant.
    limit = None if auth is None else auth.expires
    storages = {name: _storage(name, cap_url_lifetime(storage, limit)) for name, storage in config.storages.items()}
    catalog = Catalog(config.datasets, storages, hints=auth is None)
    folder = config.cache.folder or default_cache_folder()
    sidecars = folder if distrust(folder) is None else None
    sequences = Library(config.refget, storages, sidecars)
    return Services(
        config=config,
        storages=storages,
        catalog=catalog,
        inventory=Inventory(catalog, storages),
        sequences=sequences,
        bases=LibraryBases(sequences),
        decoder=Decoder(config.convert.concurrency),
        cache=ByteCache(config.cache.max_bytes),
        sidecars=sidecars,
        codecs=codec_versions(),
    )


def cap_url_lifetime(config: StorageConfig, limit: int | None) -> StorageConfig:
    """The settings with signed URLs that are valid for at most `limit` seconds."""
    return config if limit is None or config.expires <= limit else config.model_copy(update={"expires": limit})


def _storage(name: str, config: StorageConfig) -> Storage:
    if isinstance(config, LocalStorageConfig):
        root = os.path.realpath(config.root)
        methods = {"x-accel": x_accel(name, root), "x-sendfile": x_sendfile, None: None}
        signer = None
        if config.url is not None and config.secret is not None:
            signer = SecureLinkSigner(config.url, secret=config.secret.get_secret_value(), lifetime=config.expires)
        return LocalStorage(config.root, sendfile_method=methods[config.sendfile], signer=signer)
    # Importing boto3 takes long, and much memory.
    from htsget_flask.storage.s3.client import S3Settings, connect  # noqa: PLC0415

    return connect(name, S3Settings(**config.model_dump(exclude={"type"})))
