"""Lines of the text of headers: contigs of VCF (VCFv4.3 1.4.7), tags of SAM (SAMv1 1.3).

Time and memory are linear in the text, whatever it holds: attributes and tags that nobody reads are not kept.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# int() refuses texts of thousands of digits.
_MAX_DIGITS = 18
_PLAIN_VALUE = re.compile(r"[^,>]*")


class Contig(NamedTuple):
    """The attributes ID, IDX (BCF), length and md5 of a contig line as text; None for those that it lacks."""

    name: str
    number: str | None
    length: str | None
    md5: str | None


def contigs(text: bytes | bytearray) -> Iterator[Contig]:
    """The contig lines of a VCF header that have an ID, in order."""
    for line in _lines(text, b"##contig=<"):
        values = {name: value for name, value in _attributes(line) if name in ("ID", "IDX", "length", "md5")}
        if "ID" in values:
            yield Contig(values["ID"], values.get("IDX"), values.get("length"), values.get("md5"))


def sam_tags(text: bytes, kind: str, *names: str) -> Iterator[list[str | None]]:
    """The values of these tags in each line of a kind of a SAM header, None for those that it lacks.

    Of a tag that a line has twice it is the first value.
    """
    for line in _lines(text, f"@{kind}".encode()):
        if line.startswith("\t"):
            yield [_tag(line, name) for name in names]


def number_of(text: str | None) -> int | None:
    """The number below 10**18 that a text states; None where it states none."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _lines(text: bytes | bytearray, prefix: bytes) -> Iterator[str]:
    """What follows the prefix in each line that starts with it."""
    line_start = b"\n" + prefix
    place = 0 if text.startswith(prefix) else text.find(line_start) + len(b"\n")
    while text.startswith(prefix, place):
        end = text.find(b"\n", place)
        end = len(text) if end < 0 else end
        yield text[place + len(prefix) : end].decode("utf-8", "replace").rstrip("\r")
        place = text.find(line_start, end) + len(b"\n") or len(text)


def _tag(line: str, name: str) -> str | None:
    start = line.find(f"\t{name}:")
    if start < 0:
        return None
    start += len(name) + 2
    end = line.find("\t", start)
    return line[start : end if end >= 0 else None]


def _attributes(line: str) -> Iterator[tuple[str, str]]:
    """The attributes in a structured line, without the quotes of their values."""
    place = 0
    while (equals := line.find("=", place)) >= 0:
        name = line[place:equals].rpartition(",")[2].strip()
        start = equals + 1
        if line.startswith('"', start):
            quote = line.find('"', start + 1)
            while quote >= 0 and line[quote - 1] == "\\":
                quote = line.find('"', quote + 1)
            place = quote + 1 if quote >= 0 else len(line)
        else:
            plain = _PLAIN_VALUE.match(line, start)
            place = plain.end() if plain else len(line)
        yield name, line[start:place].strip('"')
