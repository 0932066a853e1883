"""A proxy between an HTTP/1.1 client and server that counts requests, delays them and injects faults.

All other requests pass through unchanged, with their Host, path and headers, so that S3's signatures stay valid.
"""

import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import urlsplit

_BUFFER_SIZE = 1 << 16
_TIMEOUT = 60.0


# ---------------------------------------------------------------------------------------------------------------------
# Messages
# ---------------------------------------------------------------------------------------------------------------------


def _read_head(stream: BinaryIO) -> bytes:
    """A message up to the empty line after its header; b"" at the end of the connection."""
    lines = []
    while (line := stream.readline(_BUFFER_SIZE)) not in (b"\r\n", b""):
        lines.append(line)
    if not line:
        return b""
    return b"".join([*lines, line])


def _fields(head: bytes) -> dict[str, str]:
    """The header fields, with names in lower case."""
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:-2])
    return {name.lower(): value.strip() for name, _, value in pairs}


def _read_body(stream: BinaryIO, fields: Mapping[str, str], *, to_end: bool = False) -> Iterator[bytes]:
    """The body in buffers, as it is sent; without a length it is empty, or with `to_end` ends with the connection."""
    if "chunked" in fields.get("transfer-encoding", ""):
        while True:
            line = stream.readline(_BUFFER_SIZE)
            yield line + stream.read(int(line.partition(b";")[0], 16) + 2)
            if line.startswith(b"0"):
                return
    remaining = float(fields.get("content-length", "inf" if to_end else "0"))
    while remaining > 0 and (buffer := stream.read1(int(min(remaining, _BUFFER_SIZE)))):  # type: ignore[attr-defined]
        yield buffer
        remaining -= len(buffer)
    if 0 < remaining < float("inf"):
        raise ConnectionError("the connection ended within a message")


@dataclass(frozen=True)
class Request:
    """A received request; the names of `headers` are in lower case, `time` is its arrival by `time.monotonic`."""

    method: str
    target: str
    headers: Mapping[str, str]
    time: float


class Reply(NamedTuple):
    """The server's answer: its head up to the empty line, the buffers of its body, and whether another may follow."""

    head: bytes
    body: Iterator[bytes]
    stays_open: bool


class Exchange:
    """One request to be answered: `pass_on` forwards it to the server, `send` sends bytes to the client."""

    def __init__(
        self,
        request: Request,
        message: bytes,
        client: socket.socket,
        server: "_Server",
        on_sent: Callable[[int], None],
    ) -> None:
        self.request = request
        self._message = message
        self._client = client
        self._server = server
        self._on_sent = on_sent

    def pass_on(self) -> Reply:
        """The server's answer."""
        return self._server.ask(self.request, self._message)

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._client.sendall(data)
        self._on_sent(len(data))

    def reset(self) -> None:
        """Drop the connection to the client and all unsent bytes."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait_for_client(self) -> None:
        """Wait until the client closes the connection."""
        while self._client.recv(_BUFFER_SIZE):
            pass


class _Server:
    """A connection to the server, opened on demand and again after it was closed."""

    def __init__(self, address: tuple[str, int], sockets: "_Sockets") -> None:
        self._address = address
        self._sockets = sockets
        self._connection: socket.socket | None = None
        self._stream: BinaryIO | None = None

    def ask(self, request: Request, message: bytes) -> Reply:
        """The answer to a request; the request is sent again if an idle connection turns out to be closed."""
        is_reused = self._stream is not None
        head = self._try(message)
        if not head and is_reused:
            self.close()
            head = self._try(message)
        if not head:
            raise ConnectionError("the server closed the connection")
        status, fields = int(head.split(b" ", 2)[1]), _fields(head)
        is_closing = "close" in (fields.get("connection"), request.headers.get("connection"))
        if request.method == "HEAD" or status in (204, 304):
            return Reply(head, iter(()), not is_closing)
        assert self._stream is not None
        is_framed = bool({"content-length", "transfer-encoding"} & fields.keys())
        return Reply(head, _read_body(self._stream, fields, to_end=True), is_framed and not is_closing)

    def _try(self, message: bytes) -> bytes:
        """The head of the answer to a message; b"" if the server closes the connection instead."""
        if self._connection is None:
            self._connection = socket.create_connection(self._address, timeout=_TIMEOUT)
            self._sockets.add(self._connection)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stream = self._connection.makefile("rb")
        assert self._stream is not None
        try:
            self._connection.sendall(message)
            while (head := _read_head(self._stream)).startswith(b"HTTP/1.1 100"):
                pass
        except ConnectionError:
            return b""
        return head

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and self._stream is not None:
            self._stream.close()
            self._sockets.discard(self._connection)
            self._connection.close()
        self._connection = self._stream = None


# ---------------------------------------------------------------------------------------------------------------------
# Faults
# ---------------------------------------------------------------------------------------------------------------------


class Fault(Protocol):
    """How the proxy treats a request."""

    def answer(self, exchange: Exchange) -> bool:
        """Answer the request or not; whether the connection stays open for the next one."""
        ...


class _None:
    """No fault."""

    def answer(self, exchange: Exchange) -> bool:
        head, body, stays_open = exchange.pass_on()
        for buffer in body:
            # Small answers are one segment.
            exchange.send(head + buffer)
            head = b""
        if head:
            exchange.send(head)
        return stays_open


@dataclass(frozen=True)
class Answer:
    """A status from the proxy itself, with S3's error XML if there is a code; HEAD has no body."""

    status: int
    code: str = ""

    def answer(self, exchange: Exchange) -> bool:
        body = ""
        if self.code:
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f"<Error><Code>{self.code}</Code><Message>A fault of the tests.</Message>"
                "<RequestId>TESTTESTTESTTEST</RequestId><HostId>test</HostId></Error>"
            )
        fields = {"Content-Type": "application/xml", "Content-Length": len(body), "Server": "AmazonS3"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        text = f"HTTP/1.1 {self.status} Fault\r\n{head}\r\n{'' if exchange.request.method == 'HEAD' else body}"
        exchange.send(text.encode())
        return True


SLOW_DOWN = Answer(503, "SlowDown")
INTERNAL_ERROR = Answer(500, "InternalError")
REQUEST_TIMEOUT = Answer(400, "RequestTimeout")
EXPIRED_TOKEN = Answer(400, "ExpiredToken")
INVALID_ACCESS_KEY_ID = Answer(403, "InvalidAccessKeyId")
ACCESS_DENIED = Answer(403, "AccessDenied")
NO_SUCH_BUCKET = Answer(404, "NoSuchBucket")
NO_SUCH_KEY = Answer(404, "NoSuchKey")
INVALID_OBJECT_STATE = Answer(403, "InvalidObjectState")
REQUEST_TIME_TOO_SKEWED = Answer(403, "RequestTimeTooSkewed")
TOO_MANY_REQUESTS = Answer(429)
UNAVAILABLE = Answer(503)


@dataclass(frozen=True)
class Close:
    """The connection ends before any answer."""

    def answer(self, exchange: Exchange) -> bool:
        return False


@dataclass(frozen=True)
class Garbage:
    """Bytes that are not HTTP."""

    def answer(self, exchange: Exchange) -> bool:
        exchange.send(b"\x15\x03\x01\x00\x02\x02\x50 this is not HTTP\r\n\r\n")
        return False


@dataclass(frozen=True)
class Stall:
    """No answer until the client gives up."""

    def answer(self, exchange: Exchange) -> bool:
        exchange.wait_for_client()
        return False


def _send_part(exchange: Exchange, after: int, *, without_length: bool = False) -> None:
    """Send the server's answer with only the first `after` bytes of its body."""
    head, body, _ = exchange.pass_on()
    exchange.send(_rewrite(head, {"content-length": None, "connection": "close"}) if without_length else head)
    for buffer in body:
        exchange.send(buffer[:after])
        after -= len(buffer)
        if after <= 0:
            return


@dataclass(frozen=True)
class Cut:
    """The server's answer, but the connection is reset after N bytes of the body; the last of them may be lost."""

    after: int = 0

    def answer(self, exchange: Exchange) -> bool:
        _send_part(exchange, self.after)
        exchange.reset()
        return False


@dataclass(frozen=True)
class Truncate:
    """The server's answer, but the connection is closed properly after N bytes of the body.

    `announced`: Content-Length announces the whole body; without it only a client that knows the length notices.
    """

    after: int = 0
    announced: bool = True

    def answer(self, exchange: Exchange) -> bool:
        _send_part(exchange, self.after, without_length=not self.announced)
        return False


@dataclass(frozen=True)
class StallInBody:
    """The server's answer, but it stops after N bytes of the body until the client gives up."""

    after: int = 0

    def answer(self, exchange: Exchange) -> bool:
        _send_part(exchange, self.after)
        exchange.wait_for_client()
        return False


@dataclass(frozen=True)
class IgnoreRange:
    """Status 200 and the whole object, given as `content`, whatever range was requested."""

    content: bytes

    def answer(self, exchange: Exchange) -> bool:
        head = exchange.pass_on().head
        fields = {"content-length": str(len(self.content)), "content-range": None, "connection": "close"}
        _, _, rest = _rewrite(head, fields).partition(b"\r\n")
        exchange.send(b"HTTP/1.1 200 OK\r\n" + rest + self.content)
        return False


@dataclass(frozen=True)
class InArchive:
    """Objects in the archive, namely those whose keys end with `name`.

    Lists and HEAD report their storage class, HEAD also these `fields`, and GET is refused.
    """

    name: str
    storage_class: str = "GLACIER"
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def _is_readable(self) -> bool:
        return 'ongoing-request="false"' in self.fields.get("x-amz-restore", "")

    def answer(self, exchange: Exchange) -> bool:
        request = exchange.request
        is_archived = urlsplit(request.target).path.endswith(self.name)
        if is_archived and request.method == "GET" and not self._is_readable:
            return INVALID_OBJECT_STATE.answer(exchange)
        head, body, stays_open = exchange.pass_on()
        content = b"".join(body)
        changes = {"x-amz-storage-class": self.storage_class, **self.fields} if is_archived else {}
        if "list-type=2" in request.target:
            content = re.sub(rb"<Contents>.*?</Contents>", self._rewrite_entry, content)
            changes["content-length"] = str(len(content))
        exchange.send(_rewrite(head, changes) + content)
        return stays_open

    def _rewrite_entry(self, entry: re.Match[bytes]) -> bytes:
        if f"{self.name}</Key>".encode() not in entry[0]:
            return entry[0]
        element = f"<StorageClass>{self.storage_class}</StorageClass>".encode()
        new_entry, count = re.subn(rb"<StorageClass>.*?</StorageClass>", element, entry[0])
        assert count == 1
        return new_entry


def _rewrite(head: bytes, changes: Mapping[str, str | None]) -> bytes:
    """A head with new values of some fields; None removes a field."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    unchanged = [line for line in lines if line.partition(":")[0].lower() not in changes]
    new = [f"{name}: {value}" for name, value in changes.items() if value is not None]
    return "\r\n".join([first, *unchanged, *new, "", ""]).encode("latin-1")


Rule = Callable[[Request], Fault | None]
"""The fault of a request; None: the next rule decides."""


def _every(_: Request) -> bool:
    return True


def next_ones(*faults: Fault, when: Callable[[Request], bool] = _every) -> Rule:
    """The next requests for which `when` holds have these faults, one each; later ones have none."""
    remaining = list(faults)

    def rule(request: Request) -> Fault | None:
        return remaining.pop(0) if remaining and when(request) else None

    return rule


def always(fault: Fault, *, when: Callable[[Request], bool] = _every) -> Rule:
    """All requests for which `when` holds have this fault."""
    return lambda request: fault if when(request) else None


def at_random(rate: float, faults: Sequence[Fault], *, seed: int, when: Callable[[Request], bool] = _every) -> Rule:
    """A fraction of the requests for which `when` holds has one of these faults."""
    rng = random.Random(seed)
    return lambda request: rng.choice(faults) if when(request) and rng.random() < rate else None


# ---------------------------------------------------------------------------------------------------------------------
# The proxy
# ---------------------------------------------------------------------------------------------------------------------


class _Sockets:
    """The open connections of a proxy, so that it can end them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._is_closed = False

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
            if self._is_closed:
                self._shut_down(connection)

    def discard(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def shut_down(self) -> None:
        """End all connections, also those added later, so that no thread waits for one of them."""
        with self._lock:
            self._is_closed = True
            for connection in self._sockets:
                self._shut_down(connection)

    @staticmethod
    def _shut_down(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class FaultyProxy:
    """A running proxy.

    The first of the `rules` that returns a fault decides about a request; one thread at a time evaluates them.
    `latency` delays each request, in seconds. Since `clear`, `faults` requests had a fault and `sent` bytes went to
    clients. `under_way` requests are being answered.
    """

    def __init__(self, url: str, address: tuple[str, int]) -> None:
        self.url = url
        self.latency = 0.0
        self.rules: list[Rule] = []
        self.faults = 0
        self.sent = 0
        self.under_way = 0
        self._closing = threading.Event()
        self._sockets = _Sockets()
        self._failures: list[BaseException] = []
        self._address = address
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    @property
    def requests(self) -> list[Request]:
        """The requests since `clear`, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the requests; the rules stay."""
        with self._lock:
            self._requests.clear()
            self.faults = 0
            self.sent = 0

    def connect(self, client: socket.socket) -> None:
        """Answer the requests of one connection."""
        server = _Server(self._address, self._sockets)
        self._sockets.add(client)
        try:
            with client.makefile("rb") as stream:
                while self._answer_next(stream, client, server):
                    pass
        except OSError:
            # The client or the server closed the connection.
            pass
        finally:
            server.close()
            self._sockets.discard(client)

    def _answer_next(self, stream: BinaryIO, client: socket.socket, server: _Server) -> bool:
        head = _read_head(stream)
        if not head:
            return False
        method, target, _ = head.decode("latin-1").split(" ", 2)
        request = Request(method, target, _fields(head), time.monotonic())
        if request.headers.get("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b"".join(_read_body(stream, request.headers))
        with self._lock:
            self._requests.append(request)
            fault = next(filter(None, (rule(request) for rule in self.rules)), None)
            self.faults += fault is not None
            self.under_way += 1
        try:
            self._closing.wait(self.latency)
            return (fault or _None()).answer(Exchange(request, head + body, client, server, self._note_sent))
        finally:
            with self._lock:
                self.under_way -= 1

    def _note_sent(self, count: int) -> None:
        with self._lock:
            self.sent += count


class _Listener(socketserver.ThreadingTCPServer):
    """Accepts the connections of a proxy, each in a separate thread."""

    request_queue_size = 256
    disable_nagle_algorithm = True
    proxy: FaultyProxy

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(_TIMEOUT)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.proxy.connect(request)
        except Exception as error:
            self.proxy._failures.append(error)

    def shutdown_request(self, request: object) -> None:
        # Without the shutdown of the base class: it would send bytes that a reset must drop.
        self.close_request(request)  # type: ignore[arg-type]


@contextmanager
def faulty_proxy(url: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the server with this URL until the end of the context; it leaves no thread or socket.

    Raises:
        Exception: the proxy itself failed.

    """
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    with _Listener(("127.0.0.1", 0), socketserver.BaseRequestHandler) as listener:
        proxy = listener.proxy = FaultyProxy(
            f"http://127.0.0.1:{listener.server_address[1]}", (parts.hostname, parts.port)
        )
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown()
            thread.join()
            proxy._closing.set()
            proxy._sockets.shut_down()
    if proxy._failures:
        raise proxy._failures[0]
