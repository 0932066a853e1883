"""Whether an index belongs to its data: both are compared where they have to agree."""

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.headers import Header
from htsget_flask.formats.index import Index
from htsget_flask.formats.records import REFERENCE_END, is_unplaced
from htsget_flask.formats.table import Format

OTHER_FILE = "the index does not fit the data: it is of another file"
_OTHER_FILE_OR_TRUNCATED = f"{OTHER_FILE}, or the data is truncated"
_NO_RECORDS = "the index does not fit the data: it holds none of its records"
_NO_LAST_RECORDS = "the index does not fit the data: it does not hold its last records"


class IndexedData(NamedTuple):
    """The data file that an index is compared with; `size` in bytes.

    `block_end` and `tail` are those of the opened file: where they fail, the data is at fault, not the index.
    """

    format: Format
    header: Header
    size: int
    content: BinaryIO
    block_end: Callable[[int], int]
    tail: Callable[[], int]


def check_index(index: Index | Crai, data: IndexedData) -> None:
    """Compare an index with its data.

    Raises:
        FormatError: when the index is of another file, of another format or of an earlier version of the file.
    """
    if isinstance(index, Crai):
        _check_crai(index, data)
        return
    if index.reference_count and data.format.names_references != bool(index.names.size):
        raise FormatError(f"this is not the index of a {data.format.name} file")
    if not data.format.names_references and index.reference_count > data.header.references.id_limit:
        raise FormatError("the index is of another file: it has more references than the header")
    if index.last_offset() >> 16 > data.size:
        raise FormatError(_OTHER_FILE_OR_TRUNCATED)
    first, start = index.first_offset(), data.header.end
    if first is None:
        if _has_placed_records(data, start):
            raise FormatError(_NO_RECORDS)
        return
    if first < start:
        # The end of the header's last block is the same position as the start of the next block.
        coffset, uoffset = bgzf.split_offset(first)
        block, size = bgzf.read_block(data.content, coffset)
        if uoffset < len(block) or bgzf.virtual_offset(coffset + size, 0) != start:
            raise FormatError(OTHER_FILE)
    if _has_placed_records(data, index.last_offset()):
        raise FormatError(_NO_LAST_RECORDS)


def _check_crai(index: Crai, data: IndexedData) -> None:
    if not len(index.containers):
        if data.header.end < data.tail():
            raise FormatError(_NO_RECORDS)
        return
    first, last = int(index.containers[0]), int(index.containers[-1])
    if last >= data.size:
        raise FormatError(_OTHER_FILE_OR_TRUNCATED)
    if first < data.header.end:
        raise FormatError(OTHER_FILE)
    marker = data.header.eof_marker
    data.content.seek(data.block_end(last))
    if data.content.read(len(marker)) not in (marker, b""):
        raise FormatError(_NO_LAST_RECORDS)


def _has_placed_records(data: IndexedData, offset: int) -> bool:
    """Whether the record at a virtual offset has a position; records without one are at the end of the file."""
    coffset, uoffset = bgzf.split_offset(offset)
    record = b""
    while coffset < data.size and len(record) < REFERENCE_END:
        try:
            size = bgzf.read_block_size(data.content, coffset)
        except FormatError:
            raise FormatError(OTHER_FILE) from None
        try:
            record += bgzf.read_block(data.content, coffset).data[uoffset:]
        except FormatError:
            # Requests for the damaged data report the damage.
            return False
        coffset, uoffset = coffset + size, 0
    return bool(record) and (not data.format.has_unplaced_records or not is_unplaced(record))
