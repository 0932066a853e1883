"""Bytes of files and of memory as conditional and partial answers (RFC 9110)."""

import errno
import logging
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from io import UnsupportedOperation
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from werkzeug.http import parse_range_header, quote_etag
from werkzeug.wsgi import wrap_file

from htsget_flask.errors import FileFaultError, StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile, VersionError
from htsget_flask.web.answer import Answer
from htsget_flask.web.preconditions import failed_precondition, if_range_holds
from htsget_flask.web.sendfile import let_front_send
from htsget_flask.web.views import error_answer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)

OCTETS = "application/octet-stream"

_SMALL = 64 << 10
_PIECE = 1 << 20
# A suffix of length 0 cannot be satisfied (RFC 9110 14.1.2); werkzeug takes it for malformed.
_NO_BYTES = re.compile(r"\s*bytes\s*=\s*-0+\s*", re.IGNORECASE)
# As most clients write it.
_ONE_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")
# They describe the content, which a 304 does not have.
_OF_CONTENT = ("Content-Type", "Last-Modified")


def send_bytes(
    environ: "WSGIEnvironment", data: bytes, *, etag: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Bytes at hand, as a conditional and ranged answer."""
    answer, span = _conditional(environ, len(data), etag, headers)
    if span is not None:
        answer.body = (data[span.start : span.end],)
    return answer


def send_range(
    environ: "WSGIEnvironment",
    file: StoredFile,
    span: ByteRange,
    *,
    etag: str,
    headers: Mapping[str, str] | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> Answer:
    """A range of a file as a resource of its own, as a conditional and ranged answer; closes the file.

    `before` and `after` are bytes of the resource that are not the file's. The file is unbuffered: a server that can
    hands its descriptor to the kernel, already at the right offset. Or the web server in front is told to send it.
    """
    try:
        answer, part = _conditional(environ, len(before) + len(span) + len(after), etag, headers)
        if part is None or environ["REQUEST_METHOD"] == "HEAD":
            file.close()
            return answer
        attach(environ, answer, file, span, part, before=before, after=after)
    except BaseException:
        file.close()
        raise
    return answer


def _is_gunicorn(environ: "WSGIEnvironment") -> bool:
    """Whether the server hands files to the kernel, as they are at their offset and as long as the header says."""
    return bool(environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"))


def _has_descriptor(file: StoredFile) -> bool:
    try:
        file.fileno()
    except UnsupportedOperation:
        return False
    return True


def attach(
    environ: "WSGIEnvironment",
    answer: Answer,
    file: StoredFile,
    span: ByteRange,
    part: ByteRange,
    *,
    before: bytes = b"",
    after: bytes = b"",
) -> None:
    """Give an answer its body: a part of what a range of the file is, between other bytes; closes the file.

    The answer's header fields are complete; `part` counts from the first byte of `before`.
    """
    if len(part) > _SMALL and not (before or after) and let_front_send(environ, answer, file, span):
        file.close()
        return
    start, end = part.start - len(before), part.end - len(before)
    before, after = before[part.start : part.end], after[max(0, start - len(span)) : max(0, end - len(span))]
    start, end = min(max(0, start), len(span)), min(max(0, end), len(span))
    buffers = chain((before,), file.stream(ByteRange(span.start + start, span.start + end)), (after,))
    if len(part) <= _SMALL:
        with file:
            answer.body = (b"".join(buffers),)
    elif not before and not after and _is_gunicorn(environ) and _has_descriptor(file):
        answer.body = wrap_file(environ, _Sent(file, span.start + end), _PIECE)  # type: ignore[arg-type]
    else:
        answer.body = Streamed(buffers, file.close)


def send_stream(
    environ: "WSGIEnvironment", pieces: Generator[bytes], *, headers: Mapping[str, str] | None = None
) -> Answer:
    """Bytes that are made as they are sent, whose number is not known: no part of them can be asked for."""
    fields = {"Content-Type": OCTETS, "Accept-Ranges": "none", **(headers or {})}
    if environ["REQUEST_METHOD"] == "HEAD":
        return Answer(200, fields)
    # What is wrong with the file shows before the answer has begun.
    return Answer(200, fields, Streamed(chain((next(pieces, b""),), pieces), pieces.close))


class Streamed:
    """A body that is read or made while it is sent: what fails then ends the connection, or the client would wait."""

    def __init__(self, pieces: Iterable[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except (StorageError, VersionError, FileFaultError, OSError) as error:
            log.error("a file was cut short while it was sent: %s", error)
            raise ConnectionResetError(errno.ECONNRESET, "the file was cut short") from None


class _Sent:
    """A file that the kernel sends: when it was cut short meanwhile, the connection has to end, or the client waits."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.fileno = file.fileno
        self.seek = file.seek
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


def _conditional(
    environ: "WSGIEnvironment", length: int, etag: str, headers: Mapping[str, str] | None
) -> tuple[Answer, ByteRange | None]:
    """The answer without its body, and which part of a resource of `length` bytes that body is.

    None for a body that is not sent. Last-Modified, where `headers` has it, is a validator too. RFC 9110: preconditions
    come before Range (section 13.2.2); a Range of another unit, malformed or of several parts is ignored (14.2), one
    that lies behind the end is answered with 416.
    """
    fields = {"Content-Type": OCTETS, "Accept-Ranges": "bytes", "ETag": quote_etag(etag), **(headers or {})}
    last_modified = fields.get("Last-Modified")
    status = failed_precondition(environ, etag=etag, last_modified=last_modified)
    if status == 412:
        return error_answer("InvalidInput", "the precondition failed", 412), None
    if status == 304:
        return Answer(304, {name: value for name, value in fields.items() if name not in _OF_CONTENT}), None
    span = _requested(environ, length, etag, last_modified)
    if span is None:
        fields["Content-Length"] = str(length)
        return Answer(200, fields), ByteRange(0, length)
    if span.start >= length:
        answer = error_answer("InvalidRange", "the range lies behind the end", 416)
        answer.fields |= {"Content-Range": f"bytes */{length}", "Accept-Ranges": "bytes"}
        return answer, None
    fields["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{length}"
    fields["Content-Length"] = str(len(span))
    return Answer(206, fields), span


def _requested(environ: "WSGIEnvironment", length: int, etag: str, last_modified: str | None) -> ByteRange | None:
    """The part that the request's Range names, clipped to the resource; None when it names none that is heeded."""
    asked: str | None = environ.get("HTTP_RANGE")
    if asked is None or environ["REQUEST_METHOD"] != "GET":
        return None
    wanted = _parsed(asked, length)
    return wanted if if_range_holds(environ, etag=etag, last_modified=last_modified) else None


def _parsed(asked: str, length: int) -> ByteRange | None:
    """What a Range header names of a resource of `length` bytes; None when it is of no kind that is heeded."""
    if (found := _ONE_RANGE.fullmatch(asked)) and (first := int(found[1])) <= (last := int(found[2])):
        return ByteRange(first, max(first, min(last + 1, length)))
    if _NO_BYTES.fullmatch(asked):
        return ByteRange(length, length)
    wanted = parse_range_header(asked)
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    start, end = wanted.ranges[0]
    if start < 0:
        return ByteRange(max(0, length + start), length) if length else None
    return ByteRange(start, max(start, length if end is None else min(end, length)))
