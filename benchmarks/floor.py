"""The least that an answer can cost, under the project's own gunicorn settings.

A Flask route with the constant answer of a ticket; or, told a place, an application without any framework that leaves
all to nginx, by X-Accel-Redirect.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify

from htsget_flask.config import Config, folder_config
from htsget_flask.server import Server, settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class _Floor(Server):
    def load(self) -> Any:
        app = Flask(__name__, static_folder=None)

        @app.get("/")
        def constant() -> Response:
            return jsonify({"htsget": {"format": "BAM", "urls": []}})

        return app


class _HandsOver(Server):
    """Not even a framework: nginx is told to send what is at `place`."""

    def __init__(self, place: str, config: Config, options: dict[str, Any]) -> None:
        self._place = place
        super().__init__(config, options)

    def load(self) -> Any:
        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            fields = [("Content-Length", "0")]
            if environ["PATH_INFO"] != "/health":
                fields.append(("X-Accel-Redirect", self._place))
            start_response("200 OK", fields)
            return ()

        return app


def main(port: int, place: str | None = None) -> None:
    """Serve until the process is ended."""
    config = folder_config(Path.cwd())
    options = {**settings(bind=f"127.0.0.1:{port}", workers=1), "loglevel": "warning"}
    server = _Floor(config, options) if place is None else _HandsOver(place, config, options)
    server.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
