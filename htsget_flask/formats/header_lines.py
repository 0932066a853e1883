"""The lines of headers: contigs of VCF (VCFv4.3 1.4.7), tags of SAM (SAMv1 1.3).

Time and memory are linear in the text, whatever it holds: attributes and tags that are not requested are skipped.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# int() refuses texts of thousands of digits.
_MAX_DIGITS = 18
_PLAIN_VALUE = re.compile(r"[^,>]*")
_CONTIG = b"##contig=<"


class Contig(NamedTuple):
    """The attributes ID, IDX (BCF), length and md5 of a contig line as text; None for those that it lacks."""

    name: str
    idx: str | None
    length: str | None
    md5: str | None


def contigs(text: bytes | bytearray) -> Iterator[Contig]:
    """The contig lines of a VCF header that have an ID, in order."""
    for start, end in _lines(text, _CONTIG):
        line = text[start + len(_CONTIG) : end].decode("utf-8", "replace")
        values = {name: value for name, value in _attributes(line) if name in ("ID", "IDX", "length", "md5")}
        if "ID" in values:
            yield Contig(values["ID"], values.get("IDX"), values.get("length"), values.get("md5"))


def sam_tags(text: bytes | bytearray, kind: str, *tags: str) -> Iterator[tuple[bytes | None, ...]]:
    """The values of these tags in each line of a kind of a SAM header.

    None for those that the line lacks; of a tag that it has twice the first value.
    """
    values = "".join(rf"(?=[^\n]*?\t{tag}:([^\t\r\n]*))?" for tag in tags)
    pattern = re.compile(rf"\n@{kind}(?=\t){values}".encode())
    return (match.groups() for match in pattern.finditer(b"\n" + text))


def decode_md5(value: bytes) -> str:
    """The MD5 in a SAM header, in lower case."""
    return value.decode("utf-8", "replace").lower()


def number_of(text: str | bytes | None) -> int | None:
    """The number below 10**18 that a text states; None where it states none."""
    return int(text) if text and text.isdigit() and text.isascii() and len(text) <= _MAX_DIGITS else None


def _lines(data: bytes | bytearray, prefix: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Where the lines in `start` to `end` of the data start and end that start with the prefix."""
    end = len(data) if end is None else end
    find, line_start = data.find, b"\n" + prefix
    if not data.startswith(prefix, start, end):
        start = find(line_start, start, end) + 1 or end
    while start < end:
        newline = find(b"\n", start, end)
        line_end = newline if newline >= 0 else end
        yield start, line_end - (data[line_end - 1] == 0x0D)
        start = find(line_start, line_end, end) + 1 or end


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
