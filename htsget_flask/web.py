"""What all blueprints share: the services behind them, error answers, CORS, conditional and partial responses."""

import errno
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import orjson
from flask import Flask, Response, current_app, request
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import parse_range_header, quote_etag
from werkzeug.wsgi import get_input_stream, wrap_file

from htsget_flask.cache import ByteCache
from htsget_flask.catalog import Catalog
from htsget_flask.config import Config
from htsget_flask.errors import FileFaultError, InternalServerError, InvalidInput, ServiceError
from htsget_flask.front import hand_over
from htsget_flask.inventory import Inventory
from htsget_flask.preconditions import failed_precondition, range_is_meant
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import Storage

log = logging.getLogger(__name__)
AfterRequest = Callable[[Any], Any]

EXTENSION = "htsget_flask"
ERROR_MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"
OCTETS = "application/octet-stream"

_MAX_AGE = 2_592_000
_SMALL = 64 << 10
_PIECE = 1 << 20
_MOST_DISCARDED = 16 << 20
# A suffix of length 0 cannot be satisfied (RFC 9110 14.1.2); werkzeug takes it for malformed.
_NO_BYTES = re.compile(r"\s*bytes\s*=\s*-0+\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Services:
    """What requests are answered from: made once per application, frozen."""

    config: Config
    storages: Mapping[str, Storage]
    catalog: Catalog
    inventory: Inventory
    cache: ByteCache
    sidecars: Path


def services() -> Services:
    """The services of the application that handles the present request."""
    return cast(Services, current_app.extensions[EXTENSION])


def base_url(config: Config) -> str:
    """The URL under which clients reach this service, with a slash at its end."""
    configured = config.public_url
    if configured is not None:
        return configured
    host = request.host
    if not host:
        raise InvalidInput("the request's Host header names no host")
    # A server bound to all addresses and asked without Host would name none that a client can reach.
    for everywhere, here in (("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104
        if host.startswith(everywhere):
            host = here + host.removeprefix(everywhere)
    return f"{request.scheme}://{host}{quote(request.root_path)}/"


def register(app: Flask, config: Config) -> None:
    """Install the error handlers, CORS and the health check on the application."""
    app.register_error_handler(ServiceError, _answer)
    app.register_error_handler(FileFaultError, _file_fault)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    CORS(
        app,
        origins=config.cors.origins,
        methods=["GET", "POST", "HEAD", "OPTIONS"],
        allow_headers="*",
        expose_headers=["Content-Range", "Content-Length", "Accept-Ranges", "ETag"],
        max_age=_MAX_AGE,
        send_wildcard=False,
        # Only browsers need these headers, and they name their origin; no other client pays for them.
        always_send=False,
    )
    after = app.after_request_funcs[None]
    after[:] = [_for_browsers(function) for function in after]
    app.add_url_rule("/health", "health", _health)


def _for_browsers(function: AfterRequest) -> AfterRequest:
    """The function, called only where a browser asks from another origin: flask-cors takes a tenth of a ticket."""

    def after(response: Response) -> Response:
        return function(response) if "HTTP_ORIGIN" in request.environ else response

    return after


def _health() -> Response:
    return Response("ok\n", mimetype="text/plain", headers={"Cache-Control": "no-store"})


def _answer(error: ServiceError) -> Response:
    response = _error(type(error).__name__, error.message, error.status)
    if error.status == 503:
        response.headers["Retry-After"] = "5"
    return response


def log_fault(error: FileFaultError) -> None:
    """Write to the log what is wrong with a file, for its keeper."""
    log.error("%s", error)


def _file_fault(error: FileFaultError) -> Response:
    log_fault(error)
    arguments = request.view_args or {}
    identifier = arguments.get("dataset_id") or arguments.get("key", "")
    return _answer(InternalServerError(f"{identifier!r} cannot be served: {error.reason}"))


def _http_error(error: HTTPException) -> Response:
    """The answer of routing and of werkzeug's own checks, in htsget's form; headers such as Allow are kept."""
    status = error.code or 500
    names = {401: "InvalidAuthentication", 403: "PermissionDenied", 404: "NotFound", 413: "PayloadTooLarge"}
    name = names.get(status, "InvalidInput" if status < 500 else "InternalServerError")
    message = error.description or error.name
    if isinstance(error, RequestEntityTooLarge):
        message = f"the body is longer than this server accepts: {services().config.htsget.max_post_bytes} bytes"
        _discard_body()
    response = _error(name, message, status)
    for header, value in error.get_headers(request.environ):
        if header.lower() not in ("content-type", "content-length"):
            response.headers[header] = value
    return response


def _discard_body() -> None:
    """Take in what the client sends: most clients, and proxies, only then look for an answer."""
    stream = get_input_stream(request.environ)
    left = _MOST_DISCARDED
    while left > 0:
        data = stream.read(_SMALL)
        if not data:
            break
        left -= len(data)


def _unexpected(error: Exception) -> Response:
    reference = secrets.token_hex(6)
    log.error("request %s failed: %s %s", reference, request.method, request.path, exc_info=error)
    return _answer(InternalServerError(f"the server failed; its log has the reason under {reference}"))


def _error(name: str, message: str, status: int) -> Response:
    body = orjson.dumps({"htsget": {"error": name, "message": message}})
    return Response(body, status, content_type=ERROR_MEDIA_TYPE)


def send_bytes(data: bytes, *, etag: str, headers: Mapping[str, str] | None = None) -> Response:
    """Bytes at hand, as a conditional and ranged answer."""
    response, span = _conditional(len(data), etag, headers)
    if span is not None and request.method != "HEAD":
        response.set_data(data[span.start : span.end])
    return response


def send_range(
    file: BinaryIO,
    span: ByteRange,
    *,
    etag: str,
    headers: Mapping[str, str] | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> Response:
    """A range of a file as a resource of its own, as a conditional and ranged answer; closes the file.

    `before` and `after` are bytes of the resource that are not the file's. The file is unbuffered: a server that can
    hands its descriptor to the kernel, already at the right offset. Or the web server in front is told to send it.
    """
    try:
        response, part = _conditional(len(before) + len(span) + len(after), etag, headers)
        if part is None or request.method == "HEAD":
            file.close()
            return response
        if len(part) > _SMALL and not (before or after) and hand_over(response, file, span):
            file.close()
            return response
        start, end = part.start - len(before), part.end - len(before)
        before, after = before[part.start : part.end], after[max(0, start - len(span)) : max(0, end - len(span))]
        start, end = min(max(0, start), len(span)), min(max(0, end), len(span))
        file.seek(span.start + start)
        pieces = _Pieces(file, before, end - start, after)
        if len(part) <= _SMALL:
            with file:
                response.set_data(b"".join(pieces))
        elif not before and not after and request.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"):
            response.response = wrap_file(request.environ, _Sent(file, span.start + end), _PIECE)  # type: ignore[arg-type]
            response.direct_passthrough = True
        else:
            response.response = pieces
            response.direct_passthrough = True
    except BaseException:
        file.close()
        raise
    return response


class _Sent:
    """A file that the kernel sends: when it was cut short meanwhile, the connection has to end, or the client waits."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.fileno = file.fileno
        self._file = file
        self._end = end

    def read(self, size: int) -> bytes:
        """What is left, at most `size` bytes: gunicorn reads where the kernel cannot send, as with TLS."""
        return self._file.read(max(0, min(size, self._end - self._file.tell())))

    def close(self) -> None:
        with self._file:
            size = os.fstat(self._file.fileno()).st_size
        if size < self._end:
            log.error("a file was cut short while it was sent: %d bytes are missing", self._end - size)
            raise ConnectionResetError(errno.ECONNRESET, "the file was cut short")


class _Pieces:
    """Bytes of the next `length` of a file piece by piece, between others: what no kernel sends in one go."""

    def __init__(self, file: BinaryIO, before: bytes, length: int, after: bytes) -> None:
        self._file = file
        self._before = before
        self._left = length
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        yield self._before
        while self._left:
            data = self._file.read(min(_PIECE, self._left))
            if not data:
                raise OSError(f"the file ended {self._left} bytes early")
            self._left -= len(data)
            yield data
        yield self._after

    def close(self) -> None:
        self._file.close()


def _conditional(length: int, etag: str, headers: Mapping[str, str] | None) -> tuple[Response, ByteRange | None]:
    """The response without its body, and which part of a resource of `length` bytes that body is.

    None for a body that is not sent. Last-Modified, where `headers` has it, is a validator too. RFC 9110: preconditions
    come before Range (section 13.2.2); a Range of another unit, malformed or of several parts is ignored (14.2), one
    that lies behind the end is answered with 416.
    """
    fields = {"Content-Type": OCTETS, "Accept-Ranges": "bytes", "ETag": quote_etag(etag), **(headers or {})}
    last_modified = fields.get("Last-Modified")
    status = failed_precondition(request.headers, etag=etag, last_modified=last_modified)
    if status == 412:
        return _error("InvalidInput", "the precondition failed", 412), None
    if status == 304:
        return Response(status=304, headers=fields), None
    span = _requested(length, etag, last_modified)
    if span is None:
        fields["Content-Length"] = str(length)
        return Response(headers=fields), ByteRange(0, length)
    if span.start >= length:
        response = _error("InvalidRange", "the range lies behind the end", 416)
        response.headers["Content-Range"] = f"bytes */{length}"
        response.headers["Accept-Ranges"] = "bytes"
        return response, None
    fields["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{length}"
    fields["Content-Length"] = str(len(span))
    return Response(status=206, headers=fields), span


def _requested(length: int, etag: str, last_modified: str | None) -> ByteRange | None:
    """The part that the request's Range names, clipped to the resource; None when it names none that is heeded."""
    asked = request.headers.get("Range")
    if request.method != "GET" or asked is None:
        return None
    if not range_is_meant(request.headers, etag=etag, last_modified=last_modified):
        return None
    if _NO_BYTES.fullmatch(asked):
        return ByteRange(length, length)
    wanted = parse_range_header(asked)
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    start, end = wanted.ranges[0]
    if start < 0:
        return ByteRange(max(0, length + start), length) if length else None
    return ByteRange(start, max(start, length if end is None else min(end, length)))
