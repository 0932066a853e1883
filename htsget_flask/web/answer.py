"""Answers as values: what a view makes of a request, before a framework or a server has it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# No browser is to take data for something else: what is in a file may be a script.
_ANSWERS = (("X-Content-Type-Options", "nosniff"),)
# HSTS (RFC 6797): for a year browsers use https alone.
_SECURE_ANSWERS = (*_ANSWERS, ("Strict-Transport-Security", "max-age=31536000"))

_STATUS_LINES = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}


@dataclass(slots=True)
class Answer:
    """A status, header fields by their names, and a body, which is closed by who sends it; a WSGI application."""

    status: int
    fields: dict[str, str]
    body: Iterable[bytes] = ()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Give the answer to a WSGI server."""
        start_response(_STATUS_LINES[self.status], [*self.fields.items(), *common_fields(environ)])
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.body


def common_fields(environ: "WSGIEnvironment") -> Sequence[tuple[str, str]]:
    """The header fields of every answer to a request that came as this one did."""
    return _SECURE_ANSWERS if environ["wsgi.url_scheme"] == "https" else _ANSWERS


def answer_with(data: bytes, fields: Mapping[str, str], *, status: int = 200) -> Answer:
    """An answer whose body is at hand; `fields` lack only its length."""
    return Answer(status, {**fields, "Content-Length": str(len(data))}, (data,))
