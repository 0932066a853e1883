"""Bodies: the bytes of files and of memory as conditional and partial answers (RFC 9110 sections 13 and 14)."""

import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from io import UnsupportedOperation
from itertools import chain

from werkzeug.http import quote_etag
from werkzeug.wsgi import wrap_file

from htsget_flask.errors import FileFaultError, StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile, VersionError
from htsget_flask.web.answer import Answer, Environ
from htsget_flask.web.byte_ranges import parse_range
from htsget_flask.web.errors import error_answer
from htsget_flask.web.preconditions import failed_precondition, if_range_holds
from htsget_flask.web.sendfile import let_front_send

log = logging.getLogger(__name__)

OCTETS = "application/octet-stream"

_SMALL = 64 << 10
_BUFFER_SIZE = 1 << 20
# They describe the content, which a 304 does not have.
_CONTENT_FIELDS = ("Content-Type", "Last-Modified")

Edges = tuple[bytes, bytes]
_NO_EDGES = (b"", b"")


def send_bytes(environ: Environ, data: bytes, *, etag: str, headers: Mapping[str, str]) -> Answer:
    """Bytes in memory, as a conditional and ranged answer."""
    answer, part = _evaluate(environ, len(data), etag, headers)
    if part is not None:
        answer.body = (data[part.start : part.end],)
    return answer


def send_range(
    environ: Environ, file: StoredFile, span: ByteRange, etag: str, headers: Mapping[str, str], edges: Edges = _NO_EDGES
) -> Answer:
    """A range of a file as a resource, in a conditional and ranged answer; closes the file.

    `edges`: the bytes of the resource before and after those of the file.
    """
    try:
        answer, part = _evaluate(environ, len(edges[0]) + len(span) + len(edges[1]), etag, headers)
        if part is None or environ["REQUEST_METHOD"] == "HEAD":
            file.close()
        else:
            attach(environ, answer, file, span, part, edges)
    except BaseException:
        file.close()
        raise
    return answer


def attach(
    environ: Environ, answer: Answer, file: StoredFile, span: ByteRange, part: ByteRange, edges: Edges = _NO_EDGES
) -> None:
    """Give an answer its body, a part of a resource: a range of the file between its `edges`; closes the file.

    The answer's header fields are complete; `part` counts from the first byte of the resource. The web server in front
    sends the body where it can, then the kernel.
    """
    before, after = edges
    if len(part) > _SMALL and not (before or after) and let_front_send(environ, answer, file, span):
        file.close()
        return
    start, end = part.start - len(before), part.end - len(before)
    before, after = before[part.start : part.end], after[max(0, start - len(span)) : max(0, end - len(span))]
    start, end = min(max(0, start), len(span)), min(max(0, end), len(span))
    # The file's offset is then at the first byte: the kernel sends from there.
    buffers = chain((before,), file.stream(ByteRange(span.start + start, span.start + end)), (after,))
    if len(part) <= _SMALL:
        with file:
            answer.body = (b"".join(buffers),)
    elif not before and not after and _kernel_can_send(environ, file):
        answer.body = wrap_file(environ, _KernelFile(file, span.start + end), _BUFFER_SIZE)  # type: ignore[arg-type]
    else:
        answer.body = Streamed(buffers, file.close)


class Streamed:
    """A body that is read or produced while it is sent: a failure ends the connection, or the client would wait.

    The first buffer is read at once: a fault of the file is raised before the answer starts.
    """

    def __init__(self, buffers: Iterator[bytes], close: Callable[[], None]) -> None:
        self._buffers = chain((next(buffers, b""),), buffers)
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._buffers
        except (StorageError, VersionError, FileFaultError, OSError) as error:
            log.error("a file was cut short while it was sent: %s", error)
            raise ConnectionResetError(errno.ECONNRESET, "the file was cut short") from None


class _KernelFile:
    """A file that the kernel sends: if it is truncated meanwhile, the connection ends, or the client would wait."""

    def __init__(self, file: StoredFile, end: int) -> None:
        self.fileno = file.fileno
        self.seek = file.seek
        self._file = file
        self._end = end

    def read(self, size: int) -> bytes:
        """The rest, at most `size` bytes: gunicorn reads where the kernel cannot send, as with TLS."""
        return self._file.read(max(0, min(size, self._end - self._file.tell())))

    def close(self) -> None:
        with self._file:
            size = os.fstat(self._file.fileno()).st_size
        if size < self._end:
            log.error("a file was cut short while it was sent: %d bytes are missing", self._end - size)
            raise ConnectionResetError(errno.ECONNRESET, "the file was cut short")


def _kernel_can_send(environ: Environ, file: StoredFile) -> bool:
    """Whether the server is gunicorn, which sends Content-Length bytes from the offset, and the file is local."""
    try:
        return bool(environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/")) and file.fileno() >= 0
    except UnsupportedOperation:
        return False


def _evaluate(environ: Environ, length: int, etag: str, headers: Mapping[str, str]) -> tuple[Answer, ByteRange | None]:
    """The answer without its body, and the part of a resource of `length` bytes that the body is; None for no body.

    Preconditions are evaluated before Range (RFC 9110 section 13.2.2). Last-Modified, where `headers` has it, is a
    validator too. A range that starts after the end is answered with 416.
    """
    fields = {"Content-Type": OCTETS, "Accept-Ranges": "bytes", "ETag": quote_etag(etag), **headers}
    last_modified = fields.get("Last-Modified")
    status = failed_precondition(environ, etag=etag, last_modified=last_modified)
    if status == 412:
        return error_answer("InvalidInput", "the precondition failed", 412), None
    if status == 304:
        return Answer(304, {name: value for name, value in fields.items() if name not in _CONTENT_FIELDS}), None
    is_ranged = "HTTP_RANGE" in environ and environ["REQUEST_METHOD"] == "GET"
    part = parse_range(environ, length) if is_ranged else None
    if part is None or not if_range_holds(environ, etag=etag, last_modified=last_modified):
        fields["Content-Length"] = str(length)
        return Answer(200, fields), ByteRange(0, length)
    if part.start >= length:
        answer = error_answer("InvalidRange", "the range starts after the end", 416)
        answer.fields |= {"Content-Range": f"bytes */{length}", "Accept-Ranges": "bytes"}
        return answer, None
    fields["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{length}"
    fields["Content-Length"] = str(len(part))
    return Answer(206, fields), part
