"""Applications whose files are in a bucket, in this process or as servers; boto3 finds their credentials itself."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from flask import Flask

from htsget_flask.app import create_app
from htsget_flask.config import Config
from tests.support.client import FlaskHttp, LiveHttp, Response, Ticket
from tests.support.faulty import Request
from tests.support.live.server import Server, serving
from tests.support.s3 import OWNER, Credentials, S3Server

STORAGE = "cohort"


def settings(endpoint: str, bucket: str, storage: Mapping[str, object] | None = None, **more: object) -> dict[str, Any]:
    """A configuration that serves a whole bucket; `storage` are more settings of the storage, `more` other sections."""
    location = {"type": "s3", "bucket": bucket, "endpoint_url": endpoint, "addressing_style": "path"}
    return {
        "storages": {STORAGE: {**location, **(storage or {})}},
        "datasets": [{"prefix": "", "storage": STORAGE}],
        "files": {"storages": [STORAGE], "listing": True},
        **more,
    }


class BucketHttp(FlaskHttp):
    """Requests to an application in this process; requests to other hosts go over the network."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client = app.test_client()
        self._network = LiveHttp("http://unused")
        super().__init__(self.client)

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET request."""
        if is_elsewhere(url):
            return self._network.get(url, headers)
        return super().get(url, headers)

    def again(self) -> "BucketHttp":
        """Another client of the same application, for another thread."""
        return BucketHttp(self.app)


def application(
    server: S3Server,
    bucket: str,
    *,
    endpoint: str | None = None,
    storage: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    credentials: Credentials | None = OWNER,
    **more: object,
) -> BucketHttp:
    """An application in this process with empty caches; `endpoint` may be a proxy's, the server's by default.

    `environment` are variables for boto3 besides those with the credentials.
    """
    config = Config.model_validate(settings(endpoint or server.endpoint, bucket, storage, **more))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**(server.environment(credentials) if credentials else {}), **(environment or {})}.items():
            patch.setenv(name, value)
        return BucketHttp(create_app(config))


@contextmanager
def serving_bucket(
    server: S3Server,
    bucket: str,
    folder: Path,
    *,
    endpoint: str | None = None,
    storage: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    **more: object,
) -> Iterator[Server]:
    """Run `htsget-flask serve` on a bucket until the end of the context; its files are written to `folder`."""
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings(endpoint or server.endpoint, bucket, storage, **more)), encoding="utf-8")
    variables = {**server.environment(), **(environment or {})}
    with serving("--config", path, folder=folder, environment=variables) as running_server:
        yield running_server


def is_elsewhere(url: str) -> bool:
    """Whether a URL of a ticket points at another host than the application."""
    return url.startswith("http") and urlsplit(url).netloc != "localhost"


def presigned(ticket: Ticket) -> list[tuple[str, dict[str, str]]]:
    """The presigned S3 URLs of a ticket, each with its headers."""
    entries = ticket["htsget"]["urls"]
    return [(entry["url"], entry["headers"]) for entry in entries if "X-Amz-Signature=" in entry["url"]]


def parameter(url: str, name: str) -> str:
    """The value of a parameter of a URL."""
    (value,) = parse_qs(urlsplit(url).query)[name]
    return value


def request_kind(request: Request) -> str:
    """The kind of a path-style request to a bucket: LIST, or a method and an object's name without its folder."""
    parts = urlsplit(request.target)
    _, _, key = parts.path.removeprefix("/").partition("/")
    if not key:
        return "LIST" if "list-type=2" in parts.query else f"{request.method} bucket"
    return f"{request.method} {unquote(key).rpartition('/')[2]}"
