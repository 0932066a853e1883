"""The least that a ticket can cost: a Flask route with a constant answer, under the project's own gunicorn settings."""

import sys
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify

from htsget_flask.config import folder_config
from htsget_flask.server import Server, settings


class _Floor(Server):
    def load(self) -> Any:
        app = Flask(__name__, static_folder=None)

        @app.get("/")
        def constant() -> Response:
            return jsonify({"htsget": {"format": "BAM", "urls": []}})

        return app


def main(port: int) -> None:
    """Serve until the process is ended."""
    options = settings(bind=f"127.0.0.1:{port}", workers=1)
    _Floor(folder_config(Path.cwd()), {**options, "loglevel": "warning"}).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
