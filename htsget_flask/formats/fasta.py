"""FASTA files: what they are called, and the lengths of sequences in their .fai."""

import io
from typing import BinaryIO

from htsget_flask.errors import FormatError
from htsget_flask.formats.header_lines import number_of
from htsget_flask.formats.unpacking import check_size

MAX_FAI = 64 << 20
"""In bytes; that of an assembly with a million scaffolds has half of it."""

_MAX_LENGTHS = 1_000_000
_FAI_COLUMNS = 5

COMPRESSED = (".gz", ".bgz")

_SUFFIXES = (".fa", ".fasta", ".fna", ".faa")


def is_fasta(key: str) -> bool:
    """Whether a file is FASTA by its name, plain or compressed."""
    stem = next((key.removesuffix(suffix) for suffix in COMPRESSED if key.endswith(suffix)), key)
    return stem.endswith(_SUFFIXES)


def read_lengths(file: BinaryIO, size: int) -> dict[str, int]:
    """The lengths in bases of the sequences that a .fai of `size` bytes names; lines of another form are left out.

    Raises:
        FormatError: when it is longer than 64 MiB, or names more than a million sequences.
    """
    check_size(size, "the .fai", MAX_FAI)
    lengths: dict[str, int] = {}
    for line in io.BytesIO(file.read(size)):
        row = line.decode("utf-8", "replace").rstrip("\r\n").split("\t", _FAI_COLUMNS)
        length = number_of(row[1]) if len(row) >= _FAI_COLUMNS else None
        if length is not None:
            lengths[row[0]] = length
        if len(lengths) > _MAX_LENGTHS:
            raise FormatError(f"the .fai names more than {_MAX_LENGTHS:,} sequences")
    return lengths
