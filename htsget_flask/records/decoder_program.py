"""The program that decodes CRAM and BCF; `decoder` starts it and passes it files.

Its standard input is a socket. Each byte is a job, with the descriptors of its files: the first describes the job
(JSON), the others are for the function that runs jobs of this kind. It answers with a line: "done", or the name of a
fault. It ends by itself when nobody needs it for a while, or after a job that needed much memory.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import socket
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from htsget_flask.errors import FormatError
from htsget_flask.records.bcf_job import run_bcf_job
from htsget_flask.records.cram_job import run_cram_job
from htsget_flask.records.job_fault import JobFaultError

_FILES = 8
_MAX_FILES = 64
_MAX_FILE_SIZE = 1 << 30
# In seconds, and in bytes: a process that has started takes 60 MB.
_IDLE_TIME = 60.0
_MAX_IDLE_MEMORY = 192 << 20

# Of Linux's prctl.h.
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38

_JOBS: dict[str, Callable[[dict[str, Any], Sequence[BinaryIO]], None]] = {"cram": run_cram_job, "bcf": run_bcf_job}


def main(memory: int, processor: int) -> None:
    """Run jobs, with at most `memory` bytes and `processor` seconds for each."""
    _confine(memory)
    with socket.socket(fileno=0) as connection, contextlib.suppress(TimeoutError):
        connection.settimeout(_IDLE_TIME)
        connection.sendall(b"ready\n")
        while True:
            data, descriptors, _, _ = socket.recv_fds(connection, 1, _FILES)
            if not data:
                return
            _limit_processor(processor)
            connection.sendall(b"%s\n" % _answer(descriptors))
            if _memory() > _MAX_IDLE_MEMORY:
                return


def _memory() -> int:
    """The resident memory in bytes; 0 where the kernel does not state it."""
    # ru_maxrss would also count what the worker took when it started this process.
    with contextlib.suppress(FileNotFoundError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return 0


def _confine(memory: int) -> None:
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _MAX_FILE_SIZE,
        resource.RLIMIT_NOFILE: _MAX_FILES,
    }
    for kind, limit in limits.items():
        allowed = _lower(limit, resource.getrlimit(kind)[1])
        resource.setrlimit(kind, (allowed, allowed))
    # The limit does not bound a core dump that is piped to a program.
    with contextlib.suppress(AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _limit_processor(seconds: int) -> None:
    """Once the worker has gone, nothing else ends a job that takes too long."""
    used, hard = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_CPU)[1]
    end = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (_lower(end, hard), hard))


def _lower(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


def _answer(descriptors: list[int]) -> bytes:
    try:
        with contextlib.ExitStack() as stack:
            # htslib uses the descriptors, except that of the target.
            files: list[BinaryIO] = []
            files += (stack.enter_context(os.fdopen(number, "r+b", buffering=0)) for number in descriptors[:-1])
            files += [stack.enter_context(os.fdopen(descriptors[-1], "r+b"))]
            description = files.pop(0)
            description.seek(0)
            job = json.loads(description.read())
            _JOBS[job["kind"]](job, files)
            return b"done"
    except JobFaultError as fault:
        return str(fault).encode()
    except MemoryError:
        return b"memory"
    except OSError as error:
        # htslib's failures have no errno.
        return b"full" if error.errno == errno.ENOSPC else b"undecoded"
    except (FormatError, ValueError):
        return b"undecoded"
