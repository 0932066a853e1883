"""The application: from a configuration to a WSGI app."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from htsget_flask.cache import ByteCache
from htsget_flask.catalog import Catalog
from htsget_flask.config import (
    Config,
    ConfigError,
    LocalStorageConfig,
    S3StorageConfig,
    default_cache_folder,
    folder_config,
    read_config,
)
from htsget_flask.files.views import blueprint as files
from htsget_flask.htsget.views import blueprint as htsget
from htsget_flask.inventory import Inventory
from htsget_flask.page.views import blueprint as page
from htsget_flask.refget.library import Library
from htsget_flask.refget.views import EXTENSION as REFGET
from htsget_flask.refget.views import blueprint as refget
from htsget_flask.storage import Storage
from htsget_flask.storage.handover import XAccel, XSendfile
from htsget_flask.storage.local import LocalStorage
from htsget_flask.storage.signed import UrlSigner
from htsget_flask.web import EXTENSION, Services, register

CONFIG_VARIABLE = "HTSGET_FLASK_CONFIG"


def create_services(config: Config) -> Services:
    """What requests are answered from, made of the configuration."""
    storages = {name: _storage(name, storage) for name, storage in config.storages.items()}
    catalog = Catalog(config.datasets, storages)
    return Services(
        config=config,
        storages=storages,
        catalog=catalog,
        inventory=Inventory(catalog, storages),
        cache=ByteCache(config.cache.max_bytes),
        sidecars=config.cache.folder or default_cache_folder(),
    )


def create_library(services: Services) -> Library:
    """The reference sequences of the configuration; none was looked up yet."""
    return Library(services.config.refget, services.storages, services.sidecars)


def begin(app: Flask) -> None:
    """Do in the background what would make the first requests wait."""
    library = app.extensions.get(REFGET)
    if library is not None:
        library.begin()


def _storage(name: str, config: LocalStorageConfig | S3StorageConfig) -> Storage:
    if isinstance(config, LocalStorageConfig):
        return _local(name, config)
    # boto3 takes long to import, and much memory.
    from htsget_flask.storage.connection import connect  # noqa: PLC0415

    return connect(name, **config.model_dump(exclude={"type"}))


def _local(name: str, config: LocalStorageConfig) -> LocalStorage:
    root = os.path.realpath(config.root)
    ways = {"x-accel": XAccel(name, root), "x-sendfile": XSendfile(), None: None}
    signer = None
    if config.url is not None and config.secret is not None:
        signer = UrlSigner(config.url, secret=config.secret.get_secret_value(), lifetime=config.expires)
    return LocalStorage(config.root, handover=ways[config.sendfile], signer=signer)


class _NoSession(SessionInterface):
    """Nobody has a session here: one empty one does for all requests."""

    def __init__(self) -> None:
        self._none = self.null_session_class()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        return self._none

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        pass


class _App(Flask):
    """Flask without views of its own kind for asyncio: asking every function whether it is one costs 4 us a time."""

    session_interface = _NoSession()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by the path alone: to make sense of the host, which no rule looks at, takes a tenth of a ticket."""
        if request is None:
            return super().create_url_adapter(None)
        return MapAdapter(
            self.url_map, request.host, request.root_path, "", request.scheme, request.path, request.method
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(config: Config) -> Flask:
    """The WSGI application that serves the configuration's datasets."""
    app = _App(__name__, static_folder=None)
    app.extensions[EXTENSION] = create_services(config)
    # A path with an empty segment is no path of ours; werkzeug would answer it with a redirect.
    app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register(app, config)
    app.register_blueprint(htsget)
    app.register_blueprint(files)
    if config.refget.fastas or config.refget.store:
        app.extensions[REFGET] = create_library(app.extensions[EXTENSION])
        app.register_blueprint(refget)
    if config.browser.enabled:
        app.register_blueprint(page)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, hops, hops, hops, hops, hops)  # type: ignore[method-assign]
    return app


def load_config() -> Config:
    """The configuration that the environment variable HTSGET_FLASK_CONFIG names: a YAML file, or a folder to serve.

    Raises:
        ConfigError: when it names none, or one that is not valid.
    """
    value = os.environ.get(CONFIG_VARIABLE)
    if not value:
        raise ConfigError(f"the environment variable {CONFIG_VARIABLE} names no file and no folder")
    path = Path(value)
    return folder_config(path) if path.is_dir() else read_config(path)
