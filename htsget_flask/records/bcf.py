"""BCF as VCF (VCFv4.3 1, 6): the header's text, and the lines of records. The process of `decoder` formats them."""

import io
import struct
import tempfile
from collections.abc import Iterable
from typing import BinaryIO

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import read_blocks
from htsget_flask.records.decoder import Decoder

_SIZES = struct.Struct("<II")


def vcf_header(header_raw: bytes, decoder: Decoder) -> bytes:
    """The header of a BCF file as text; `header_raw` are its BGZF blocks.

    Raises:
        FormatError: when it cannot be decoded.
        ServiceUnavailable: when the decoder is busy.
    """
    with tempfile.TemporaryFile(buffering=0) as target:
        _run(header_raw, (), decoder, target, {"part": "header"})
        target.seek(0)
        return target.read()


def format_bcf(
    header_raw: bytes, records: Iterable[bytes], decoder: Decoder, target: BinaryIO, *, is_text: bool
) -> None:
    """Append the lines of BCF records to an unbuffered file: as plain text, or as BGZF blocks.

    `header_raw`: the BGZF blocks of the header. `records`: whole records, uncompressed, one or several at a time.
    Memory is bounded by one of `records`; the process also has some MB of lines in memory.

    Raises:
        FormatError: when they cannot be decoded, or not within the decoder's limits.
        ServiceUnavailable: when the decoder is busy, before anything is read or written.
    """
    _run(header_raw, records, decoder, target, {"part": "records", "is_text": is_text})


def _run(
    header_raw: bytes, records: Iterable[bytes], decoder: Decoder, target: BinaryIO, job: dict[str, object]
) -> None:
    with decoder.reserve() as process, tempfile.TemporaryFile() as source:
        source.writelines(block.data for block in read_blocks(io.BytesIO(header_raw), 0))
        count = 0
        for data in records:
            count += _count(data)
            source.write(data)
        source.flush()
        process.run({"kind": "bcf", "records": count, **job}, (source, target))


def _count(data: bytes) -> int:
    """The number of records in the data.

    Raises:
        FormatError: unless they are whole.
    """
    count = position = 0
    while position + _SIZES.size <= len(data):
        count += 1
        position += _SIZES.size + sum(_SIZES.unpack_from(data, position))
    if position != len(data):
        raise FormatError("a record is damaged")
    return count
