"""The bodies of requests: read up to a limit; every failure of a client or its connection is an HTTP error."""

import contextlib

from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout
from werkzeug.wsgi import get_content_length, get_input_stream

from htsget_flask.errors import InvalidInput
from htsget_flask.web.answer import Environ

_BUFFER_SIZE = 64 << 10
_MAX_DISCARDED = 16 << 20


def read_body(environ: Environ, limit: int) -> bytes:
    """The whole body of a request.

    Raises:
        RequestEntityTooLarge: if it is longer than `limit` bytes (werkzeug's).
        RequestTimeout: if it does not arrive in time (werkzeug's).
        InvalidInput: if it ends early, or its chunks violate RFC 9112 7.1.
    """
    length = get_content_length(environ)
    if length is not None and length > limit:
        raise _too_large(environ, limit)
    # werkzeug's own limit silently truncates a chunked body.
    stream, body = get_input_stream(environ), bytearray()
    try:
        while data := stream.read(_BUFFER_SIZE):
            body += data
            if len(body) > limit:
                raise _too_large(environ, limit)
    except ParseException as error:
        raise InvalidInput(f"the body does not match its header: {error}") from None
    except TimeoutError:
        raise RequestTimeout("the body did not arrive in time") from None
    except OSError:
        raise InvalidInput("the body ends early") from None
    if length is not None and len(body) < length:
        raise InvalidInput("the body ends early")
    return bytes(body)


def _too_large(environ: Environ, limit: int) -> RequestEntityTooLarge:
    """The error for a body over the limit; discards the rest, as most clients and proxies only then read an answer."""
    stream, left = get_input_stream(environ), _MAX_DISCARDED
    with contextlib.suppress(ParseException, OSError):
        while left > 0 and (data := stream.read(_BUFFER_SIZE)):
            left -= len(data)
    return RequestEntityTooLarge(f"the body is longer than this server accepts: {limit} bytes")
