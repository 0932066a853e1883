"""The headers of BAM (SAMv1 4.2), VCF (VCFv4.3 1.2), BCF (VCFv4.3 6.2): where they end, which references they name."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.header_lines import contigs
from htsget_flask.formats.reference_numbers import check_count, limit_of, number_references

# In bytes. Above every real header (the largest seen are tens of megabytes), below what would exhaust the memory.
MAX_HEADER_DATA = 128 << 20
_FIRST_LINE = 1000
_MAX_NUMBER = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header.

    `references` maps reference names to the numbers that the file's index knows them by (None: the index's own name
    list decides, as in VCF). `raw` is the header in the file's own format, whole BGZF blocks or a CRAM container;
    `end` is where the records start: a virtual offset, or in CRAM a byte offset. `reference_limit` is one more than
    the largest number of a reference. `sort_order` is what a SAM header states of it (@HD SO).
    """

    references: Mapping[str, int | None]
    raw: bytes
    end: int
    reference_limit: int
    sort_order: str | None = None


def read_bam_header(file: BinaryIO) -> Header:
    """The header of a BAM file.

    Raises:
        FormatError: when this is no BAM file, or a truncated or damaged one.
    """
    prefix = _open(file, b"BAM\1", "BAM")
    position = 8 + _length(prefix, 4)
    count = _length(prefix, position)
    check_count(count, "the header")
    names = _Names(prefix, position + 4, count)
    references = number_references(names, "the header")
    position = names.end
    text_end = 8 + _length(prefix, 4)
    return _header(file, prefix, position, references, sort_order(prefix.data[8 : min(text_end, 8 + _FIRST_LINE)]))


class _Names:
    """The names of the references of a BAM file, numbered; `end` is where the last one that was read ends."""

    def __init__(self, prefix: bgzf.Prefix, position: int, count: int) -> None:
        self._prefix = prefix
        self._count = count
        self.end = position

    def __iter__(self) -> Iterator[tuple[str, int]]:
        prefix = self._prefix
        for number in range(self._count):
            start = self.end + 4
            end = start + _length(prefix, self.end)
            name = prefix.require(end + 4)[start:end]
            self.end = end + 4
            yield name.rstrip(b"\0").decode("utf-8", "replace"), number


def sort_order(text: bytes | bytearray) -> str | None:
    """The sort order that a SAM header states in its first line."""
    first_line = bytes(text[:_FIRST_LINE]).partition(b"\n")[0].split(b"\t")
    orders = [field[3:].decode("ascii", "replace") for field in first_line if field.startswith(b"SO:")]
    return orders[0] if orders and first_line[0] == b"@HD" else None


def read_bcf_header(file: BinaryIO) -> Header:
    """The header of a BCF file; a contig's number is its IDX where it has one, else its place.

    Raises:
        FormatError: when this is no BCF 2 file, or a truncated or damaged one.
    """
    prefix = _open(file, b"BCF\2", "BCF")
    end = 9 + _length(prefix, 5)
    text = bytes(prefix.require(end)[9:end]).rstrip(b"\0")
    return _header(file, prefix, end, number_references(_numbered(text), "the header"))


def _numbered(text: bytes) -> Iterator[tuple[str, int]]:
    """The contigs of a BCF header and their numbers."""
    following = 0
    for contig in contigs(text):
        try:
            number = following if contig.number is None else int(contig.number)
        except ValueError:
            raise FormatError("a contig's IDX in the header is not a number") from None
        if not 0 <= number <= _MAX_NUMBER:
            raise FormatError("a contig's IDX in the header is out of bounds")
        yield contig.name, number
        following = max(following, number + 1)


def read_vcf_header(file: BinaryIO) -> Header:
    """The header of a BGZF-compressed VCF file.

    Raises:
        FormatError: when this is no such file, or a truncated or damaged one.
    """
    prefix = _open(file, b"##fileformat=VCF", "VCF")
    column_line = _find(prefix, b"\n#CHROM", 0)
    end = _find(prefix, b"\n", column_line + 1) + 1
    names = ((contig.name, None) for contig in contigs(prefix.data[:end]))
    return _header(file, prefix, end, number_references(names, "the header"))


def _find(prefix: bgzf.Prefix, text: bytes, start: int) -> int:
    """The offset of the first occurrence of a text, which is only sought in what was not read before."""
    while (found := prefix.data.find(text, start)) < 0:
        start = max(start, len(prefix.data) - len(text) + 1)
        if not prefix.extend():
            raise FormatError("the file ends within its header")
    return found


def _open(file: BinaryIO, magic: bytes, name: str) -> bgzf.Prefix:
    file.seek(0)
    start = file.read(len(magic))
    if not start:
        raise FormatError(f"the {name} file is empty")
    if start == magic:
        raise FormatError(f"the {name} file is not compressed; it has to be BGZF-compressed")
    if start[:2] != b"\x1f\x8b"[: len(start)]:
        raise FormatError(f"this is not a {name} file")
    prefix = bgzf.Prefix(file, MAX_HEADER_DATA)
    try:
        prefix.extend()
    except FormatError:
        if not _is_bgzf(file):
            raise FormatError(f"the {name} file is truncated, or compressed with plain gzip instead of BGZF") from None
        raise
    while len(prefix.data) < len(magic) and prefix.extend():
        pass
    if prefix.data[: len(magic)] != magic:
        raise FormatError(f"this is not a {name} file")
    return prefix


def _is_bgzf(file: BinaryIO) -> bool:
    try:
        bgzf.read_block_size(file, 0)
    except FormatError:
        return False
    return True


def _length(prefix: bgzf.Prefix, position: int) -> int:
    value: int = struct.unpack_from("<i", prefix.require(position + 4), position)[0]
    if not 0 <= value <= MAX_HEADER_DATA:
        raise FormatError("a length in the header is out of bounds")
    return value


def _header(
    file: BinaryIO,
    prefix: bgzf.Prefix,
    length: int,
    references: Mapping[str, int | None],
    order: str | None = None,
) -> Header:
    """The header made of the file's own BGZF blocks, the last one cut where it also holds records."""
    data = prefix.require(length)
    end = prefix.virtual_offset(length)
    coffset, uoffset = bgzf.split_offset(end)
    file.seek(0)
    raw = file.read(coffset)
    if uoffset:
        raw += bgzf.deflate(bytes(data[length - uoffset : length]))
    return Header(references, raw, end, limit_of(references), order)
