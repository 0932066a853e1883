"""Answers as values: what a view makes of a request, independent of any framework or server."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]

_STATUS_LINES = {int(status): f"{int(status)} {status.phrase.upper()}" for status in HTTPStatus}
# Browsers must not guess a content type: a data file may contain a script.
_COMMON_FIELDS = (("X-Content-Type-Options", "nosniff"),)
# HSTS (RFC 6797): browsers use https alone for a year. A web server in front that ends TLS sends its own instead.
_COMMON_HTTPS_FIELDS = (*_COMMON_FIELDS, ("Strict-Transport-Security", "max-age=31536000"))


@dataclass(slots=True)
class Answer:
    """A status, header fields by name, and a body, which the server closes; itself a WSGI application."""

    status: int
    fields: dict[str, str]
    body: Iterable[bytes] = ()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Send the answer through a WSGI server."""
        start_response(_STATUS_LINES[self.status], [*self.fields.items(), *common_fields(environ)])
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.body


def common_fields(environ: Environ) -> Sequence[tuple[str, str]]:
    """The header fields of every answer over the request's scheme."""
    return _COMMON_HTTPS_FIELDS if environ["wsgi.url_scheme"] == "https" else _COMMON_FIELDS


def answer_with(data: bytes, fields: Mapping[str, str], *, status: int = 200) -> Answer:
    """An answer with a body in memory; adds Content-Length to `fields`."""
    return Answer(status, {**fields, "Content-Length": str(len(data))}, (data,))
