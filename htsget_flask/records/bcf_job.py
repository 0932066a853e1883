"""What the confined process does with a BCF file: formats its header or its records as VCF.

The files of a job: an uncompressed BCF file, and the target, to which it appends.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pysam

from htsget_flask.formats.bgzf import deflate
from htsget_flask.records.job_fault import JobFaultError

# In bytes of text: as much is compressed together.
_BUFFER_SIZE = 4 << 20


def run_bcf_job(job: dict[str, Any], files: Sequence[BinaryIO]) -> None:
    """Append the header as text, or the lines of the records as text or BGZF blocks, to the target.

    Raises:
        JobFaultError: when htslib does not read all records.
        OSError, ValueError: when they cannot be decoded.
    """
    source, target = files
    source.seek(0)
    target.seek(0, os.SEEK_END)
    # Texts may have any bytes.
    pysam.set_encoding_error_handler("surrogateescape")
    with pysam.VariantFile(source, "rb") as reader:
        if job["part"] == "header":
            target.write(_encode(str(reader.header)))
            return
        for text in _texts(reader, job["records"]):
            target.write(text if job["is_text"] else deflate(text))


def _texts(reader: pysam.VariantFile, expected: int) -> Iterator[bytes]:
    lines: list[bytes] = []
    count = size = 0
    for count, record in enumerate(reader, 1):  # noqa: B007 - counted to its end
        line = _encode(str(record))
        lines.append(line)
        size += len(line)
        if size >= _BUFFER_SIZE:
            yield b"".join(lines)
            lines, size = [], 0
    if count != expected:
        raise JobFaultError("undecoded")
    yield b"".join(lines)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
