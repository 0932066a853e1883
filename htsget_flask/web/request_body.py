"""The bodies of requests: read up to a limit, whatever the client or its connection does."""

from typing import TYPE_CHECKING

from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout
from werkzeug.wsgi import get_content_length, get_input_stream

from htsget_flask.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_PIECE = 64 << 10
_MAX_DISCARDED = 16 << 20


def read_body(environ: "WSGIEnvironment", most: int) -> bytes:
    """The whole body of a request.

    Raises:
        RequestEntityTooLarge: when it is longer than `most` bytes (werkzeug's).
        RequestTimeout: when it does not come in time (werkzeug's).
        InvalidInput: when it ends early, or its chunks are not what RFC 9112 7.1 says.
    """
    told = get_content_length(environ)
    if told is not None and told > most:
        raise RequestEntityTooLarge
    # werkzeug's own limit cuts a body in chunks, and says nothing.
    stream, body = get_input_stream(environ), bytearray()
    try:
        while data := stream.read(_PIECE):
            body += data
            if len(body) > most:
                raise RequestEntityTooLarge
    except ParseException as error:
        raise InvalidInput(f"the body is not what its header says: {error}") from None
    except TimeoutError:
        raise RequestTimeout("the body did not come in time") from None
    except OSError:
        raise InvalidInput("the body ends early") from None
    if told is not None and len(body) < told:
        raise InvalidInput("the body ends early")
    return bytes(body)


def discard_body(environ: "WSGIEnvironment") -> None:
    """Take in what the client sends: most clients, and proxies, only then look for an answer."""
    stream, left = get_input_stream(environ), _MAX_DISCARDED
    try:
        while left > 0 and (data := stream.read(_PIECE)):
            left -= len(data)
    except (ParseException, OSError):
        return
