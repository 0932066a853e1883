"""The headers of a CRAM container's slices: where their records lie, whether they need a reference."""

from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.container import Container, read_container
from htsget_flask.formats.cram.encoding import UNREADABLE, decompress, read_block, read_itf8, skip_itf8, skip_ltf8

MULTIPLE_REFERENCES = -2


class Slice(NamedTuple):
    """A slice: where its records lie (0-based, half-open), how many they are, whether they need an external reference.

    `reference_id` is -1 for unplaced records, and MULTIPLE_REFERENCES, with no bounds, for those of several.
    """

    reference_id: int
    start: int
    end: int
    records: int
    needs_reference: bool


def needs_reference(file: BinaryIO, start: int, major: int) -> bool:
    """Whether records of the container at byte `start` are stored as differences to an external reference.

    They are not where the slices embed the reference (section 8.5), or none is required (RR, section 8.4).

    Raises:
        FormatError: when the container is damaged.
    """
    container = read_container(file, start, major)
    return any(slice_.needs_reference for slice_ in read_slices(read_whole(file, container), container, major))


def read_whole(file: BinaryIO, container: Container) -> bytes:
    """All bytes of a container.

    Raises:
        FormatError: when the file ends within it.
    """
    file.seek(container.start)
    data = bytearray()
    while len(data) < container.end - container.start:
        buffer = file.read(container.end - container.start - len(data))
        if not buffer:
            raise FormatError("the file is truncated in mid-container")
        data += buffer
    return bytes(data)


def read_slices(data: bytes, container: Container, major: int) -> list[Slice]:
    """The slices of a container; `data` are all of its bytes.

    Raises:
        FormatError: when it is damaged.
    """
    checksum = 4 if major >= 3 else 0
    slices: list[Slice] = []
    try:
        if not container.blocks:
            return slices
        method, size, body, end = read_block(data, container.body - container.start)
        requires = _requires_reference(decompress(method, data[body:end], size))
        left = container.blocks - 1
        while left > 0:
            method, size, body, end = read_block(data, end + checksum)
            slice_, blocks = _read_slice(decompress(method, data[body:end], size), major)
            slices.append(slice_._replace(needs_reference=requires and slice_.needs_reference))
            for _ in range(blocks):
                *_, end = read_block(data, end + checksum)
            left -= 1 + blocks
    except (IndexError, *UNREADABLE) as error:
        raise FormatError("a CRAM container is damaged") from error
    return slices


def _requires_reference(compression_header: bytes) -> bool:
    """The RR of the preservation map, true where the map has none."""
    _, position = read_itf8(compression_header, 0)
    count, position = read_itf8(compression_header, position)
    for _ in range(count):
        key, position = compression_header[position : position + 2], position + 2
        if key == b"RR":
            return compression_header[position] != 0
        if key == b"SM":
            position += 5
        elif key == b"TD":
            length, position = read_itf8(compression_header, position)
            position += length
        else:
            position += 1
    return True


def _read_slice(header: bytes, major: int) -> tuple[Slice, int]:
    """The slice that a slice header states (section 8.5), and how many blocks follow the header."""
    reference_id, position = read_itf8(header, 0)
    start, position = read_itf8(header, position)
    span, position = read_itf8(header, position)
    records, position = read_itf8(header, position)
    position = skip_ltf8(header, position) if major >= 3 else skip_itf8(header, position, 1)  # record counter
    blocks, position = read_itf8(header, position)
    count, position = read_itf8(header, position)
    # The content id of the block that is the reference, -1 where there is none.
    embedded, _ = read_itf8(header, skip_itf8(header, position, count))
    if blocks < 0:
        raise FormatError("a CRAM container is damaged")
    needs_reference = embedded < 0 and reference_id != -1
    return Slice(reference_id, max(0, start - 1), max(0, start - 1 + span), records, needs_reference), blocks
