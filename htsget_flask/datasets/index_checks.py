"""Whether an index belongs to its data: both are compared where they have to agree."""

from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.cram import container as cram
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.headers import Header
from htsget_flask.formats.index import Index
from htsget_flask.formats.records import PLACE_SIZE, is_unplaced

_OTHER_FILE = "the index does not fit the data: it is of another file"
_OTHER_FILE_OR_TRUNCATED = f"{_OTHER_FILE}, or the data is truncated"
_NO_RECORDS = "the index does not fit the data: it holds none of its records"
_NO_LAST_RECORDS = "the index does not fit the data: it does not hold its last records"


class IndexedData(NamedTuple):
    """The data file that an index is compared with; `size` in bytes."""

    format_name: str
    header: Header
    size: int
    content: BinaryIO


def check_index(index: Index, data: IndexedData) -> None:
    """Check the BAI, TBI or CSI of a file of BGZF blocks.

    Raises:
        FormatError: when it is of another file, of another format or of an earlier version of the file.
    """
    # Only the indexes of VCF carry names.
    if index.reference_count and (data.format_name == "VCF") != bool(index.names.size):
        raise FormatError(f"this is not the index of a {data.format_name} file")
    if data.format_name == "BAM" and index.reference_count > len(data.header.references):
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
            raise FormatError(_OTHER_FILE)
    if _has_placed_records(data, index.last_offset()):
        raise FormatError(_NO_LAST_RECORDS)


def check_crai(index: Crai, data: IndexedData) -> None:
    """Check the index of a CRAM file.

    Raises:
        FormatError: when it is of another file, or of an earlier version of the file.
    """
    end, major = data.header.end, data.header.raw[4]
    if len(index.containers):
        first, last = int(index.containers[0]), int(index.containers[-1])
        if last >= data.size:
            raise FormatError(_OTHER_FILE_OR_TRUNCATED)
        if first < end:
            raise FormatError(_OTHER_FILE)
        end = cram.read_container(data.content, last, major).end
    marker = cram.eof_container(major)
    data.content.seek(end)
    if data.content.read(len(marker)) not in (marker, b""):
        raise FormatError(_NO_LAST_RECORDS if len(index.containers) else _NO_RECORDS)


def _has_placed_records(data: IndexedData, offset: int) -> bool:
    """Whether the record at a virtual offset has a position; records without one are at the end of the file."""
    coffset, uoffset = bgzf.split_offset(offset)
    record = b""
    while coffset < data.size and len(record) < PLACE_SIZE:
        try:
            size = bgzf.read_block_size(data.content, coffset)
        except FormatError:
            raise FormatError(_OTHER_FILE) from None
        try:
            record += bgzf.read_block(data.content, coffset).data[uoffset:]
        except FormatError:
            # Requests for the damaged data report the damage.
            return False
        coffset, uoffset = coffset + size, 0
    return bool(record) and (data.format_name != "BAM" or not is_unplaced(record))
