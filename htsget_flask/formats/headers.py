"""The headers of BAM (SAMv1 4.2), VCF (VCFv4.3 1.2) and BCF (VCFv4.3 6.2): where they end, their references.

Time and memory are linear in the text, whatever it holds: attributes and tags that are not requested are skipped.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
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
# int() refuses texts of thousands of digits.
_MAX_DIGITS = 18
_MAX_TAG_OFFSET = 64 << 10
_PLAIN_VALUE = re.compile(r"[^,>]*")
_CONTIG = b"##contig=<"


class _Contig(NamedTuple):
    """The attributes ID, IDX (BCF), length and md5 of a contig line as text; None for those that it lacks."""

    name: str
    idx: str | None
    length: str | None
    md5: str | None


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header.

    `raw` is the header in the file's own format, whole BGZF blocks or a CRAM container; `end` is where the records
    start: a virtual offset, or in CRAM a byte offset. `eof_marker` ends a file of this format and version.
    `sort_order`: the SO of the @HD line, None without one. `read_groups`: the ID of each @RG line of a CRAM file, in
    order, as its records refer to them by number.
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


def read_bam_header(file: BinaryIO, *, with_md5s: bool = False) -> Header:
    """The header of a BAM file.

    Raises:
        FormatError: when this is not a BAM file, or a truncated or damaged one.
    """
    prefix = _open(file, b"BAM\1", "BAM")
    text_end = 8 + _length(prefix, 4)
    count = _length(prefix, text_end)
    check_count(count, "the header")
    text = prefix.data[8:text_end] if with_md5s else b""
    sort_order = read_sort_order(prefix.data[8 : min(text_end, 8 + _FIRST_LINE)])
    prefix.position = text_end + 4
    return _header(file, prefix, collect_references(_bam_references(prefix, count, text), "the header"), sort_order)


def _bam_references(prefix: bgzf.Prefix, count: int, text: bytes | bytearray) -> Iterator[Reference]:
    """The binary list of references, with the MD5s of the text's @SQ lines, which are in the same order."""
    data, position, unpack = prefix.data, prefix.position, _INT.unpack_from
    lines = sam_tags(text, "SQ", "SN", "M5")
    for reference_id in range(count):
        start = position + 4
        end = start + _length(prefix, position)
        position = end + 4
        if len(data) < position:
            prefix.require(position)
        encoded = data[start:end].rstrip(b"\0")
        name = encoded.decode("utf-8", "replace")
        (length,) = unpack(data, end)
        if text:
            stated_name, md5 = next(lines, _NO_TAGS)
            yield Reference(name, reference_id, length, decode_md5(md5) if stated_name == bytes(encoded) else None)
        else:
            yield Reference(name, reference_id, length)
    prefix.position = position


def read_sort_order(text: bytes | bytearray) -> str | None:
    """The sort order that a SAM header states in its first line."""
    first_line = bytes(text[:_FIRST_LINE]).partition(b"\n")[0].split(b"\t")
    orders = [field[3:].decode("ascii", "replace") for field in first_line if field.startswith(b"SO:")]
    return orders[0] if orders and first_line[0] == b"@HD" else None


def read_bcf_header(file: BinaryIO, *, with_md5s: bool = False) -> Header:
    """The header of a BCF file; a contig's id is its IDX where it has one, else its position in the list.

    Raises:
        FormatError: when this is not a BCF 2 file, or a truncated or damaged one.
    """
    prefix = _open(file, b"BCF\2", "BCF")
    prefix.position = end = 9 + _length(prefix, 5)
    text = bytes(prefix.require(end)[9:end]).rstrip(b"\0")
    return _header(file, prefix, collect_references(_bcf_references(text, with_md5s=with_md5s), "the header"))


def _bcf_references(text: bytes, *, with_md5s: bool) -> Iterator[Reference]:
    following = 0
    for contig in _contigs(text):
        try:
            reference_id = following if contig.idx is None else int(contig.idx)
        except ValueError:
            raise FormatError("a contig's IDX in the header is not a number") from None
        if not 0 <= reference_id <= _MAX_ID:
            raise FormatError("a contig's IDX in the header is out of bounds")
        yield _reference(contig, reference_id, with_md5=with_md5s)
        following = max(following, reference_id + 1)


def read_vcf_header(file: BinaryIO, *, with_md5s: bool = False) -> Header:
    """The header of a BGZF-compressed VCF file; its references have no ids.

    Raises:
        FormatError: when this is not such a file, or a truncated or damaged one.
    """
    prefix = _open(file, b"##fileformat=VCF", "VCF")
    column_line = _find(prefix, b"\n#CHROM", 0)
    prefix.position = _find(prefix, b"\n", column_line + 1) + 1
    lines = _contigs(prefix.data[: prefix.position])
    references = collect_references((_reference(line, None, with_md5=with_md5s) for line in lines), "the header")
    return _header(file, prefix, references)


def _reference(contig: _Contig, reference_id: int | None, *, with_md5: bool) -> Reference:
    md5 = contig.md5.lower() if with_md5 and contig.md5 is not None else None
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


def _header(file: BinaryIO, prefix: bgzf.Prefix, references: References, sort_order: str | None = None) -> Header:
    """The header, made of the file's own BGZF blocks; the last one is cut where it also holds records."""
    length = prefix.position
    data = prefix.require(length)
    end = prefix.virtual_offset(length)
    coffset, uoffset = bgzf.split_offset(end)
    file.seek(0)
    raw = file.read(coffset)
    if uoffset:
        raw += bgzf.deflate(bytes(data[length - uoffset : length]))
    return Header(references, raw, end, sort_order=sort_order)


def _contigs(text: bytes | bytearray) -> Iterator[_Contig]:
    """The contig lines of a VCF header that have an ID, in order."""
    for start, end in _contig_lines(text):
        line = text[start + len(_CONTIG) : end].decode("utf-8", "replace")
        values = {name: value for name, value in _attributes(line) if name in ("ID", "IDX", "length", "md5")}
        if "ID" in values:
            yield _Contig(values["ID"], values.get("IDX"), values.get("length"), values.get("md5"))


def sam_tags(text: bytes | bytearray, kind: str, *tags: str) -> Iterator[tuple[bytes | None, ...]]:
    """The values of these tags in each line of a kind of a SAM header.

    None for a tag that is not in the line's first 64 KiB; the first value of a repeated tag.
    """
    # Without a limit a search in a line of many megabytes would stop all other threads.
    values = "".join(rf"(?=[^\n]{{0,{_MAX_TAG_OFFSET}}}?\t{tag}:([^\t\r\n]*))?" for tag in tags)
    pattern = re.compile(rf"\n@{kind}(?=\t){values}".encode())
    return (match.groups() for match in pattern.finditer(b"\n" + text))


def decode_md5(value: bytes | None) -> str | None:
    """The MD5 in a SAM header, in lower case."""
    return value.decode("utf-8", "replace").lower() if value else None


def number_of(text: str | bytes | None) -> int | None:
    """The number below 10**18 that a text states; None where it states none."""
    return int(text) if text and text.isdigit() and text.isascii() and len(text) <= _MAX_DIGITS else None


def _contig_lines(text: bytes | bytearray) -> Iterator[tuple[int, int]]:
    start = 0 if text.startswith(_CONTIG) else text.find(b"\n" + _CONTIG) + 1 or len(text)
    while start < len(text):
        newline = text.find(b"\n", start)
        end = newline if newline >= 0 else len(text)
        yield start, end - (text[end - 1] == 0x0D)
        start = text.find(b"\n" + _CONTIG, end) + 1 or len(text)


def _attributes(line: str) -> Iterator[tuple[str, str]]:
    """The attributes in a structured line, without the quotes of their values."""
    position = 0
    while (equals := line.find("=", position)) >= 0:
        name = line[position:equals].rpartition(",")[2].strip()
        start = equals + 1
        if line.startswith('"', start):
            quote = line.find('"', start + 1)
            while quote >= 0 and line[quote - 1] == "\\":
                quote = line.find('"', quote + 1)
            position = quote + 1 if quote >= 0 else len(line)
        else:
            plain = _PLAIN_VALUE.match(line, start)
            position = plain.end() if plain else len(line)
        yield name, line[start:position].strip('"')
