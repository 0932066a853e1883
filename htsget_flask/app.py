"""The application: from a configuration to a WSGI app."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_path_info

from htsget_flask.array_file import distrust
from htsget_flask.auth.factory import make_gate
from htsget_flask.browser.views import blueprint as page
from htsget_flask.config import (
    Config,
    ConfigError,
    default_cache_folder,
    folder_config,
    read_config,
)
from htsget_flask.files.views import blueprint as files
from htsget_flask.guard import guard
from htsget_flask.htsget.views import blueprint as htsget
from htsget_flask.refget.views import blueprint as refget
from htsget_flask.services import EXTENSION, create_services
from htsget_flask.web.answer import Answer
from htsget_flask.web.preconditions import drop_odd_dates
from htsget_flask.web.views import View, error_answer, error_name, register

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

CONFIG_VARIABLE = "HTSGET_FLASK_CONFIG"

_MAX_PATHS = 256


def _warn_of_cache_folder(config: Config) -> None:
    folder = config.cache.folder or default_cache_folder()
    reason = distrust(folder)
    if reason is not None:
        log.warning("indexes and digests are kept in memory alone: the cache folder %s %s", folder, reason)


def start_background_work(app: Flask) -> None:
    """Do in the background what would make the first requests wait."""
    if refget.name in app.blueprints:
        app.extensions[EXTENSION].sequences.start_scan()


class _NoSession(SessionInterface):
    """Nobody has a session here: one empty one does for all requests."""

    def __init__(self) -> None:
        self._none = self.null_session_class()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        return self._none

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        pass


def _noop_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """What there is behind the headers of proxies, which are to be taken over and no more."""
    return ()


def _host_pattern(hosts: Sequence[str]) -> re.Pattern[str]:
    """What a Host header is that names one of the hosts, with any port."""
    return re.compile(rf"(?:{'|'.join(map(re.escape, hosts))})(?::[0-9]{{0,5}})?", re.IGNORECASE)


class _App(Flask):
    """Flask without views of its own kind for asyncio: asking every function whether it is one costs 4 us a time."""

    session_interface = _NoSession()

    def __init__(self, name: str, proxies: int, hosts: Sequence[str] | None) -> None:
        super().__init__(name, static_folder=None)
        self._hosts = hosts
        self._names_host = None if hosts is None else _host_pattern(hosts).fullmatch
        self._apply_forwarded_headers = ProxyFix(_noop_app, *[proxies] * 5) if proxies else _noop_app
        # Clients ask for many parts of a file, and many regions of a dataset.
        self._known_view = lru_cache(_MAX_PATHS)(self._view)

    def wsgi_app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if self._names_host is not None:
            self._apply_forwarded_headers(environ, start_response)
            # Browsers always send a Host: without one there is no rebound name.
            host = environ.get("HTTP_HOST")
            if host and not self._names_host(host):
                return self._misdirected()(environ, start_response)
        answer = self._answer(environ, start_response)
        if answer is not None:
            return answer(environ, start_response)
        drop_odd_dates(environ)
        self._apply_forwarded_headers(environ, start_response)
        return super().wsgi_app(environ, start_response)

    def _misdirected(self) -> Answer:
        """The answer to a request for another host (RFC 9110 7.4)."""
        message = f"this server only answers requests to {', '.join(self._hosts or ())}"
        return error_answer(error_name(421), message, 421)

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Answer | None:
        """What a view answers that needs nothing of Flask's, which takes longer than most of these views.

        None where Flask is to answer: other views, errors, and what flask-cors has to see.
        """
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD") or "HTTP_ORIGIN" in environ:
            return None
        known = self._known_view(method, get_path_info(environ))
        if known is None:
            return None
        view, arguments = known
        if view.needs_public_url:
            self._apply_forwarded_headers(environ, start_response)
        return view.without_flask(self.extensions[EXTENSION], environ, arguments)

    def _view(self, method: str, path: str) -> tuple[View, Mapping[str, str]] | None:
        try:
            endpoint, arguments = self.url_map.bind("").match(path, method)
        except HTTPException:
            return None
        view = self.view_functions[endpoint]
        return (view, arguments) if isinstance(view, View) else None

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
    app = _App(__name__, config.trusted_proxies, config.hosts)
    gate = None if config.auth is None else make_gate(config.auth)
    _warn_of_cache_folder(config)
    app.extensions[EXTENSION] = replace(create_services(config), gate=gate)
    # A path with an empty segment is no path of ours; werkzeug would answer it with a redirect.
    app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register(app, config)
    app.register_blueprint(htsget)
    app.register_blueprint(files)
    if config.refget.fastas or config.refget.store:
        app.register_blueprint(refget)
    if config.browser.enabled:
        app.register_blueprint(page)
    guard(app, app.extensions[EXTENSION])
    return app


class DeferredApp:
    """A WSGI application that each process makes for itself, from a configuration that is read once for all of them."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def app(self) -> Flask:
        """The application of this process."""
        return create_app(self._config)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        return self.app(environ, start_response)


def load_config() -> Config:
    """The configuration that the environment variable HTSGET_FLASK_CONFIG names: a YAML file, or a folder to serve.

    Raises:
        ConfigError: when it names none, or one that is not valid.
    """
    value = os.environ.get(CONFIG_VARIABLE)
    if not value:
        raise ConfigError(f"the environment variable {CONFIG_VARIABLE} names no file and no folder")
    path = Path(value)
    config = folder_config(path) if path.is_dir() else read_config(path)
    for remark in config.remarks:
        log.warning("%s: %s", path, remark)
    return config
