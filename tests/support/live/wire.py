"""Requests as they go over the wire, for what client libraries hide."""

import json
import socket
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from tests.support.client import Response
from tests.support.live.server import Server

ORIGIN = "https://igv.example"


def send(connection: HTTPConnection, method: str, target: str, **headers: str) -> Response:
    """Send a request over a connection, which stays open; `_` in header names stands for `-`."""
    connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return read(connection)


def read(connection: HTTPConnection) -> Response:
    """The answer to the request last sent over a connection."""
    response = connection.getresponse()
    fields = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, fields, response.read())


def ask(server: Server, method: str, target: str, **headers: str) -> Response:
    """Send a request over a new connection; the target may be an absolute URL."""
    parts = urlsplit(target)
    connection = HTTPConnection(parts.netloc or f"{urlsplit(server.url).netloc}", timeout=30)
    try:
        return send(connection, method, target[target.index(parts.path) :] if parts.netloc else target, **headers)
    finally:
        connection.close()


def raw(server: Server, request: bytes) -> Response:
    """The answer to these bytes, up to the end of the connection: the request has to demand `Connection: close`."""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            received = answer.read()
    head, _, body = received.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields)
    return Response(int(status.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)


def get(server: Server, target: str, *fields: str, version: str = "1.1") -> Response:
    """The answer to a GET request whose target and header lines are sent verbatim."""
    lines = [f"GET {target} HTTP/{version}", "Connection: close", *fields]
    return raw(server, "\r\n".join([*lines, "", ""]).encode("latin-1"))


def get_as(server: Server, path: str, token: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a GET request with a bearer token."""
    authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
    return server.http.get(path, {**authorization, **(headers or {})})


def urls(ticket: Response) -> list[str]:
    """The http URLs of a ticket."""
    assert ticket.status == 200, ticket
    entries = json.loads(ticket.body)["htsget"]["urls"]
    return [entry["url"] for entry in entries if not entry["url"].startswith("data:")]


def error(answer: Response) -> str:
    """The error type in an answer."""
    content: dict[str, Any] = json.loads(answer.body)
    assert set(content) == {"htsget"} and set(content["htsget"]) == {"error", "message"}, content
    assert content["htsget"]["message"]
    assert answer.headers["content-type"].startswith("application/vnd.ga4gh.htsget.v1.")
    name: str = content["htsget"]["error"]
    return name


def origin_headers(answer: Response) -> Mapping[str, str]:
    """The CORS headers of an answer: they name the origins whose pages may read it."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
