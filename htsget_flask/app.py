"""The application: from a configuration to a WSGI app."""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from flask import Flask, Response, request

from htsget_flask.array_file import distrust
from htsget_flask.auth.factory import make_gate
from htsget_flask.browser.views import blueprint as browser
from htsget_flask.config import (
    Config,
    ConfigError,
    default_cache_folder,
    describe_risks,
    folder_config,
    read_config,
)
from htsget_flask.files.views import blueprint as files
from htsget_flask.guard import guard
from htsget_flask.htsget.service_info import blueprint as service_info
from htsget_flask.htsget.views import blueprint as htsget
from htsget_flask.refget.views import blueprint as refget
from htsget_flask.services import EXTENSION, create_services
from htsget_flask.web.answer import Environ, StartResponse, common_fields
from htsget_flask.web.cors import Cors
from htsget_flask.web.errors import render_error
from htsget_flask.web.hosts import HostCheck, forwarded_headers
from htsget_flask.web.shortcut import Shortcut
from htsget_flask.web.views import health, to_response

log = logging.getLogger(__name__)

CONFIG_VARIABLE = "HTSGET_FLASK_CONFIG"


def create_app(config: Config) -> Flask:
    """The WSGI application that serves the configuration's datasets."""
    app = Flask(__name__, static_folder=None)
    cache_folder = config.cache.folder or default_cache_folder()
    if (reason := distrust(cache_folder)) is not None:
        log.warning("indexes and digests are kept in memory alone: the cache folder %s %s", cache_folder, reason)
    services = replace(create_services(config), gate=None if config.auth is None else make_gate(config.auth))
    app.extensions[EXTENSION] = services
    # No path with an empty segment is served; werkzeug would redirect it.
    app.url_map.merge_slashes = False
    app.register_error_handler(Exception, lambda error: to_response(render_error(error, request)))
    app.after_request(_add_common_fields)
    app.add_url_rule("/health", "health", health)
    for blueprint in (service_info, htsget, files):
        app.register_blueprint(blueprint)
    if config.refget.fastas or config.refget.store:
        app.register_blueprint(refget)
    if config.browser.enabled:
        app.register_blueprint(browser)
    guard(app, services)
    forwarded = forwarded_headers(config.trusted_proxies)
    wsgi_app = Cors(Shortcut(app, services, forwarded), app, config)
    app.wsgi_app = HostCheck(wsgi_app, config.hosts, forwarded) if config.hosts else wsgi_app  # type: ignore[method-assign]
    return app


def start_background_work(app: Flask) -> None:
    """Do in the background what would make the first requests wait."""
    if refget.name in app.blueprints:
        app.extensions[EXTENSION].sequences.start_scan()


class DeferredApp:
    """A WSGI application that each process creates for itself, from a configuration that is read once for all.

    It has locks, threads and connections, which must not be shared by a fork.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def app(self) -> Flask:
        """The application of this process."""
        return create_app(self._config)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return self.app(environ, start_response)


def load_config() -> Config:
    """The configuration that the environment variable HTSGET_FLASK_CONFIG names: a YAML file, or a folder to serve.

    Raises:
        ConfigError: if it is unset, or the configuration is not valid.
    """
    if not (value := os.environ.get(CONFIG_VARIABLE)):
        raise ConfigError(f"the environment variable {CONFIG_VARIABLE} names no file and no folder")
    path = Path(value)
    config = folder_config(path) if path.is_dir() else read_config(path)
    for remark in describe_risks(config):
        log.warning("%s: %s", path, remark)
    return config


def _add_common_fields(response: Response) -> Response:
    response.headers.extend(common_fields(request.environ))
    return response
