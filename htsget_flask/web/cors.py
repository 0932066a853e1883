"""Cross-origin resource sharing: flask-cors' rules, applied to every answer, made by Flask or not."""

import re
from collections.abc import Iterable
from typing import Any

from flask import Flask
from flask_cors.core import get_cors_headers, get_cors_options
from werkzeug.datastructures import EnvironHeaders

from htsget_flask.config import Config
from htsget_flask.web.answer import Environ, StartResponse, WSGIApplication


def allowed_origins(config: Config) -> frozenset[str]:
    """The origins whose pages may read the answers; contains `*` if all may."""
    allowed = config.cors.origins
    return frozenset((allowed,) if isinstance(allowed, str) else allowed)


def cors_options(config: Config) -> dict[str, Any]:
    """The options of flask-cors."""
    origins = allowed_origins(config)
    return {
        "origins": "*" if "*" in origins else [_origin_pattern(origin) for origin in sorted(origins)],
        "methods": ["GET", "POST", "HEAD", "OPTIONS"],
        "allow_headers": "*",
        "expose_headers": ["Content-Range", "Content-Length", "Accept-Ranges", "ETag", "WWW-Authenticate"],
        "max_age": 2_592_000,
        "send_wildcard": False,
        # Only browsers need these fields, and they send Origin; other clients save the bytes.
        "always_send": False,
    }


class Cors:
    """WSGI middleware that adds the fields of CORS to answers to requests with an Origin, preflight requests included.

    flask-cors' own extension hooks into Flask, which most answers bypass (`web.shortcut`). Its rules take 6 us.
    """

    def __init__(self, app: WSGIApplication, flask: Flask, config: Config) -> None:
        self._app = app
        self._options = get_cors_options(flask, cors_options(config))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_ORIGIN" not in environ:
            return self._app(environ, start_response)
        fields = get_cors_headers(self._options, EnvironHeaders(environ), environ["REQUEST_METHOD"])
        added = [(name, str(value)) for name, value in fields.items()]

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, *added], *exc_info)

        return self._app(environ, start)


def _origin_pattern(origin: str) -> re.Pattern[str]:
    """An origin as a compiled pattern: flask-cors takes some texts for patterns, and matches only their start."""
    scheme_and_host = origin.removesuffix(":*")
    port = "" if scheme_and_host == origin else "(?::[0-9]{1,5})?"
    return re.compile(rf"{re.escape(scheme_and_host)}{port}\Z")
