"""Errors as answers, rendered for each protocol: JSON for htsget, text for refget."""

import logging
import re
import secrets

import orjson
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

from htsget_flask.errors import (
    FileFaultError,
    InternalServerError,
    ServiceError,
    ServiceUnavailable,
    StorageError,
    printable,
)
from htsget_flask.web.answer import Answer, answer_with

log = logging.getLogger(__name__)

# Below this path errors are plain text, as refget defines no format for them; elsewhere they are htsget's.
REFGET_PATH = "/sequence/"

# 405 and 415 are InvalidInput: the specification has no nearer type.
_NAMES = {401: "InvalidAuthentication", 403: "PermissionDenied", 404: "NotFound", 413: "PayloadTooLarge"}
_MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json"
# Tickets and errors have had the same structure in all versions.
_ACCEPTED = re.compile(r"application/vnd\.ga4gh\.htsget\.v1\.[0-3]\.[0-9]\+json")


def media_type(accept: str) -> str:
    """The Content-Type of tickets and errors: the first htsget version that an Accept header names, or 1.3.0.

    No negotiation: a client that accepts other types only still gets a ticket, and qualities are ignored. werkzeug's
    `best_match` over the 40 versions takes 165 us, this 0.4 us.
    """
    accepted = _ACCEPTED.search(accept)
    return f"{accepted[0] if accepted else _MEDIA_TYPE}; charset=utf-8"


def render_error(error: Exception, request: Request, subject: str = "") -> Answer:
    """The answer to a request that failed; logs what the operator needs to know.

    `subject`: the dataset, sequence or file that the request names.
    """
    if isinstance(error, HTTPException):
        status = error.code or 500
        answer = _render(request, error_name(status), error.description or error.name, status)
        # Header fields such as Allow.
        answer.fields = {**dict(error.get_headers(request.environ)), **answer.fields}
        return answer
    known = error if isinstance(error, ServiceError) else _to_service_error(error, request, subject)
    answer = _render(request, type(known).__name__, known.message, known.status)
    if known.status == 503:
        answer.fields["Retry-After"] = "5"
    if known.status == 401:
        # RFC 6750 3: no error code for a request without a token.
        has_token = "HTTP_AUTHORIZATION" in request.environ
        answer.fields["WWW-Authenticate"] = 'Bearer error="invalid_token"' if has_token else "Bearer"
    return answer


def log_fault(error: FileFaultError) -> None:
    """Log a fault of a file, for the operator."""
    log.error("%s", error)


def error_name(status: int) -> str:
    """Htsget's error type for an HTTP status."""
    return _NAMES.get(status, "InvalidInput" if status < 500 else "InternalServerError")


def error_answer(name: str, message: str, status: int, *, accept: str = "") -> Answer:
    """An htsget error."""
    body = orjson.dumps({"htsget": {"error": name, "message": message}})
    return answer_with(body, {"Content-Type": media_type(accept)}, status=status)


def _to_service_error(error: Exception, request: Request, subject: str) -> ServiceError:
    if isinstance(error, FileFaultError):
        log_fault(error)
        return InternalServerError(f"{subject!r} cannot be served: {error.reason}")
    if isinstance(error, StorageError):
        log.error("%s", error)
        return (ServiceUnavailable if error.is_passing else InternalServerError)(error.reason)
    reference = secrets.token_hex(6)
    log.error("request %s failed: %s %s", reference, request.method, printable(request.path), exc_info=error)
    return InternalServerError(f"the server failed; its log has the reason under {reference}")


def _render(request: Request, name: str, message: str, status: int) -> Answer:
    if request.path.startswith(REFGET_PATH):
        return answer_with(f"{message}\n".encode(), {"Content-Type": "text/plain; charset=utf-8"}, status=status)
    return error_answer(name, message, status, accept=request.environ.get("HTTP_ACCEPT", ""))
