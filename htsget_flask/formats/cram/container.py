"""CRAM 2.1, 3.0 and 3.1: the file definition, container headers, the header container (CRAMv3 sections 6 to 8)."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import deflate as libdeflate

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.encoding import (
    UNREADABLE,
    ShortError,
    decompress,
    read_block,
    read_itf8,
    skip_itf8,
    skip_ltf8,
)
from htsget_flask.formats.headers import MAX_HEADER_DATA, Header, decode_md5, number_of, read_sort_order, sam_tags
from htsget_flask.formats.references import Reference, collect_references

FILE_DEFINITION_SIZE = 26
MAX_READ_GROUPS = 1_000_000
"""A `Header` holds at most one more, which shows that there are too many."""

_EOF = {
    2: bytes.fromhex("0b000000ffffffff0fe0454f460000000001000001000606010001000100"),
    3: bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b"),
}
# A container header is about 30 bytes and 5 more for each slice.
_CONTAINER_HEADER_READ = 512
_MAX_CONTAINER_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Container:
    """Where a container lies in the file, in bytes: its `blocks` blocks lie from `body` to `end`."""

    start: int
    body: int
    end: int
    blocks: int


def eof_container(major: int) -> bytes:
    """The EOF container of a major version of CRAM (section 9)."""
    return _EOF[major]


def read_version(file: BinaryIO) -> int:
    """The major version of a CRAM file.

    Raises:
        FormatError: when this is not a CRAM file, or one of an unsupported version.
    """
    file.seek(0)
    definition = file.read(FILE_DEFINITION_SIZE)
    if not definition:
        raise FormatError("the CRAM file is empty")
    if definition[:4] != b"CRAM" or len(definition) < FILE_DEFINITION_SIZE:
        raise FormatError("this is not a CRAM file")
    major, minor = definition[4], definition[5]
    if major not in _EOF or (major, minor) == (2, 0):
        raise FormatError(f"CRAM {major}.{minor} is not supported; 2.1, 3.0 and 3.1 are")
    return major


def read_container(file: BinaryIO, start: int, major: int) -> Container:
    """The container at byte `start`.

    Raises:
        FormatError: when none starts there (by its checksum, from CRAM 3 on), or the file ends within its header.
    """
    size = _CONTAINER_HEADER_READ
    while True:
        file.seek(start)
        data = file.read(size)
        try:
            return _container(data, start, major)
        except ShortError:
            if len(data) < size or size >= _MAX_CONTAINER_HEADER:
                raise FormatError("no CRAM container where one should start") from None
            size *= 8


def read_cram_header(file: BinaryIO, *, with_md5s: bool = False) -> Header:
    """The header of a CRAM file: file definition and header container; references are numbered as the @SQ lines.

    Raises:
        FormatError: when this is not a CRAM file, or a truncated or damaged one.
    """
    major = read_version(file)
    container = read_container(file, FILE_DEFINITION_SIZE, major)
    if container.end > MAX_HEADER_DATA:
        raise FormatError(f"the header exceeds {MAX_HEADER_DATA >> 20} MiB")
    file.seek(0)
    data = file.read(container.end + _CONTAINER_HEADER_READ)
    if len(data) < container.end:
        raise FormatError("the file ends within its header")
    try:
        text = _header_text(data[container.body :])
        # htslib writes CRAM 2.1 header containers whose length falls short of their blocks.
        end = max(container.end, _skip_blocks(data, container, major))
    except UNREADABLE as error:
        raise FormatError("the CRAM header is damaged") from error
    references = collect_references(_references(text, with_md5s=with_md5s), "the header")
    read_groups = (name.decode("utf-8", "replace") for (name,) in sam_tags(text, "RG", "ID") if name is not None)
    return Header(
        references,
        data[:end],
        end,
        eof_container(major),
        read_sort_order(text),
        tuple(islice(read_groups, MAX_READ_GROUPS + 1)),
    )


def _references(text: bytes, *, with_md5s: bool) -> Iterator[Reference]:
    """The references of a SAM header, numbered as the @SQ lines."""
    lines = sam_tags(text, "SQ", "SN", "LN", *(("M5",) if with_md5s else ()))
    for reference_id, (name, length, *md5s) in enumerate(lines):
        if name is not None:
            md5 = decode_md5(md5s[0]) if md5s else None
            yield Reference(name.decode("utf-8", "replace"), reference_id, number_of(length), md5)


def header_text(raw: bytes) -> bytes:
    """The SAM text in file definition and header container, the `raw` of a `Header`."""
    container = read_container(io.BytesIO(raw), FILE_DEFINITION_SIZE, raw[4])
    return _header_text(raw[container.body :])


def _header_text(block: bytes) -> bytes:
    """The SAM text in the header container's first block (section 8.1 and 7)."""
    method, size, start, end = read_block(block, 0)
    text = decompress(method, block[start:end], size)
    if len(text) < 4:
        raise ShortError
    length = int.from_bytes(text[:4], "little")
    return text[4 : 4 + length].rstrip(b"\0")


def container_end(file: BinaryIO, start: int, header: Header) -> int:
    """The byte offset after the container at byte `start`.

    Raises:
        FormatError: when none starts there.
    """
    return read_container(file, start, header.raw[4]).end


def ends_with_container(file: BinaryIO, size: int, header: Header) -> bool:
    """Whether the file of `size` bytes ends with a whole container, rather than within one."""
    position = header.end
    while position < size:
        position = container_end(file, position, header)
    return position == size


def _skip_blocks(data: bytes, container: Container, major: int) -> int:
    position = container.body
    for _ in range(container.blocks):
        position = read_block(data, position)[3] + (4 if major >= 3 else 0)
    return position


def _container(data: bytes, start: int, major: int) -> Container:
    if len(data) < 4:
        raise ShortError
    length = struct.unpack_from("<i", data)[0]
    position = skip_itf8(data, 4, 4)  # reference, start, span, number of records
    position = skip_ltf8(data, position) if major >= 3 else skip_itf8(data, position, 1)  # record counter
    position = skip_ltf8(data, position)  # bases
    blocks, position = read_itf8(data, position)
    landmarks, position = read_itf8(data, position)
    if length < 0 or not 0 <= landmarks <= _MAX_CONTAINER_HEADER:
        raise FormatError("no CRAM container where one should start")
    position = skip_itf8(data, position, landmarks)
    if major >= 3:
        checksum = data[position : position + 4]
        if len(checksum) < 4:
            raise ShortError
        if libdeflate.crc32(data[:position]) != int.from_bytes(checksum, "little"):
            raise FormatError("no CRAM container where one should start")
        position += 4
    return Container(start, start + position, start + position + length, blocks)
