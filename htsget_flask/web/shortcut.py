"""The shortcut past Flask's contexts."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request
from werkzeug.wsgi import get_path_info

from htsget_flask.services import Services
from htsget_flask.web.answer import Environ, StartResponse, WSGIApplication
from htsget_flask.web.hosts import apply_forwarded_scheme
from htsget_flask.web.views import View

# Clients request many parts of a file, and many regions of a dataset.
_MAX_PATHS = 256


class _LazyRequest(Request):
    """werkzeug's request, initialized when more than its environ is used: blocks and files save 1.4 us.

    The environ does not refer to it: without that cycle it is freed at once, and not by the garbage collector.
    """

    def __init__(self, environ: Environ) -> None:
        self.environ = environ

    def __getattr__(self, name: str) -> Any:
        super().__init__(self.environ, populate_request=False)
        return object.__getattribute__(self, name)


class Shortcut:
    """WSGI middleware around Flask that calls views itself; everything works without it, only slower.

    Flask pushes two contexts, sends signals and runs hooks that no view here uses. In process a ticket takes 35 us
    instead of 92, a range of 64 bytes 25 instead of 89. Flask answers what no view does: OPTIONS, redirects, and paths
    and methods without a route.
    """

    def __init__(self, flask: Flask, services: Services, forwarded: WSGIApplication) -> None:
        self._flask = flask
        self._flask_app = flask.wsgi_app
        self._services = services
        self._proxies = services.config.trusted_proxies
        self._apply_forwarded_headers = forwarded
        self._cached_match = lru_cache(_MAX_PATHS)(self._match)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # One slash at the start, as in Request.path; for others werkzeug's router redirects or finds nothing.
        path = f"/{environ.get('PATH_INFO', '').lstrip('/')}"
        match = self._cached_match(environ["REQUEST_METHOD"], path)
        if match is None:
            environ["PATH_INFO"] = path
            self._apply_forwarded_headers(environ, start_response)
            return self._flask_app(environ, start_response)
        view, arguments = match
        if view.needs_public_url:
            self._apply_forwarded_headers(environ, start_response)
        elif self._proxies:
            apply_forwarded_scheme(environ, self._proxies)
        return view.respond(self._services, _LazyRequest(environ), arguments)(environ, start_response)

    def _match(self, method: str, raw_path: str) -> tuple[View, Mapping[str, str]] | None:
        """The view for a path and its arguments; None where Flask answers."""
        if method == "OPTIONS":
            return None
        try:
            path = get_path_info({"PATH_INFO": raw_path})
            endpoint, arguments = self._flask.url_map.bind("").match(path, method)
        except HTTPException:
            return None
        view = self._flask.view_functions[endpoint]
        assert isinstance(view, View)
        return view, arguments
