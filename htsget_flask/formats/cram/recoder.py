"""The process that decodes CRAM for a worker: htslib is C, and the files are other people's.

It is a new program, not a copy of the worker: no secret is in its memory, its environment or its descriptors. It is
given one batch of containers at a time, within limits.
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
    "from htsget_flask.formats.cram.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_STARTED_WITHIN = 30.0
_LONGEST_ANSWER = 100

_FAULTS = {
    b"undecoded": "records cannot be decoded: the file is damaged, or it was made with other references than it says",
    b"elsewhere": "the index does not fit the data: a record lies elsewhere than it says",
    b"unsorted": "its records are not in the order of their places; CRAM 2.1 cannot be cut then",
    b"full": "its records cannot be decoded: the disk for temporary files is full",
    b"memory": "its records cannot be decoded within the memory that this server gives to that",
}


class Limits(NamedTuple):
    """What decoding may take.

    `memory`: bytes of address space. `processor` and `seconds`: for one batch, seconds of a processor and by the clock.
    `wait`: the seconds after which a request that waits for its first batch is refused.
    """

    memory: int = 2 << 30
    processor: int = 60
    seconds: float = 120
    wait: float = 30


class Recoder:
    """Decodes and encodes batches of containers, one after the other, in a process that it starts when it needs one.

    A process that crashed, or was ended at a limit, is replaced for the next batch.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._turn = threading.Lock()
        self._process: _Process | None = None

    def recode(self, files: Sequence[int], *, may_refuse: bool) -> int:
        """Decode a batch and encode its wanted records; where in the last of the files their containers begin.

        `files` are descriptors, as `cram_worker` takes them. A batch that it may not refuse waits for as long as the
        batches before it take.

        Raises:
            FormatError: when the containers cannot be decoded, or not within the limits.
            ServiceUnavailable: when it may refuse, and the process is busy for too long or does not start.
            OSError: when it may not refuse, and the process does not start.
        """
        if not self._turn.acquire(timeout=self._limits.wait if may_refuse else -1):
            raise ServiceUnavailable("too many records of CRAM files are being decoded; ask again")
        try:
            process, self._process = self._process, None
            if process is None or not process.is_usable():
                process = self._started(may_refuse=may_refuse)
            try:
                answer = process.recode(files)
            except BaseException:
                process.end()
                raise
            self._process = process
        finally:
            self._turn.release()
        if answer.isdigit():
            return int(answer)
        raise FormatError(_FAULTS.get(answer, "its records cannot be decoded"))

    def _started(self, *, may_refuse: bool) -> "_Process":
        try:
            return _Process(self._limits)
        except OSError as error:
            if not may_refuse:
                raise
            log.error("CRAM cannot be decoded: %s", error)
            raise ServiceUnavailable("CRAM cannot be decoded now; ask again") from None


class _Process:
    """A process that decodes, and the socket by which it is given files.

    Raises:
        OSError: when it does not start.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    _command(limits),
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
            answer = self._answer(time.monotonic() + _STARTED_WITHIN)
        except TimeoutError:
            answer = b""
        if answer != b"ready":
            self.end()
            raise OSError(_how_it_ended(self._process.returncode))

    def is_usable(self) -> bool:
        """Whether it runs, and this process started it: a fork has a copy of the object only."""
        return self._owner == os.getpid() and self._process.poll() is None

    def recode(self, files: Sequence[int]) -> bytes:
        """Its answer to a batch: a number, or the name of a fault.

        Raises:
            FormatError: when it gives none.
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
        """A line from the process; nothing where it ended before that."""
        line = b""
        while not line.endswith(b"\n"):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(_LONGEST_ANSWER)
            if not data or len(line) > _LONGEST_ANSWER:
                return b""
            line += data
        return line[:-1]


def _command(limits: Limits) -> list[str]:
    paths = [path for path in sys.path if os.path.isabs(path)]
    return [sys.executable, "-I", "-c", _PROGRAM, str(limits.memory), str(limits.processor), *paths]


def _environment() -> dict[str, str]:
    """What an interpreter may need to start, and what keeps htslib from looking for references."""
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
