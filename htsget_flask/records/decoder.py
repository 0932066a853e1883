"""The processes that decode CRAM and BCF for a worker: htslib is written in C, and the files are not trusted.

Each is a new program, not a fork of the worker: no secret is in its memory, its environment or its descriptors. It gets
one job at a time, such as a batch of containers, and runs within limits.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError, ServiceUnavailable

log = logging.getLogger(__name__)

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from htsget_flask.records.decoder_program import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_START_TIMEOUT = 30.0
_END_TIMEOUT = 5.0
_MAX_ANSWER = 100

_FAULTS = {
    b"undecoded": "records cannot be decoded: the file is damaged, or its references are not those of its header",
    b"elsewhere": "the index does not fit the data: a record lies outside the bounds that it states",
    b"unsorted": "its records are not sorted by position, which cutting CRAM 2.1 requires",
    b"full": "its records cannot be decoded: the disk for temporary files is full",
    b"memory": "its records cannot be decoded within this server's memory limit for decoding",
}


class Limits(NamedTuple):
    """The resources of decoding.

    `memory`: bytes of address space of each process. `processor` and `seconds`: for one job, in seconds of CPU time and
    by the clock. `wait`: the seconds after which a request that still waits for a process is refused.
    """

    # Enough for slices of several references of 2 Gb.
    memory: int = 2 << 30
    processor: int = 60
    seconds: float = 120
    wait: float = 10


class Decoder:
    """Up to `concurrency` processes that decode, each for one caller at a time; they are started on demand.

    A process that crashed, or was killed at a limit, is replaced for the next job.
    """

    def __init__(self, concurrency: int, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._free = threading.BoundedSemaphore(concurrency)
        self._idle: list[_Process] = []

    @contextmanager
    def occupy(self) -> Iterator[None]:
        """Count work of the caller's own process like that of one of these.

        Raises:
            ServiceUnavailable: when all of them stay busy.
        """
        if not self._free.acquire(timeout=self._limits.wait):
            raise ServiceUnavailable("too many records are being decoded; retry later")
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def reserve(self) -> Iterator["Reservation"]:
        """A process for one caller, for as many jobs as it has.

        Raises:
            ServiceUnavailable: when all processes stay busy, or none starts.
        """
        with self.occupy():
            reservation = Reservation(self._limits, self._take())
            try:
                yield reservation
            finally:
                if reservation.process.is_usable():
                    self._idle.append(reservation.process)

    def _take(self) -> "_Process":
        while self._idle:
            process = self._idle.pop()
            if process.is_usable():
                return process
        return _start(self._limits)


class Reservation:
    """A process that decodes for one caller."""

    def __init__(self, limits: Limits, process: "_Process") -> None:
        self._limits = limits
        self.process = process

    def run(self, job: Mapping[str, object], files: Sequence[BinaryIO]) -> None:
        """Run a job of `decoder_program` on files, whose buffers are empty.

        Raises:
            FormatError: when the data cannot be decoded, or not within the limits.
            ServiceUnavailable: when no process starts.
        """
        with tempfile.TemporaryFile(buffering=0) as description:
            description.write(json.dumps(job).encode())
            descriptors = [file.fileno() for file in (description, *files)]
            answer = self.process.run(descriptors)
            if answer is None:
                self.process = _start(self._limits)
                answer = self.process.run(descriptors)
        if answer != b"done":
            raise FormatError(_FAULTS.get(answer or b"", "its records cannot be decoded"))


def _start(limits: Limits) -> "_Process":
    try:
        return _Process(limits)
    except OSError as error:
        log.error("records cannot be decoded: %s", error)
        raise ServiceUnavailable("records cannot be decoded at the moment; retry later") from None


class _Process:
    """A process that decodes, and the socket that passes files to it.

    Raises:
        OSError: when it does not start.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._socket, theirs = socket.socketpair()
        paths = [path for path in sys.path if os.path.isabs(path)]
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-I", "-c", _PROGRAM, str(limits.memory), str(limits.processor), *paths],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                    cwd="/",
                    start_new_session=True,
                )
            except BaseException:
                self._socket.close()
                raise
        self.end = weakref.finalize(self, _end, self._process, self._socket, os.getpid())
        self._owner = os.getpid()
        try:
            answer = self._answer(time.monotonic() + _START_TIMEOUT)
        except TimeoutError:
            answer = b""
        if answer != b"ready":
            self.end()
            raise OSError(_how_it_ended(self._process.returncode))

    def is_usable(self) -> bool:
        """Whether it runs, and this process started it: a fork has only a copy of the object."""
        return self._owner == os.getpid() and self._process.poll() is None

    def run(self, files: Sequence[int]) -> bytes | None:
        """The answer to a job: "done", or the name of a fault; None when the process had ended by itself before it.

        Raises:
            FormatError: when there is none.
        """
        try:
            answer = self._exchange(files)
        except BaseException:
            self.end()
            raise
        if answer:
            return answer
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT)
        self.end()
        if self._process.returncode == 0:
            return None
        raise FormatError(f"its records cannot be decoded: {_how_it_ended(self._process.returncode)}")

    def _exchange(self, files: Sequence[int]) -> bytes:
        deadline = time.monotonic() + self._limits.seconds
        try:
            self._socket.settimeout(self._limits.seconds)
            socket.send_fds(self._socket, [b"\n"], [*files])
            return self._answer(deadline)
        except TimeoutError:
            raise FormatError("its records cannot be decoded in time") from None
        except OSError:
            # It ended before it took the job.
            return b""

    def _answer(self, deadline: float) -> bytes:
        """A line from the process; empty when the process ended before."""
        line = b""
        while not line.endswith(b"\n"):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(_MAX_ANSWER)
            if not data or len(line) > _MAX_ANSWER:
                return b""
            line += data
        return line[:-1]


def _environment() -> dict[str, str]:
    """What an interpreter needs to start, keeps htslib from fetching references, and numpy from starting threads."""
    needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {**needed, "REF_PATH": os.devnull, "REF_CACHE": os.devnull, "OPENBLAS_NUM_THREADS": "1"}


def _how_it_ended(status: int) -> str:
    if status == -signal.SIGXCPU:
        return "that takes too long"
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return f"the process that decodes was ended {how}"


def _end(process: "subprocess.Popen[bytes]", connection: socket.socket, owner: int) -> None:
    if os.getpid() == owner:
        connection.close()
        process.kill()
        process.wait()
