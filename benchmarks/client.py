"""An HTTP client that costs next to nothing, so that a benchmark measures the server."""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_TIMEOUT = 60
_RECEIVE_SIZE = 1 << 18


class Answer(NamedTuple):
    """A response; `head` is its status line and header fields in lower case."""

    status: int
    head: bytes
    body: bytes


class Load(NamedTuple):
    """The bodies in the order of their requests, the seconds in all, and the seconds of each."""

    seconds: float
    bodies: list[bytes]
    times: list[float]


def get(target: str, *, fields: Sequence[str] = (), host: str = "localhost") -> bytes:
    """A GET request; `target` is a path with its query, or a URL whose host is left out."""
    if target.startswith("http://"):
        target = "/" + target.split("/", 3)[3]
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def post(target: str, body: bytes) -> bytes:
    """A POST request with a JSON body."""
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One kept-alive connection, used for one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._body_start = self._body_length = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def exchange(self, request: bytes) -> Answer:
        """Send a request and wait for its answer."""
        self.socket.sendall(request)
        while True:
            answer = self.receive()
            if answer is not None:
                return answer

    def receive(self) -> Answer | None:
        """Receive available bytes; returns the answer once it is complete."""
        data = self.socket.recv(_RECEIVE_SIZE)
        if not data:
            raise AssertionError(f"the server closed the connection after {bytes(self._buffer[:200])!r}")
        self._buffer += data
        if not self._body_start:
            self._body_start, self._body_length = _head_ends(self._buffer)
        if not self._body_start or len(self._buffer) < self._body_start + self._body_length:
            return None
        head, body = bytes(self._buffer[: self._body_start]), bytes(self._buffer[self._body_start :])
        self._buffer.clear()
        self._body_start = 0
        return Answer(int(head[9:12]), head.lower(), body)

    def discard(self, request: bytes, buffer: memoryview) -> int:
        """Send a request, receive the body into the buffer over and over; returns the body's length."""
        self.socket.sendall(request)
        start = length = 0
        while not start:
            self._buffer += self.socket.recv(4096)
            start, length = _head_ends(self._buffer)
        _require_success(self._buffer)
        left = length - (len(self._buffer) - start)
        self._buffer.clear()
        while left:
            count = self.socket.recv_into(buffer, min(left, len(buffer)))
            if not count:
                raise AssertionError(f"the server closed the connection {left} bytes early")
            left -= count
        return length

    def buffers(self, request: bytes) -> Iterator[bytes]:
        """Send a request and yield the body as it arrives."""
        self.socket.sendall(request)
        head = bytearray()
        start = length = 0
        while not start:
            head += self.socket.recv(4096)
            start, length = _head_ends(head)
        _require_success(head)
        yield bytes(head[start:])
        left = length - (len(head) - start)
        while left:
            data = self.socket.recv(min(left, 1 << 20))
            if not data:
                raise AssertionError(f"the server closed the connection {left} bytes early")
            left -= len(data)
            yield data


def drive(port: int, requests: Sequence[bytes], *, connections: int) -> Load:
    """Send the requests over `connections` kept-alive connections, each as soon as one is free."""
    bodies, times = [b""] * len(requests), [0.0] * len(requests)
    following = iter(range(len(requests)))
    in_flight: dict[Connection, int] = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        opened = [stack.enter_context(Connection(port)) for _ in range(min(connections, len(requests)))]
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        started = time.perf_counter()
        for connection in opened:
            in_flight[connection] = number = next(following)
            times[number] = time.perf_counter()
            connection.socket.sendall(requests[number])
        while in_flight:
            events = selector.select(_TIMEOUT)
            if not events:
                raise AssertionError(f"no answer within {_TIMEOUT} seconds")
            for key, _ in events:
                connection = key.data
                answer = connection.receive()
                if answer is None:
                    continue
                if answer.status != 200:
                    raise AssertionError(f"status {answer.status}: {answer.body[:500]!r}")
                number, now = in_flight.pop(connection), time.perf_counter()
                bodies[number], times[number] = answer.body, now - times[number]
                following_number = next(following, None)
                if following_number is not None:
                    in_flight[connection] = following_number
                    times[following_number] = now
                    connection.socket.sendall(requests[following_number])
        seconds = time.perf_counter() - started
    return Load(seconds, bodies, times)


def _require_success(data: bytearray) -> None:
    if int(data[9:12]) not in (200, 206):
        raise AssertionError(bytes(data[:500]).decode("latin-1"))


def _head_ends(data: bytearray) -> tuple[int, int]:
    """The offset of the body and its length; (0, 0) while the head is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0, 0
    head = bytes(data[: end + 2]).lower()
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise AssertionError(f"an answer without Content-Length: {head!r}")
    return end + 4, int(head[start + 17 : head.index(b"\r\n", start + 2)])
