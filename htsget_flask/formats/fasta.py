"""FASTA files: their names, and the `.fai` index that `samtools faidx` writes for them."""

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from htsget_flask.errors import FormatError
from htsget_flask.formats.headers import number_of
from htsget_flask.formats.unpacking import check_size

MAX_FAI = 64 << 20
"""In bytes; the .fai of an assembly with a million scaffolds has half of it."""

_MAX_LENGTHS = 1_000_000
_FAI_COLUMNS = 5

COMPRESSED = (".gz", ".bgz")

_SUFFIXES = (".fa", ".fasta", ".fna", ".faa")


def is_fasta(key: str) -> bool:
    """Whether a file is FASTA by its name, plain or compressed."""
    stem = next((key.removesuffix(suffix) for suffix in COMPRESSED if key.endswith(suffix)), key)
    return stem.endswith(_SUFFIXES)


class FaiRecord(NamedTuple):
    """A line of a .fai: lengths in bases, the offset of the first base and the line width in bytes (faidx(5))."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int


def parse_fai(file: BinaryIO) -> Iterator[FaiRecord | None]:
    """The records of a .fai, line by line; None for a malformed line."""
    for line in file:
        name, *columns = line.decode("utf-8", "replace").rstrip("\r\n").split("\t", _FAI_COLUMNS)
        numbers = [number for column in columns if (number := number_of(column)) is not None]
        yield FaiRecord(name, *numbers) if len(numbers) == len(columns) == _FAI_COLUMNS - 1 else None


def read_lengths(file: BinaryIO, size: int) -> dict[str, int]:
    """The lengths in bases of the sequences in a .fai of `size` bytes; malformed lines are left out.

    Raises:
        FormatError: when it is longer than 64 MiB, or names more than a million sequences.
    """
    check_size(size, "the .fai", MAX_FAI)
    lengths: dict[str, int] = {}
    for record in parse_fai(io.BytesIO(file.read(size))):
        if record is not None:
            lengths[record.name] = record.length
        if len(lengths) > _MAX_LENGTHS:
            raise FormatError(f"the .fai names more than {_MAX_LENGTHS:,} sequences")
    return lengths
