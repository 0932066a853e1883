"""The least that an answer can cost, with the project's own gunicorn settings.

A Flask route that answers with a constant ticket; or, given a location, an application without a framework that lets
nginx send the bytes, by X-Accel-Redirect.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify

from htsget_flask.config import Config, folder_config
from htsget_flask.server.arbiter import Server, settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class _Floor(Server):
    def load(self) -> Any:
        app = Flask(__name__, static_folder=None)

        @app.get("/")
        def constant() -> Response:
            return jsonify({"htsget": {"format": "BAM", "urls": []}})

        return app


class _RedirectFloor(Server):
    """Not even a framework: nginx sends what is at `location`."""

    def __init__(self, location: str, config: Config, options: dict[str, Any]) -> None:
        self._location = location
        super().__init__(config, options)

    def load(self) -> Any:
        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            fields = [("Content-Length", "0")]
            if environ["PATH_INFO"] != "/health":
                fields.append(("X-Accel-Redirect", self._location))
            start_response("200 OK", fields)
            return ()

        return app


def main(port: int, location: str | None = None) -> None:
    """Serve until the process ends."""
    config = folder_config(Path.cwd())
    options = {**settings(bind=f"127.0.0.1:{port}", workers=1), "loglevel": "warning"}
    server = _Floor(config, options) if location is None else _RedirectFloor(location, config, options)
    server.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
