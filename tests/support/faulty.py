"""A proxy between a client and a server of HTTP/1.1, which counts requests, delays them and breaks some.

What it does not break it passes on as it came, Host, path and headers, so that S3's signatures stay valid.
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

_PIECE = 1 << 16
_TIMEOUT = 60.0


# ---------------------------------------------------------------------------------------------------------------------
# Messages
# ---------------------------------------------------------------------------------------------------------------------


def _read_head(stream: BinaryIO) -> bytes:
    """A message up to the empty line behind its header; b"" at the end of the connection."""
    lines = []
    while (line := stream.readline(_PIECE)) not in (b"\r\n", b""):
        lines.append(line)
    if not line:
        return b""
    return b"".join([*lines, line])


def _fields(head: bytes) -> dict[str, str]:
    """The header, its names in lower case."""
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:-2])
    return {name.lower(): value.strip() for name, _, value in pairs}


def _read_body(stream: BinaryIO, fields: Mapping[str, str], *, to_end: bool = False) -> Iterator[bytes]:
    """The body in pieces, as it is sent; without a length there is none, or it goes `to_end` of the connection."""
    if "chunked" in fields.get("transfer-encoding", ""):
        while True:
            line = stream.readline(_PIECE)
            yield line + stream.read(int(line.partition(b";")[0], 16) + 2)
            if line.startswith(b"0"):
                return
    left = float(fields.get("content-length", "inf" if to_end else "0"))
    while left > 0 and (piece := stream.read1(int(min(left, _PIECE)))):  # type: ignore[attr-defined]
        yield piece
        left -= len(piece)
    if 0 < left < float("inf"):
        raise ConnectionError("the connection ended in a message")


@dataclass(frozen=True)
class Request:
    """A request as it came; the names of `headers` are in lower case, `time` is that of `time.monotonic`."""

    method: str
    target: str
    headers: Mapping[str, str]
    time: float


class Reply(NamedTuple):
    """The server's answer: its head up to the empty line, the pieces of its body, and whether another may follow."""

    head: bytes
    body: Iterator[bytes]
    stays_open: bool


class Exchange:
    """One request, whose answer is to be made: `pass_on` asks the server, `send` sends to the client."""

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
        """Drop the connection to the client, and what is still on its way."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait_for_client(self) -> None:
        """Wait until the client gives up."""
        while self._client.recv(_PIECE):
            pass


class _Server:
    """A connection to the server, made when it is needed and again when it was closed."""

    def __init__(self, address: tuple[str, int], sockets: "_Sockets") -> None:
        self._address = address
        self._sockets = sockets
        self._connection: socket.socket | None = None
        self._stream: BinaryIO | None = None

    def ask(self, request: Request, message: bytes) -> Reply:
        """The answer to a request, which is sent again when a connection that was kept turns out to be closed."""
        is_kept = self._stream is not None
        head = self._try(message)
        if not head and is_kept:
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
        """The head of the answer to a message, b"" when the server closes the connection instead."""
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
    """What becomes of a request."""

    def answer(self, exchange: Exchange) -> bool:
        """Answer it, or do not; whether the connection stays open for the next one."""
        ...


class _None:
    """No fault."""

    def answer(self, exchange: Exchange) -> bool:
        head, body, stays_open = exchange.pass_on()
        for piece in body:
            # Small answers in one segment.
            exchange.send(head + piece)
            head = b""
        if head:
            exchange.send(head)
        return stays_open


@dataclass(frozen=True)
class Answer:
    """A status of the proxy's own, with S3's error XML if there is a code; HEAD has no body."""

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
    """Bytes that are no HTTP."""

    def answer(self, exchange: Exchange) -> bool:
        exchange.send(b"\x15\x03\x01\x00\x02\x02\x50 this is no HTTP\r\n\r\n")
        return False


@dataclass(frozen=True)
class Stall:
    """No answer, until the client gives up."""

    def answer(self, exchange: Exchange) -> bool:
        exchange.wait_for_client()
        return False


def _send_some(exchange: Exchange, after: int, *, without_length: bool = False) -> None:
    """Send the server's answer up to `after` bytes of its body."""
    head, body, _ = exchange.pass_on()
    exchange.send(_rewritten(head, {"content-length": None, "connection": "close"}) if without_length else head)
    for piece in body:
        exchange.send(piece[:after])
        after -= len(piece)
        if after <= 0:
            return


@dataclass(frozen=True)
class Cut:
    """The server's answer, but the connection is reset after some bytes of the body; the last of them may be lost."""

    after: int = 0

    def answer(self, exchange: Exchange) -> bool:
        _send_some(exchange, self.after)
        exchange.reset()
        return False


@dataclass(frozen=True)
class Truncate:
    """The server's answer, but the connection is closed in order after some bytes of the body.

    `announced` is whether a Content-Length tells of more; else only who knows how much must come sees that it is less.
    """

    after: int = 0
    announced: bool = True

    def answer(self, exchange: Exchange) -> bool:
        _send_some(exchange, self.after, without_length=not self.announced)
        return False


@dataclass(frozen=True)
class StallInBody:
    """The server's answer, but after some bytes of the body nothing more, until the client gives up."""

    after: int = 0

    def answer(self, exchange: Exchange) -> bool:
        _send_some(exchange, self.after)
        exchange.wait_for_client()
        return False


@dataclass(frozen=True)
class IgnoreRange:
    """The whole object with status 200, whatever range was asked for; the server cannot tell it, so `content` does."""

    content: bytes

    def answer(self, exchange: Exchange) -> bool:
        head = exchange.pass_on().head
        fields = {"content-length": str(len(self.content)), "content-range": None, "connection": "close"}
        _, _, rest = _rewritten(head, fields).partition(b"\r\n")
        exchange.send(b"HTTP/1.1 200 OK\r\n" + rest + self.content)
        return False


@dataclass(frozen=True)
class InArchive:
    """An object in the archive: lists and HEAD tell its class, `fields` go with HEAD, and GET is refused.

    It is each object whose key ends with `name`.
    """

    name: str
    storage_class: str = "GLACIER"
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def _is_readable(self) -> bool:
        return 'ongoing-request="false"' in self.fields.get("x-amz-restore", "")

    def answer(self, exchange: Exchange) -> bool:
        request = exchange.request
        is_list, is_meant = "list-type=2" in request.target, urlsplit(request.target).path.endswith(self.name)
        if is_meant and request.method == "GET" and not self._is_readable:
            return INVALID_OBJECT_STATE.answer(exchange)
        head, body, stays_open = exchange.pass_on()
        content = b"".join(body)
        changes = {"x-amz-storage-class": self.storage_class, **self.fields} if is_meant else {}
        if is_list:
            content = re.sub(rb"<Contents>.*?</Contents>", self._listed, content)
            changes["content-length"] = str(len(content))
        exchange.send(_rewritten(head, changes) + content)
        return stays_open

    def _listed(self, entry: re.Match[bytes]) -> bytes:
        if f"{self.name}</Key>".encode() not in entry[0]:
            return entry[0]
        told = f"<StorageClass>{self.storage_class}</StorageClass>".encode()
        changed, count = re.subn(rb"<StorageClass>.*?</StorageClass>", told, entry[0])
        assert count == 1
        return changed


def _rewritten(head: bytes, changes: Mapping[str, str | None]) -> bytes:
    """A head with other values of some fields, or without them."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    kept = [line for line in lines if line.partition(":")[0].lower() not in changes]
    new = [f"{name}: {value}" for name, value in changes.items() if value is not None]
    return "\r\n".join([first, *kept, *new, "", ""]).encode("latin-1")


Rule = Callable[[Request], Fault | None]
"""What is to be done with a request; None: nothing, unless another rule says otherwise."""


def _every(_: Request) -> bool:
    return True


def next_ones(*faults: Fault, when: Callable[[Request], bool] = _every) -> Rule:
    """The next requests for which `when` holds have these faults, one each; those behind have none."""
    left = list(faults)

    def rule(request: Request) -> Fault | None:
        return left.pop(0) if left and when(request) else None

    return rule


def always(fault: Fault, *, when: Callable[[Request], bool] = _every) -> Rule:
    """All requests for which `when` holds have this fault."""
    return lambda request: fault if when(request) else None


def at_random(rate: float, faults: Sequence[Fault], *, seed: int, when: Callable[[Request], bool] = _every) -> Rule:
    """A share of the requests for which `when` holds has one of these faults."""
    rng = random.Random(seed)
    return lambda request: rng.choice(faults) if when(request) and rng.random() < rate else None


# ---------------------------------------------------------------------------------------------------------------------
# The proxy
# ---------------------------------------------------------------------------------------------------------------------


class _Sockets:
    """The open connections of a proxy, to end them all from outside."""

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
        """End all connections, those to come too: who waits for one of them waits no longer."""
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

    `rules` are asked in their order what is to become of a request, by one thread at a time; `latency` is what each
    request waits, in seconds. `faults` is how many requests had one since `clear`, and `sent` how many bytes went to
    clients; `under_way` is how many requests are being answered.
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
        """The requests since `clear`, in the order in which they came."""
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
            # One of the two hung up.
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
    """Takes the connections of a proxy, each in a thread of its own."""

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
        # Without the shutdown of the base class: it would send what a reset shall not send.
        self.close_request(request)  # type: ignore[arg-type]


@contextmanager
def faulty_proxy(url: str) -> Iterator[FaultyProxy]:
    """Run a proxy before the server with this URL until the end of the context, when no thread and no socket is left.

    Raises:
        Exception: what went wrong in the proxy itself.

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
