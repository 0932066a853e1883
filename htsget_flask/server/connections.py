"""Client connections: how long the server waits for each, and how many requests it works on at once."""

import errno
import math
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_MEBIBYTE = 1 << 20
# Some systems fail to send 2 GiB in one call.
_MAX_AT_ONCE = 1 << 30
# With this linger option close() resets the connection, and the kernel drops unsent bytes.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Limits(NamedTuple):
    """How long the server waits for a client, in seconds.

    `headers`: for all headers of a request, TLS handshake included, from the moment the connection is accepted; on a
    persistent connection from the first byte of the next request.
    `body`: for each started MiB of a request's body.
    `silence`: for the next byte of a body, or until the client receives another part of the answer.
    """

    headers: float = 20.0
    body: float = 60.0
    silence: float = 30.0


class ClientTimeoutError(ConnectionResetError, TimeoutError):
    """A client exceeded a limit. gunicorn closes connections that are reset, without a word in the log."""


class Patience:
    """The time that one client has left of its limits, and whether its request holds one of the worker's slots.

    A slot is the right to work. A thread returns it while it waits for its client, so that idle clients block no
    others. After waiting for a part of a request it takes a slot again. While it sends an answer it continues without
    one, as it may hold a lock that others with slots wait for.
    """

    def __init__(self, limits: Limits, slots: threading.Semaphore) -> None:
        self.received = 0
        self._limits = limits
        self._slots = slots
        self._has_slot = False
        self.expect_headers()

    def expect_headers(self) -> None:
        """Start the time for the headers of a request."""
        self._begun, self._is_in_body = time.monotonic(), False

    def expect_body(self) -> None:
        """Start the time for a request's body: the headers are complete."""
        self._begun, self._is_in_body, self.received = time.monotonic(), True, 0

    def take_slot(self) -> None:
        """Wait for a slot, unless this connection's request has one."""
        if not self._has_slot:
            self._slots.acquire()
            self._has_slot = True

    def return_slot(self) -> None:
        """Let another request have the slot."""
        if self._has_slot:
            self._has_slot = False
            self._slots.release()

    def wait(self, client: socket.socket, event: int, timeout: float | None) -> None:
        """Wait until a socket can be read or written (POLLIN, POLLOUT); ClientTimeoutError at a limit or `timeout`."""
        left = min(self._seconds_left(event), math.inf if timeout is None else timeout)
        self.return_slot()
        poll = select.poll()
        poll.register(client, event)
        if left <= 0 or not poll.poll(left * 1000):
            raise ClientTimeoutError(errno.ECONNRESET, "the client took too long")
        if event == select.POLLIN:
            self.take_slot()

    def _seconds_left(self, event: int) -> float:
        elapsed = time.monotonic() - self._begun
        if not self._is_in_body:
            return self._limits.headers - elapsed
        if event == select.POLLOUT:
            return self._limits.silence
        return min(self._limits.silence, self._limits.body * (1 + self.received / _MEBIBYTE) - elapsed)


class _ClientSocket(socket.socket):
    """A socket that appears blocking, as gunicorn expects, but waits no longer than a client's limits allow.

    The descriptor itself is non-blocking: a call that need not wait costs nothing extra.
    """

    patience: Patience
    _timeout: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        data = self._wait_for(select.POLLIN, super().recv, buflen, flags)
        self.patience.received += len(data)
        return data

    def send(self, data: Any, flags: int = 0) -> int:
        return self._wait_for(select.POLLOUT, super().send, data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all bytes, however slowly the client receives them."""
        view = memoryview(data)
        while view:
            view = view[self.send(view, flags) :]

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send `count` bytes of a file through the kernel, or else by reading it; returns their number."""
        left = os.fstat(file.fileno()).st_size - offset if count is None else count
        start, sender = offset, (self.fileno(), file.fileno())
        try:
            while left:
                sent = self._wait_for(select.POLLOUT, os.sendfile, *sender, offset, min(left, _MAX_AT_ONCE))
                if not sent:
                    break
                offset, left = offset + sent, left - sent
        except ConnectionError:
            raise
        except OSError:
            if offset > start:
                raise
            file.seek(offset)
            while data := file.read(min(left, _MEBIBYTE)):
                self.sendall(data)
                offset, left = offset + len(data), left - len(data)
        return offset - start

    def _wait_for(self, event: int, call: Callable[..., T], *arguments: object) -> T:
        while True:
            try:
                return call(*arguments)
            except BlockingIOError:
                needed = event
            # TLS may have to read in order to write, and the other way round.
            except ssl.SSLWantReadError:
                needed = select.POLLIN
            except ssl.SSLWantWriteError:
                needed = select.POLLOUT
            try:
                self.patience.wait(self, needed, self._timeout)
            except ClientTimeoutError:
                if needed == select.POLLOUT:
                    self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                raise


class PlainSocket(_ClientSocket):
    """A client's socket; takes over the accepted one."""

    def __init__(self, accepted: socket.socket, patience: Patience) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        socket.socket.settimeout(self, 0.0)
        self.patience = patience


class TlsSocket(_ClientSocket, ssl.SSLSocket):
    """A client's socket with TLS; TlsContext creates it."""

    def do_handshake(self, block: bool = False) -> None:
        self._wait_for(select.POLLIN, super().do_handshake, block)


class TlsContext:
    """The part of a TLS context that gunicorn uses; its sockets keep to the limits."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.sslsocket_class = TlsSocket
        self._context = context

    def wrap_socket(self, sock: PlainSocket, **options: Any) -> TlsSocket:
        """The socket with TLS, before the handshake."""
        wrapped = self._context.wrap_socket(sock, **options)
        assert isinstance(wrapped, TlsSocket)
        socket.socket.settimeout(wrapped, 0.0)
        wrapped.patience = sock.patience
        return wrapped
