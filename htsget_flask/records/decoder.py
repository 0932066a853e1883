"""The process that decodes CRAM for a worker: htslib is written in C, and the files are not trusted.

It is a new program, not a fork of the worker: no secret is in its memory, its environment or its descriptors. It gets
one batch of containers at a time, and runs within limits.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import NamedTuple

from htsget_flask.errors import FormatError, ServiceUnavailable

log = logging.getLogger(__name__)

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from htsget_flask.records.decoder_program import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_START_TIMEOUT = 30.0
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

    `memory`: bytes of address space. `processor` and `seconds`: for one batch, in seconds of CPU time and by the clock.
    `wait`: the seconds after which a request that still waits for its first batch is refused.
    """

    # Enough for slices of several references of 2 Gb.
    memory: int = 2 << 30
    processor: int = 60
    seconds: float = 120
    wait: float = 30


class Recoder:
    """Decodes and encodes batches of containers, one after the other, in a process that is started on demand.

    A process that crashed, or was killed at a limit, is replaced for the next batch.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._process_lock = threading.Lock()
        self._process: _Process | None = None

    def recode(self, files: Sequence[int], *, may_refuse: bool) -> int:
        """Decode a batch and encode its matching records; return where in the last of the files their containers begin.

        `files` are descriptors, as `worker` takes them. Without `may_refuse` the batch waits for as long as the batches
        before it take.

        Raises:
            FormatError: when the containers cannot be decoded, or not within the limits.
            ServiceUnavailable: with `may_refuse`, when the process is busy for too long or does not start.
            OSError: without `may_refuse`, when the process does not start.
        """
        if not self._process_lock.acquire(timeout=self._limits.wait if may_refuse else -1):
            raise ServiceUnavailable("too many records of CRAM files are being decoded; retry later")
        try:
            process, self._process = self._process, None
            if process is None or not process.is_usable():
                process = self._start(may_refuse=may_refuse)
            try:
                answer = process.recode(files)
            except BaseException:
                process.end()
                raise
            self._process = process
        finally:
            self._process_lock.release()
        if answer.isdigit():
            return int(answer)
        raise FormatError(_FAULTS.get(answer, "its records cannot be decoded"))

    def _start(self, *, may_refuse: bool) -> "_Process":
        try:
            return _Process(self._limits)
        except OSError as error:
            if not may_refuse:
                raise
            log.error("CRAM cannot be decoded: %s", error)
            raise ServiceUnavailable("CRAM cannot be decoded at the moment; retry later") from None


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

    def recode(self, files: Sequence[int]) -> bytes:
        """The answer to a batch: a number, or the name of a fault.

        Raises:
            FormatError: when there is none.
        """
        deadline = time.monotonic() + self._limits.seconds
        try:
            self._socket.settimeout(self._limits.seconds)
            socket.send_fds(self._socket, [b"\n"], [*files])
            answer = self._answer(deadline)
        except TimeoutError:
            raise FormatError("its records cannot be decoded in time") from None
        except OSError:
            # It died before it took the batch.
            answer = b""
        if not answer:
            self.end()
            raise FormatError(f"its records cannot be decoded: {_how_it_ended(self._process.returncode)}")
        return answer

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
    """The variables that an interpreter needs to start, and those that keep htslib from fetching references."""
    needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {**needed, "REF_PATH": os.devnull, "REF_CACHE": os.devnull}


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
