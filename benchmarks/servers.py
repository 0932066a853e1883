"""Servers in processes, and their use of processors and memory (from /proc: Linux only)."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import htsget_flask
from benchmarks.client import Connection, get

_START_SECONDS = 30
_STOP_SECONDS = 15
_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Bytes: `private`, which no other process maps, file pages included; `anonymous`, which no file backs."""

    private: int
    anonymous: int


class Process:
    """A running server: the process that was started, and those that it started."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    def cpu(self) -> float:
        """The seconds of processor time that all its processes have used, in user and kernel mode.

        Those that ended count as soon as their parents have waited for them.
        """
        total = 0
        for pid in self._pids():
            with contextlib.suppress(OSError):
                total += sum(map(int, _stat_fields(pid)[11:15]))
        return total / _TICKS

    def memory(self) -> Memory:
        """The memory of its processes."""
        sizes = {"Private_Clean:": 0, "Private_Dirty:": 0, "Anonymous:": 0}
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, size, *_ = line.split()
                if name in sizes:
                    sizes[name] += int(size) << 10
        clean, dirty, anonymous = sizes.values()
        return Memory(clean + dirty, anonymous)

    def _pids(self) -> list[int]:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int(_stat_fields(int(entry.name))[1])
        pids = [self._process.pid]
        for pid in pids:
            pids += [child for child, parent in parents.items() if parent == pid]
        return pids


@contextlib.contextmanager
def running(
    command: Sequence[str], *, port: int, probe: str, folder: Path, environment: dict[str, str]
) -> Iterator[Process]:
    """A server in its own session, from its first answer to `probe` until the end of the block."""
    with (folder / f"server-{port}.log").open("w+b") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            # Python looks for modules in the working directory before PYTHONPATH.
            cwd=folder,
            start_new_session=True,
        )
        try:
            _wait(process, port, probe)
            yield Process(process, port)
        except BaseException:
            print(Path(log.name).read_text(errors="relocation")[-2000:], file=sys.stderr)
            raise
        finally:
            _stop(process)


@contextlib.contextmanager
def htsget_server(
    config: Path, *, threads: int = 32, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """The project's server with one worker; `environment` is added to its own."""
    port = free_port()
    main = "from htsget_flask.cli import main; main()"
    options = ["serve", "--config", str(config), "--port", str(port), "--workers", "1", "--threads", str(threads)]
    command = [sys.executable, "-c", main, *options]
    surroundings = {**_paths(), **(environment or {})}
    with running(command, port=port, probe="/health", folder=config.parent, environment=surroundings) as process:
        yield process


@contextlib.contextmanager
def flask_floor(folder: Path) -> Iterator[Process]:
    """A bare Flask application with one worker."""
    with _floor(folder, "/") as process:
        yield process


@contextlib.contextmanager
def redirect_floor(folder: Path, location: str) -> Iterator[Process]:
    """An application with one worker that lets nginx send what is at `location`, and does nothing else."""
    with _floor(folder, "/health", location) as process:
        yield process


@contextlib.contextmanager
def _floor(folder: Path, probe: str, *arguments: str) -> Iterator[Process]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.floor", str(port), *arguments]
    with running(command, port=port, probe=probe, folder=folder, environment=_paths()) as process:
        yield process


@contextlib.contextmanager
def nginx(folder: Path, root: Path) -> Iterator[Process]:
    """nginx with one worker, which serves the files below `root`; its own files go to `folder`."""
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    config.write_text(
        f"{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; sendfile on; keepalive_timeout 75; keepalive_requests 1000000;\n"
        f"{temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} location = /health {{ return 200; }} }} }}\n"
    )
    command = [nginx_command() or "nginx", "-c", str(config), "-p", str(folder)]
    with running(command, port=port, probe="/health", folder=folder, environment={}) as process:
        yield process


def nginx_command() -> str | None:
    """The path of nginx, /usr/sbin included; None if it is not installed."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _paths() -> dict[str, str]:
    """PYTHONPATH for a new process: the folders of this package and of the imported htsget_flask."""
    roots = {str(Path(path).resolve().parent.parent) for path in (__file__, htsget_flask.__file__)}
    return {"PYTHONPATH": os.pathsep.join(sorted(roots))}


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, which may hold any character."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _wait(process: "subprocess.Popen[bytes]", port: int, probe: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, AssertionError), Connection(port) as connection:
            if connection.exchange(get(probe)).status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError("the server did not start")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its session holds only its own children.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
