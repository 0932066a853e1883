"""gunicorn's gthread worker, hardened: time limits for idle clients, and htsget's errors."""

import contextlib
import select
import selectors
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException, UnsupportedTransferCoding
from gunicorn.util import close_graceful
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from htsget_flask.server.connections import Limits, Patience, PlainSocket
from htsget_flask.services import EXTENSION
from htsget_flask.web.answer import common_fields
from htsget_flask.web.cors import allowed_origins
from htsget_flask.web.errors import error_answer, error_name

# In milliseconds; a nearby client requests the next range sooner.
_LINGER = 2
# Threads that may wait for clients, besides those that work.
_WAITING_THREADS = 256
# The status for gunicorn's refusals of requests, first match wins; all other errors are failures of this server.
_REFUSALS: Sequence[tuple[type[BaseException], int]] = (
    (LimitRequestLine, 414),
    (LimitRequestHeaders, 431),
    (UnsupportedTransferCoding, 501),
    (ParseException, 400),
    (ssl.SSLError, 400),
)


def _refusal(app: Any, status: int, error: BaseException, *, is_tls: bool) -> bytes:
    """An answer as bytes. The request's origin is unknown: pages may read it only if the service allows all origins."""
    message = "the server failed; its log has the reason" if status == 500 else str(error)
    answer = error_answer(error_name(status), message, status)
    common = common_fields({"wsgi.url_scheme": "https" if is_tls else "http"})
    fields = {"Connection": "close", **answer.fields, **dict(common)}
    if isinstance(app, Flask) and "*" in allowed_origins(app.extensions[EXTENSION].config):
        fields["Access-Control-Allow-Origin"] = "*"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(": ".join(field) for field in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + b"".join(answer.body)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's gthread, with threads that stay with a connection for a moment, and with time limits for clients.

    Clients of genomic files request one range after the other: handing each request from the thread that polls all
    connections to one of the pool, and the connection back, takes as long as answering it.

    The setting `threads` bounds the requests that are worked on at once. Threads that wait for a client are extra.
    """

    limits = Limits()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """The threads; gunicorn calls this."""
        self._slots = threading.Semaphore(self.cfg.threads)
        return ThreadPoolExecutor(self.cfg.threads + _WAITING_THREADS)

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread once it is readable; gunicorn calls this."""
        if conn.initialized:
            conn.sock.patience.expect_headers()
        elif not conn.data_ready:
            # gunicorn would let a thread wait for the first byte.
            conn.sock = PlainSocket(conn.sock, Patience(self.limits, self._slots))
            conn.timeout = time.monotonic() + self.limits.headers
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))
            return
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Answer a connection's request and those that follow at once; True if it stays open. gunicorn calls this."""
        patience = conn.sock.patience
        patience.take_slot()
        try:
            stays_open = super().handle(conn)
            while stays_open and self._may_stay(conn):
                patience.expect_headers()
                patience.take_slot()
                stays_open = super().handle(conn)
            if not stays_open:
                # gunicorn would wait for the client's close in the thread that accepts connections.
                close_graceful(conn.sock)
        finally:
            patience.return_slot()
        return stays_open

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose headers are complete; gunicorn calls this."""
        conn.sock.patience.expect_body()
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Close connections that sent nothing in time, or exceed the limit; gunicorn calls this in its main loop."""
        if not self.alive:
            latest = time.monotonic() + STOP_KEEPALIVE_LINGER
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout, latest)
        super().murder_pending()
        # At the limit gunicorn accepts no connections, so idle ones would keep new ones out: close the longest idle.
        while self.nr_conns >= self.worker_connections and (self.pending_conns or self.keepalived_conns):
            queues = ((self.pending_conns, self.limits.headers), (self.keepalived_conns, self.cfg.keepalive))
            since = {queue[0].timeout - limit: queue for queue, limit in queues if queue}
            conn = since[min(since)].popleft()
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer, with htsget's errors, a request that never reached the application; gunicorn calls this.

        gunicorn's own messages quote the request: tokens in headers without a colon, signed URLs.
        """
        status = next((status for kind, status in _REFUSALS if isinstance(exc, kind)), 500)
        if status == 500:
            self.log.error("a request failed outside of the application", exc_info=exc)
        else:
            self.log.warning("a request was refused with status %d: %s", status, type(exc).__name__)
        # The client may be gone.
        with contextlib.suppress(OSError):
            client.sendall(_refusal(self.wsgi, status, exc, is_tls=self.cfg.is_ssl))

    def _may_stay(self, conn: Any) -> bool:
        # gunicorn continues if threads are scarce, or if received bytes are not visible at the socket.
        is_opaque = self.cfg.is_ssl or getattr(conn, "is_http2", False)
        if is_opaque or not self.alive or self.nr_conns > self.cfg.threads:
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(_LINGER))
