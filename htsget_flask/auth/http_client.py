"""An HTTP client for key sets, introspection, userinfo and policy services."""

import http.client
import io
import socket
import time
from collections.abc import Mapping
from typing import Any

import orjson
import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_MAX_BYTES = 4 << 20
_READ_BYTES = 1 << 16


class UpstreamError(Exception):
    """A service is unavailable, or its answer is not valid; the text names it, without anything sent to it."""


class RefusedError(UpstreamError):
    """A service refused a request: status 400, 401 or 403."""


class JsonClient:
    """Fetches JSON over persistent connections, without redirects and retries.

    A request takes at most twice `timeout` seconds: once to connect and send, once more for the whole answer (status
    line, header and body), however slowly it arrives. A body has at most 4 MiB, uncompressed.
    """

    def __init__(self, timeout: float) -> None:
        self._pool = urllib3.PoolManager(maxsize=8, timeout=urllib3.Timeout(total=timeout), retries=False)
        self._pool.pool_classes_by_scheme = {"http": _timed(HTTPConnectionPool), "https": _timed(HTTPSConnectionPool)}

    def fetch(self, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Any:
        """The JSON that answers a GET request, or a POST request if there is a body.

        Raises:
            UpstreamError: when the service is unavailable, or its answer is not valid.
        """
        service = url.partition("?")[0]
        try:
            response = self._pool.request(
                "GET" if body is None else "POST",
                url,
                body=body,
                headers={"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})},
                preload_content=False,
                redirect=False,
            )
            try:
                content = _read_body(response, service)
            except BaseException:
                # Reading the rest, to reuse the connection, might take for ever.
                response.close()
                raise
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UpstreamError(f"{service} is unavailable: {type(error).__name__}") from None
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise UpstreamError(f"{service} does not answer with JSON") from None


def _read_body(response: urllib3.BaseHTTPResponse, service: str) -> bytearray:
    """The whole body of an answer with status 200; any other status and a longer body raise UpstreamError."""
    if response.status != 200:
        kind = RefusedError if response.status in (400, 401, 403) else UpstreamError
        raise kind(f"{service} answers with status {response.status}")
    content = bytearray()
    while received := response.read1(_READ_BYTES, decode_content=False):
        content += received
        if len(content) > _MAX_BYTES:
            raise UpstreamError(f"{service} answers with more than {_MAX_BYTES} bytes")
    return content


class _TimedReader(io.RawIOBase):
    """Reads a whole answer within one time limit: a socket's own limit is for each read."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        super().__init__()
        self._raw = raw
        self._connection = connection
        # The socket's remaining time when the answer begins.
        self._deadline = time.monotonic() + (connection.gettimeout() or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the whole answer takes too long")
        self._connection.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """An answer with one time limit for its status line, header and body."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))


def _timed(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """A kind of pool whose connections read answers within one time limit."""
    connection = type("_TimedConnection", (pool.ConnectionCls,), {"response_class": _TimedResponse})
    return type("_TimedPool", (pool,), {"ConnectionCls": connection})
