"""Servers that answer as no server should: slowly, without an end, or with far too much."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\n"
# Seconds between two bytes.
_PAUSE = 0.05

Behaviour = Callable[[socket.socket, threading.Event], None]
"""Answers one request over its connection until the event is set."""


def drip(answer: bytes) -> Behaviour:
    """Send one byte at a time, with a pause after each."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        for index in range(len(answer)):
            connection.sendall(answer[index : index + 1])
            if ended.wait(_PAUSE):
                return

    return behave


def flood(head: bytes, rest: bytes) -> Behaviour:
    """Send the head once, then the rest repeatedly."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(head)
        while not ended.is_set():
            connection.sendall(rest)

    return behave


def send(answer: bytes) -> Behaviour:
    """Send the answer and leave the connection open."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(answer)
        ended.wait(30)

    return behave


HOSTILE: dict[str, Behaviour] = {
    "nothing": send(b""),
    "a slow status line": drip(b"H" * 1000),
    "a slow header": drip(OK + b"X-Long: " + b"a" * 1000),
    "a slow body": drip(OK + b"Content-Length: 4000000\r\n\r\n" + b" " * 1000),
    "a slow chunk": drip(OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n" + b" " * 1000),
    "half a body": send(OK + b"Content-Length: 100\r\n\r\n{}"),
    "an endless body": flood(OK + b"\r\n", b" " * 65_536),
    "a body of 600 MB": flood(OK + b"Content-Length: 600000000\r\n\r\n", b" " * 65_536),
    "endless chunks": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 1000),
    "endless chunk extensions": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 60_000 + b"\r\n \r\n"),
    "endless trailers": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n" * 1000),
    "endless interim answers": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "huge header lines": flood(OK, b"X: " + b"a" * 60_000 + b"\r\n"),
    "a line that never ends": flood(OK + b"X: ", b"a" * 60_000),
    "endless header lines": flood(OK, b"X: y\r\n" * 1000),
    "a refusal without an end": flood(b"HTTP/1.1 401 Unauthorized\r\n\r\n", b" " * 65_536),
    "compressed though not requested": send(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"),
}


@contextmanager
def hostile_server(behave: Behaviour) -> Iterator[str]:
    """The URL of a server that reads requests and then shows this behaviour."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            while not ended.is_set() and connection.recv(65_536):
                behave(connection, ended)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
        finally:
            ended.set()
            # Closing alone does not wake the thread that accepts.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
