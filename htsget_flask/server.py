"""gunicorn, run from within: the same settings for the command line and for `config/gunicorn.conf.py`."""

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException, UnsupportedTransferCoding
from gunicorn.workers.gthread import ThreadWorker

from htsget_flask.app import begin, create_app
from htsget_flask.config import Config
from htsget_flask.web import EXTENSION, allowed_origins, error_answer, error_name

DEFAULT_THREADS = 32

# Milliseconds; a client that is near asks for the next range sooner.
_LINGER = 2

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def settings(*, bind: str, workers: int | None = None, threads: int = DEFAULT_THREADS) -> dict[str, Any]:
    """The settings of gunicorn for this service; `workers` defaults to one for each core.

    gthread: a thread that streams a block, or waits for a slow client, holds up no other; one process per core because
    planning a ticket is Python. X-Forwarded-Proto is left to `trusted_proxies`: gunicorn would believe any local peer.
    """
    return {
        "bind": bind,
        "workers": workers or cores(),
        "threads": threads,
        "worker_class": Worker,
        "worker_connections": 1000,
        "keepalive": 75,
        "timeout": 120,
        "graceful_timeout": 30,
        "limit_request_line": 8190,
        "secure_scheme_headers": {},
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "control_socket_disable": True,
        "post_worker_init": prepare_worker,
    }


def tls_settings(certfile: Path, keyfile: Path) -> dict[str, Any]:
    """The settings of gunicorn for https, TLS 1.2 or later."""
    return {"certfile": str(certfile), "keyfile": str(keyfile), "ssl_context": _tls}


def _tls(_: Any, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = make()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def cores() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_worker(worker: Any) -> None:
    """Fit the process to its work, once its application is made."""
    # A terminal's interrupt goes to all processes. The first one ends the workers on it: told twice, they may hang.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    # What was made so far stays: the garbage collector need not look at it again and again, nor as often as it does.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    # Large blocks of memory go back to the system as soon as they are free: else each thread would keep what the
    # largest index took to read. Those up to 4 MiB may stay: to have their pages anew each time is a third of the work.
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 4 << 20)
        libc.mallopt(_M_ARENA_MAX, 2)
    if isinstance(worker.wsgi, Flask):
        begin(worker.wsgi)


def _raise_file_limit() -> None:
    """Allow as many open files as the system does: each kept index and each client takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# gunicorn's refusals of requests, the first that fits: all else are failures of this server.
_REFUSALS: Sequence[tuple[type[BaseException], int]] = (
    (LimitRequestLine, 414),
    (LimitRequestHeaders, 431),
    (UnsupportedTransferCoding, 501),
    (ParseException, 400),
    (ssl.SSLError, 400),
)


def _refusal(app: Any, status: int, error: BaseException) -> bytes:
    """An answer as it goes over the wire. Where the origin is not known only a service for all can let pages see it."""
    message = "the server failed; its log has the reason" if status == 500 else str(error)
    answer = error_answer(error_name(status), message, status)
    fields = {"Connection": "close", **answer.fields}
    if isinstance(app, Flask) and "*" in allowed_origins(app.extensions[EXTENSION].config):
        fields["Access-Control-Allow-Origin"] = "*"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(": ".join(field) for field in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + b"".join(answer.body)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's gthread, whose threads stay with a connection for a moment.

    Clients of genomic files ask for one range after the other: handing each request from the thread that waits for all
    connections to one of the pool, and the connection back, takes as long as answering it.
    """

    def handle(self, conn: Any) -> Any:
        """Answer a connection's request, and those that follow at once; whether it is kept. gunicorn calls this."""
        kept = super().handle(conn)
        # Earlier versions of gunicorn return another thing than a truth: with them a thread answers one request.
        while kept is True and self._may_stay(conn):
            kept = super().handle(conn)
        return kept

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer, as htsget does, a request that was refused before the application saw it; gunicorn calls this.

        gunicorn's own words quote what came: tokens in headers without a colon, signed URLs.
        """
        status = next((status for kind, status in _REFUSALS if isinstance(exc, kind)), 500)
        if status == 500:
            self.log.error("a request failed outside of the application", exc_info=exc)
        else:
            self.log.warning("a request was refused with status %d: %s", status, type(exc).__name__)
        # The client may be gone.
        with contextlib.suppress(OSError):
            client.sendall(_refusal(self.wsgi, status, exc))

    def _may_stay(self, conn: Any) -> bool:
        # Where threads are short, and where what has come is not to be seen at the socket, gunicorn goes on.
        is_opaque = self.cfg.is_ssl or getattr(conn, "is_http2", False)
        if is_opaque or not self.alive or self.nr_conns > self.cfg.threads:
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(_LINGER))


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn serving one configuration."""

    def __init__(self, config: Config, options: dict[str, Any]) -> None:
        self._config = config
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Take over the settings; gunicorn calls this."""
        for name, value in self._options.items():
            # The control socket came with later versions of gunicorn.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the application, in each worker; gunicorn calls this."""
        return create_app(self._config)
