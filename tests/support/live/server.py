"""Servers under test: real processes on the loopback interface."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from tests.support.client import LiveHttp
from tests.support.live.tools import ROOT, tool

WORKERS = 2

_STARTED_WITHIN = 30.0
_ENDED_WITHIN = 15.0
_ANSWERED_WITHIN = 30.0


@dataclass(frozen=True)
class Server:
    """A running server and its output."""

    url: str
    host: str
    port: int
    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path
    tls: ssl.SSLContext | None = None

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """A connection, with TLS if the server has it; `receive_buffer` bounds the receive buffer, in bytes."""
        connection = socket.socket()
        connection.settimeout(_ANSWERED_WITHIN)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            connection.connect((self.host, self.port))
            return connection if self.tls is None else self.tls.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise

    @property
    def http(self) -> LiveHttp:
        """A client of this server."""
        return LiveHttp(self.url)

    def printed(self) -> list[str]:
        """The lines that it printed."""
        return self.out.read_text(encoding="utf-8").splitlines()

    def log(self) -> str:
        """The text of its standard error."""
        return self.err.read_text(encoding="utf-8", errors="replace")

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]

    def open_files(self) -> dict[str, int]:
        """The number of its workers' open descriptors for each file and each kind of descriptor."""
        counts: dict[str, int] = {}
        for worker in self.workers():
            for descriptor in Path(f"/proc/{worker}/fd").iterdir():
                try:
                    target = os.readlink(descriptor).partition(":[")[0]
                except FileNotFoundError:
                    continue
                counts[target] = counts.get(target, 0) + 1
        return counts

    def is_complete(self, workers: int) -> bool:
        """Whether N gunicorn workers wait for requests; a worker may miss a signal that arrives earlier."""
        return len(self.workers()) == workers and all(map(_waits_for_events, self.workers()))

    def is_healthy(self) -> bool:
        """Whether it answers."""
        if self.tls is None:
            return answers(self.url)
        try:
            with self.connect() as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.0 200")
        except OSError:
            return False


def answers(base: str) -> bool:
    """Whether a server at this URL answers."""
    try:
        return LiveHttp(base).get("/health").status == 200
    except (OSError, HTTPException):
        return False


def _waits_for_events(pid: int) -> bool:
    """Whether a process watches any descriptor with epoll."""
    try:
        return any("tfd:" in info.read_text(encoding="ascii") for info in Path(f"/proc/{pid}/fdinfo").iterdir())
    except FileNotFoundError:
        return False


def free_port() -> int:
    """A port of the loopback interface that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    """Whether a condition became true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def begin(
    command: Sequence[object],
    *,
    cwd: Path,
    stdout: IO[bytes],
    stderr: IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a process in a new session, for `end` to terminate; it also ends when the tests are killed."""
    return subprocess.Popen(
        [tool("setpriv"), "--pdeathsig", "TERM", "--", *map(str, command)],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a process and, if it does not exit, kill its whole session."""
    process.terminate()
    try:
        process.wait(_ENDED_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(
    command: Sequence[object],
    *,
    folder: Path,
    port: int,
    host: str = "127.0.0.1",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[Server]:
    """Run a server until the end of the context; its output is written to `folder`.

    `certificate`: the certificate and the key of a server with TLS.

    Raises:
        AssertionError: it does not answer in time, or there is a traceback in its log.

    """
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    out, err = folder / "stdout", folder / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = begin(
            command, cwd=folder if cwd is None else cwd, stdout=stdout, stderr=stderr, environment=environment
        )
    tls = None if certificate is None else ssl.create_default_context(cafile=str(certificate[0]))
    scheme = "http" if tls is None else "https"
    server = Server(f"{scheme}://{netloc}", host, port, process, out, err, tls)
    try:
        assert wait_until(lambda: process.poll() is not None or server.is_healthy(), seconds=_STARTED_WITHIN), (
            f"no answer in time: {server.log()}"
        )
        assert process.poll() is None, f"ended with {process.returncode}: {server.log()}"
        yield server
    finally:
        end(process)
    assert "Traceback" not in server.log(), server.log()


@contextmanager
def serving(
    *arguments: object,
    folder: Path,
    host: str = "127.0.0.1",
    bind: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run `htsget-flask serve` with these arguments; it listens on `bind`, or else on `host`."""
    port = free_port()
    command = [tool("htsget-flask"), "serve", *arguments, "--host", bind or host, "--port", port, "--workers", WORKERS]
    with running(command, folder=folder, port=port, host=host, environment=environment) as server:
        assert wait_until(lambda: server.is_complete(WORKERS)), server.log()
        yield server


@contextmanager
def configured(
    text: str, config: Path, *, folder: Path, certificate: tuple[Path, Path] | None = None
) -> Iterator[Server]:
    """Run gunicorn with one worker and the service's settings, which the Python code `text` may change.

    `text` may use the dictionary `settings` and the classes `Worker` and `Limits`. With a certificate and its key the
    server uses TLS.
    """
    port = free_port()
    path = folder / "settings.py"
    tls = "" if certificate is None else f"settings |= dict(zip(('certfile', 'keyfile'), {[*map(str, certificate)]}))"
    lines = [
        "from htsget_flask.server.connections import Limits",
        "from htsget_flask.server.arbiter import settings as make",
        "from htsget_flask.server.worker import Worker",
        f"settings = make(bind='127.0.0.1:{port}', workers=1) | {{'loglevel': 'warning'}}",
        tls,
        text,
        "globals().update(settings)",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "gunicorn", "-c", path, "wsgi:app"]
    environment = {"HTSGET_FLASK_CONFIG": str(config)}
    with running(
        command, folder=folder, port=port, cwd=ROOT, environment=environment, certificate=certificate
    ) as server:
        assert wait_until(lambda: server.is_complete(1)), server.log()
        yield server
