"""The headers of BAM (SAMv1 4.2), VCF (VCFv4.3 1.2) and BCF (VCFv4.3 6.2): where they end, their references."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.header_lines import Contig, contigs, number_of, sam_tags
from htsget_flask.formats.references import Reference, References, check_count, collect_references

# In bytes. Above every real header (the largest seen are tens of megabytes), below what would exhaust the memory.
MAX_HEADER_DATA = 128 << 20
# A list of more lengths takes hundreds of megabytes, and no browser shows it.
_MAX_LENGTHS = 1_000_000
_FIRST_LINE = 1000
_MAX_ID = (1 << 31) - 1
_READ_GROUP_COST = 80
_NO_TAGS = (None, None)
_INT = struct.Struct("<i")


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header.

    `raw` is the header in the file's own format, whole BGZF blocks or a CRAM container; `end` is where the records
    start: a virtual offset, or in CRAM a byte offset. `eof_marker` is what ends a file of this format and version.
    `sort_order` is what a SAM header states of it (@HD SO). `read_groups`: the ID of each @RG line of a CRAM file, by
    the numbers that its records have.
    """

    references: References
    raw: bytes
    end: int
    eof_marker: bytes = bgzf.EOF_BLOCK
    sort_order: str | None = None
    read_groups: tuple[str, ...] = ()

    @property
    def memory(self) -> int:
        """The bytes that the header takes."""
        return len(self.raw) + self.references.memory + _READ_GROUP_COST * len(self.read_groups)

    def reference_lengths(self) -> dict[str, int | None]:
        """The lengths of the references in bases, in order; None where the header states none.

        Raises:
            FormatError: when there are more than a million.
        """
        if len(self.references) > _MAX_LENGTHS:
            raise FormatError(f"the header has more than {_MAX_LENGTHS:,} references, too many to list their lengths")
        return {reference.name: reference.length for reference in self.references.in_order()}


def read_bam_header(file: BinaryIO) -> Header:
    """The header of a BAM file.

    Raises:
        FormatError: when this is not a BAM file, or a truncated or damaged one.
    """
    prefix = _open(file, b"BAM\1", "BAM")
    text_end = 8 + _length(prefix, 4)
    count = _length(prefix, text_end)
    check_count(count, "the header")
    listed = _BamReferences(prefix, text_end, count)
    references = collect_references(listed, "the header")
    return _header(
        file, prefix, listed.end, references, read_sort_order(prefix.data[8 : min(text_end, 8 + _FIRST_LINE)])
    )


class _BamReferences:
    """The binary list of references, with the MD5 of the @SQ lines, which are in the same order.

    `end`: where the last one that was read ends in the data.
    """

    def __init__(self, prefix: bgzf.Prefix, text_end: int, count: int) -> None:
        self._prefix = prefix
        self._text_end = text_end
        self._count = count
        self.end = text_end + 4

    def __iter__(self) -> Iterator[Reference]:
        prefix, data = self._prefix, self._prefix.data
        has_md5s = data.find(b"\tM5:", 8, self._text_end) >= 0
        lines = sam_tags(data, "SQ", "SN", "M5", start=8, end=self._text_end if has_md5s else 8)
        for reference_id in range(self._count):
            start = self.end + 4
            name_end = start + _length(prefix, self.end)
            self.end = name_end + 4
            if len(data) < self.end:
                prefix.require(self.end)
            name = data[start:name_end].rstrip(b"\0").decode("utf-8", "replace")
            stated_name, md5 = next(lines, _NO_TAGS)
            (length,) = _INT.unpack_from(data, name_end)
            yield Reference(name, reference_id, length, md5.lower() if md5 and stated_name == name else None)


def read_sort_order(text: bytes | bytearray) -> str | None:
    """The sort order that a SAM header states in its first line."""
    first_line = bytes(text[:_FIRST_LINE]).partition(b"\n")[0].split(b"\t")
    orders = [field[3:].decode("ascii", "replace") for field in first_line if field.startswith(b"SO:")]
    return orders[0] if orders and first_line[0] == b"@HD" else None


def read_bcf_header(file: BinaryIO) -> Header:
    """The header of a BCF file; a contig's id is its IDX where it has one, else its position in the list.

    Raises:
        FormatError: when this is not a BCF 2 file, or a truncated or damaged one.
    """
    prefix = _open(file, b"BCF\2", "BCF")
    end = 9 + _length(prefix, 5)
    text = bytes(prefix.require(end)[9:end]).rstrip(b"\0")
    return _header(file, prefix, end, collect_references(_bcf_references(text), "the header"))


def _bcf_references(text: bytes) -> Iterator[Reference]:
    following = 0
    for contig in contigs(text):
        try:
            reference_id = following if contig.idx is None else int(contig.idx)
        except ValueError:
            raise FormatError("a contig's IDX in the header is not a number") from None
        if not 0 <= reference_id <= _MAX_ID:
            raise FormatError("a contig's IDX in the header is out of bounds")
        yield _reference(contig, reference_id)
        following = max(following, reference_id + 1)


def read_vcf_header(file: BinaryIO) -> Header:
    """The header of a BGZF-compressed VCF file; its references have no ids.

    Raises:
        FormatError: when this is not such a file, or a truncated or damaged one.
    """
    prefix = _open(file, b"##fileformat=VCF", "VCF")
    column_line = _find(prefix, b"\n#CHROM", 0)
    end = _find(prefix, b"\n", column_line + 1) + 1
    references = (_reference(contig, None) for contig in contigs(prefix.data[:end]))
    return _header(file, prefix, end, collect_references(references, "the header"))


def _reference(contig: Contig, reference_id: int | None) -> Reference:
    md5 = None if contig.md5 is None else contig.md5.lower()
    return Reference(contig.name, reference_id, number_of(contig.length), md5)


def _find(prefix: bgzf.Prefix, text: bytes, start: int) -> int:
    """The offset of the first occurrence of a text; no data is searched twice."""
    while (offset := prefix.data.find(text, start)) < 0:
        start = max(start, len(prefix.data) - len(text) + 1)
        if not prefix.extend():
            raise FormatError("the file ends within its header")
    return offset


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
        if not bgzf.is_bgzf(file):
            raise FormatError(f"the {name} file is truncated, or compressed with plain gzip instead of BGZF") from None
        raise
    while len(prefix.data) < len(magic) and prefix.extend():
        pass
    if prefix.data[: len(magic)] != magic:
        raise FormatError(f"this is not a {name} file")
    return prefix


def _length(prefix: bgzf.Prefix, position: int) -> int:
    data = prefix.data
    if len(data) < position + 4:
        prefix.require(position + 4)
    value: int = _INT.unpack_from(data, position)[0]
    if not 0 <= value <= MAX_HEADER_DATA:
        raise FormatError("a length in the header is out of bounds")
    return value


def _header(
    file: BinaryIO, prefix: bgzf.Prefix, length: int, references: References, sort_order: str | None = None
) -> Header:
    """The header made of the file's own BGZF blocks, the last one cut where it also holds records."""
    data = prefix.require(length)
    end = prefix.virtual_offset(length)
    coffset, uoffset = bgzf.split_offset(end)
    file.seek(0)
    raw = file.read(coffset)
    if uoffset:
        raw += bgzf.deflate(bytes(data[length - uoffset : length]))
    return Header(references, raw, end, sort_order=sort_order)
