"""The application under test, without a server."""

from pathlib import Path
from typing import Any

import yaml

from htsget_flask.app import create_app
from htsget_flask.config import Config, read_config
from tests.support.client import FlaskHttp


def http_for(folder: Path, **settings: Any) -> FlaskHttp:
    """A client of the application that serves a folder; settings as in the configuration file."""
    return FlaskHttp(create_app(configured(folder, **settings)).test_client())


def configured(folder: Path, **settings: Any) -> Config:
    """The configuration that serves a folder; settings as in the configuration file."""
    content: dict[str, Any] = {
        "storages": {"data": {"type": "local", "root": str(folder)}},
        "datasets": [{"prefix": "", "storage": "data"}],
        **settings,
    }
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_config(path)
