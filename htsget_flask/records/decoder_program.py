"""The program that decodes CRAM and encodes the matching records; `recoder` starts it and passes it files.

Its standard input is a socket. Each byte is a batch, with four descriptors: the job (JSON), the containers with the EOF
container after them, an empty scratch file, and an empty file for its output. It answers with a line: where in the
output the containers of records begin, or the name of a fault.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO

import pysam

_FILES = 4
_MAX_FILES = 64
_MAX_FILE_SIZE = 1 << 30

# Of Linux's prctl.h.
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38

# The output is sent once: half of the time for 3% more bytes.
_LEVEL = "level=1"
# CRAM 2 cannot state that a read without a reference has no qualities. Its slices embed a reference made of the reads
# instead, for which the reads have to be in order.
_EMBEDDED = ("embed_ref=2", "store_md=1", "store_nm=1")
# Encoding against a reference would take all of it into memory: 250 MB.
_UNREFERENCED = ("no_ref=1",)


class _FaultError(Exception):
    """A fault of a batch, by its name in `recoder`."""


def main(memory: int, processor: int) -> None:
    """Answer batches until the standard input ends, with at most `memory` bytes and `processor` seconds for each."""
    _confine(memory)
    with socket.socket(fileno=0) as connection:
        connection.sendall(b"ready\n")
        while True:
            data, descriptors, _, _ = socket.recv_fds(connection, 1, _FILES)
            if not data:
                return
            _limit_processor(processor)
            connection.sendall(b"%s\n" % _answer(descriptors))


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
    """Once the worker has gone, nothing else ends a batch that takes too long."""
    used, hard = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_CPU)[1]
    end = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (_lower(end, hard), hard))


def _lower(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


def _answer(descriptors: list[int]) -> bytes:
    try:
        with contextlib.ExitStack() as stack:
            job, containers, scratch = [stack.enter_context(os.fdopen(number, "r+b")) for number in descriptors[:-1]]
            target = stack.enter_context(os.fdopen(descriptors[-1], "r+b", buffering=0))
            job.seek(0)
            return b"%d" % _Recoder(json.loads(job.read())).recode(containers, scratch, target)
    except _FaultError as fault:
        return str(fault).encode()
    except MemoryError:
        return b"memory"
    except OSError as error:
        # htslib's failures have no errno.
        return b"full" if error.errno == errno.ENOSPC else b"undecoded"


class _Recoder:
    """Decodes the containers of a job and encodes the matching records."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        major, minor = job["version"]
        self._embeds = major == 2
        options = _EMBEDDED if self._embeds else _UNREFERENCED
        self._options = [option.encode() for option in (f"version={major}.{minor}", *options, _LEVEL)]
        self._header = pysam.AlignmentHeader.from_text(job["header"])

    def recode(self, containers: BinaryIO, scratch: BinaryIO, target: BinaryIO) -> int:
        """Write a CRAM file of the matching records to `target`; return where its containers of records begin."""
        self._writer(target).close()
        begin: int = target.seek(0, os.SEEK_END) - self._job["eof"]
        target.seek(0)
        scratch.write(target.read(begin))
        containers.seek(0)
        shutil.copyfileobj(containers, scratch)
        scratch.flush()
        scratch.seek(0)
        target.seek(0)
        target.truncate()
        with self._reader(scratch) as reader, self._writer(target) as writer:
            for record in self._matching(reader):
                writer.write(record)
        return begin

    def _reader(self, file: BinaryIO) -> pysam.AlignmentFile:
        # The stubs know options as text, pysam takes bytes.
        options: Any = [b"name_prefix=" + self._job["name"].encode("utf-8", "surrogateescape")]
        reference = self._job["reference"]
        return pysam.AlignmentFile(file, "rc", check_sq=False, reference_filename=reference, format_options=options)

    def _writer(self, target: BinaryIO) -> pysam.AlignmentFile:
        options: Any = self._options
        return pysam.AlignmentFile(target, "wc", header=self._header, format_options=options)

    def _matching(self, reader: pysam.AlignmentFile) -> Iterator[pysam.AlignedSegment]:
        reference_id, start, end, min_start = self._job["filter"]
        is_mixed, parts, length = self._job["is_mixed"], self._job["parts"], self._job["length"]
        count = before = 0
        for count, record in enumerate(reader.fetch(until_eof=True), 1):  # noqa: B007 - counted to its end
            if record.reference_id != reference_id:
                continue
            first = record.reference_start
            last = record.reference_end or first + 1
            if first < min_start or last <= start or (end is not None and first >= end):
                continue
            if (
                is_mixed
                and not record.is_unmapped
                and not any(low <= first and min(last, length) <= high for low, high in parts)
            ):
                raise _FaultError("elsewhere")
            if self._embeds and first < before:
                raise _FaultError("unsorted")
            before = first
            yield record
        if count != self._job["records"]:
            raise _FaultError("undecoded")
