"""What all blueprints share: the services behind them, views of two kinds, error answers, CORS, the health check."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
from flask import Flask, Request, Response, request
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from htsget_flask import __version__
from htsget_flask.config import Config
from htsget_flask.errors import (
    FileFaultError,
    InternalServerError,
    InvalidInput,
    ServiceError,
    ServiceUnavailable,
    StorageError,
    printable,
)
from htsget_flask.services import Services, current_services
from htsget_flask.web.answer import Answer, answer_with, common_fields
from htsget_flask.web.request_body import discard_body

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)
AfterRequest = Callable[[Any], Any]

SEQUENCES = "/sequence/"
_FAILURE = "htsget_flask.failure"
_MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json"
# Tickets and errors have the same form in all versions so far.
_ACCEPTED = re.compile(r"application/vnd\.ga4gh\.htsget\.v1\.[0-3]\.[0-9]\+json")

_MAX_AGE = 2_592_000


class View:
    """A view that is given the services and the WSGI environment, and so can be called with Flask or without.

    Only one that `needs_public_url` is called with what proxies in front tell of the address that the client used.
    """

    def __init__(self, answer: Callable[..., Answer], *, needs_public_url: bool = False) -> None:
        update_wrapper(self, answer)
        self.answer = answer
        self.needs_public_url = needs_public_url

    def __call__(self, **arguments: str) -> Response:
        """The response to the present request; Flask calls this."""
        failure: Exception | None = request.environ.pop(_FAILURE, None)
        if failure is not None:
            raise failure
        answer = self.answer(current_services(), request.environ, **arguments)
        return Response(answer.body, answer.status, answer.fields, direct_passthrough=True)

    def without_flask(
        self, services: Services, environ: "WSGIEnvironment", arguments: Mapping[str, str]
    ) -> Answer | None:
        """The answer to a request; None where it failed: Flask is then to tell of that."""
        try:
            return self.answer(services, environ, **arguments)
        except Exception as error:
            environ[_FAILURE] = error
            return None


def base_url(config: Config, request: Request) -> str:
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


def media_type(accept: str) -> str:
    """The Content-Type of tickets and errors: of the htsget version that an Accept header names first, or 1.3.0."""
    accepted = _ACCEPTED.search(accept)
    return f"{accepted[0] if accepted else _MEDIA_TYPE}; charset=utf-8"


def allowed_origins(config: Config) -> frozenset[str]:
    """The origins whose pages may read the answers; `*` is among them for all."""
    allowed = config.cors.origins
    return frozenset((allowed,) if isinstance(allowed, str) else allowed)


def register(app: Flask, config: Config) -> None:
    """Install the error handlers, CORS and the health check on the application."""
    app.register_error_handler(ServiceError, _answer)
    app.register_error_handler(FileFaultError, _file_fault)
    app.register_error_handler(StorageError, _storage_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    CORS(
        app,
        origins=_origin_patterns(config),
        methods=["GET", "POST", "HEAD", "OPTIONS"],
        allow_headers="*",
        expose_headers=["Content-Range", "Content-Length", "Accept-Ranges", "ETag", "WWW-Authenticate"],
        max_age=_MAX_AGE,
        send_wildcard=False,
        # Only browsers need these headers, and they name their origin; no other client pays for them.
        always_send=False,
    )
    after = app.after_request_funcs[None]
    after[:] = [_for_browsers(function) for function in after]
    app.after_request(_add_common_fields)
    app.add_url_rule("/health", "health", _health)


def _origin_patterns(config: Config) -> str | list[re.Pattern[str]]:
    """The origins as flask-cors cannot misread them: it takes some texts for patterns, and matches only their start."""
    origins = allowed_origins(config)
    return "*" if "*" in origins else [_origin_pattern(origin) for origin in sorted(origins)]


def _origin_pattern(origin: str) -> re.Pattern[str]:
    scheme_and_host = origin.removesuffix(":*")
    port = "" if scheme_and_host == origin else "(?::[0-9]{1,5})?"
    return re.compile(rf"{re.escape(scheme_and_host)}{port}\Z")


def _for_browsers(function: AfterRequest) -> AfterRequest:
    """The function, called only where a browser asks from another origin: flask-cors takes a tenth of a ticket."""

    def after(response: Response) -> Response:
        return function(response) if "HTTP_ORIGIN" in request.environ else response

    return after


def _add_common_fields(response: Response) -> Response:
    for name, value in common_fields(request.environ):
        response.headers.set(name, value)
    return response


def _health() -> Response:
    return Response("ok\n", mimetype="text/plain", headers={"Cache-Control": "no-store"})


def _answer(error: ServiceError) -> Response:
    response = _error_response(type(error).__name__, error.message, error.status)
    if error.status == 503:
        response.headers["Retry-After"] = "5"
    if error.status == 401:
        # RFC 6750 3: what is wrong is told only to who gave a token.
        response.headers["WWW-Authenticate"] = (
            'Bearer error="invalid_token"' if "HTTP_AUTHORIZATION" in request.environ else "Bearer"
        )
    return response


def log_fault(error: FileFaultError) -> None:
    """Write to the log what is wrong with a file, for its keeper."""
    log.error("%s", error)


def _file_fault(error: FileFaultError) -> Response:
    log_fault(error)
    arguments = request.view_args or {}
    identifier = arguments.get("dataset_id") or arguments.get("sequence_id") or arguments.get("key", "")
    return _answer(InternalServerError(f"{identifier!r} cannot be served: {error.reason}"))


def _storage_error(error: StorageError) -> Response:
    log.error("%s", error)
    kind = ServiceUnavailable if error.is_passing else InternalServerError
    return _answer(kind(error.reason))


def _http_error(error: HTTPException) -> Response:
    """The answer of routing and of werkzeug's own checks, in htsget's form; headers such as Allow are kept."""
    status = error.code or 500
    message = error.description or error.name
    if isinstance(error, RequestEntityTooLarge):
        message = (
            f"the body is longer than this server accepts: {current_services().config.htsget.max_post_bytes} bytes"
        )
        discard_body(request.environ)
    response = _error_response(error_name(status), message, status)
    for header, value in error.get_headers(request.environ):
        if header.lower() not in ("content-type", "content-length"):
            response.headers[header] = value
    return response


def _unexpected(error: Exception) -> Response:
    reference = secrets.token_hex(6)
    log.error("request %s failed: %s %s", reference, request.method, printable(request.path), exc_info=error)
    return _answer(InternalServerError(f"the server failed; its log has the reason under {reference}"))


def _error_response(name: str, message: str, status: int) -> Response:
    """An error in htsget's form, of Flask; refget has none of its own, and its clients read text."""
    if request.path.startswith(SEQUENCES):
        return Response(f"{message}\n", status, content_type="text/plain; charset=utf-8")
    answer = error_answer(name, message, status, accept=request.environ.get("HTTP_ACCEPT", ""))
    return Response(answer.body, status, answer.fields)


def error_name(status: int) -> str:
    """What htsget calls an error that has but an HTTP status."""
    names = {401: "InvalidAuthentication", 403: "PermissionDenied", 404: "NotFound", 413: "PayloadTooLarge"}
    return names.get(status, "InvalidInput" if status < 500 else "InternalServerError")


def error_answer(name: str, message: str, status: int, *, accept: str = "") -> Answer:
    """An error in htsget's form."""
    body = orjson.dumps({"htsget": {"error": name, "message": message}})
    return answer_with(body, {"Content-Type": media_type(accept)}, status=status)


def describe_service(config: Config, suffix: str) -> dict[str, object]:
    """What GA4GH service-info tells of each of the services, but for its type."""
    service = config.service
    optional = {
        "description": service.description,
        "contactUrl": service.contact_url,
        "documentationUrl": service.documentation_url,
        "createdAt": service.created_at,
        "updatedAt": service.updated_at,
        "environment": service.environment,
    }
    return {
        "id": f"{service.id}.{suffix}",
        "name": f"{service.name} {suffix}",
        "version": __version__,
        "organization": {"name": service.organization.name, "url": service.organization.url},
        **{name: value for name, value in optional.items() if value is not None},
    }
