"""gunicorn: the settings for the command line and for `config/gunicorn.conf.py`, and a server to embed."""

import contextlib
import ctypes
import gc
import os
import resource
import signal
import ssl
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from htsget_flask.app import DeferredApp, start_background_work
from htsget_flask.config import Config
from htsget_flask.server.connections import TlsContext
from htsget_flask.server.worker import Worker

_MAX_FILES = 1 << 16
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def settings(*, bind: str, workers: int | None = None, threads: int = 32) -> dict[str, Any]:
    """The settings of gunicorn for this service; `workers` defaults to one for each core.

    gthread: a thread that streams a block, or waits for a slow client, does not block others; one process per core, as
    planning a ticket is Python. X-Forwarded-Proto is left to `trusted_proxies`: gunicorn would trust any local peer.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "bind": bind,
        "workers": workers or cores or 1,
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
        # All workers, replacements included, have the configuration that was read at the start.
        "preload_app": True,
        "post_worker_init": prepare_worker,
        "on_reload": report_reload,
        "ssl_context": _tls,
    }


def _tls(_: Any, make: Callable[[], ssl.SSLContext]) -> TlsContext:
    """TLS 1.2 or later, where gunicorn serves https."""
    context = make()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return TlsContext(context)


def prepare_worker(worker: Any) -> None:
    """Create the application, and tune the process."""
    if isinstance(worker.wsgi, DeferredApp):
        worker.wsgi = worker.wsgi.app
    # A terminal interrupts all processes, and the arbiter then ends the workers: interrupted twice, they may hang.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Each cached index and each client takes a file.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    # All objects so far live as long as the process: exempt them from garbage collection, and collect less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    # Return large blocks of memory to the system at once: otherwise each thread keeps the 40 MB that reading an index
    # takes. Blocks up to 4 MiB may stay: faulting their pages in again each time takes a third of the work.
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 4 << 20)
        libc.mallopt(_M_ARENA_MAX, 2)
    if isinstance(worker.wsgi, Flask):
        start_background_work(worker.wsgi)


def report_reload(arbiter: Any) -> None:
    """Log what SIGHUP does; gunicorn calls this before it replaces the workers."""
    arbiter.log.warning("the workers restart with the configuration of the start: restart the service to change it")


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn serving one configuration."""

    def __init__(self, config: Config, options: dict[str, Any]) -> None:
        self._config = config
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Apply the settings; gunicorn calls this."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application, which each worker creates; gunicorn calls this."""
        return DeferredApp(self._config)
