"""The index of one FASTA file: where its sequences lie, how long they are, and their digests."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask import array_file
from htsget_flask.sequences.digests import MD5_SIZE, TRUNC512_SIZE, Digests
from htsget_flask.storage import Stat

SUFFIX = ".refget"
"""Follows the name of a FASTA file in the name of the file that holds its index, where both lie in one folder."""

# Part of the version of an index file: raise it when the arrays change their meaning.
_LAYOUT_VERSION = 1

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class LineLayout(NamedTuple):
    """Where the letters of a sequence lie in the text of a file, in bytes of the uncompressed text.

    `offset` is that of the first letter, `end` follows the last line. As in a .fai each line has `line_bases` letters
    and `line_width` bytes in all. A `line_width` of 0 means lines of different lengths: the letters are those bytes
    from `offset` to `end` that are letters.
    """

    offset: int
    end: int
    line_bases: int
    line_width: int


@dataclass(frozen=True, slots=True, eq=False)
class FastaIndex(array_file.ArrayFields):
    """The sequences of a FASTA file in file order, a row each in every array except `names` and the last two.

    `names`: the bytes of all names together, each ending at its `name_ends`. `bodies`: the offset of the line after
    the header line. `offsets`, `ends`, `line_bases`, `line_widths`: as in LineLayout. `lengths`: in letters. `md5`,
    `trunc512`: 16 and 24 bytes a row. `block_coffsets`, `block_uoffsets`: where the BGZF blocks start, in the file and
    in the text; empty for a file that is not compressed.
    """

    names: Bytes
    name_ends: Integers
    bodies: Integers
    offsets: Integers
    ends: Integers
    line_bases: Integers
    line_widths: Integers
    lengths: Integers
    md5: Bytes
    trunc512: Bytes
    block_coffsets: Integers
    block_uoffsets: Integers

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, row: int) -> str:
        start = int(self.name_ends[row - 1]) if row else 0
        return self.names[start : int(self.name_ends[row])].tobytes().decode("utf-8", "replace")

    def all_names(self) -> list[str]:
        return [self.name(row) for row in range(len(self))]

    def digests(self, row: int) -> Digests:
        return Digests(self.md5[row].tobytes(), self.trunc512[row].tobytes())

    def layout(self, row: int) -> LineLayout:
        columns = (self.offsets, self.ends, self.line_bases, self.line_widths)
        return LineLayout(*(int(column[row]) for column in columns))

    def __post_init__(self) -> None:
        if self.md5.shape != (len(self), MD5_SIZE) or self.trunc512.shape != (len(self), TRUNC512_SIZE):
            raise ValueError("the digests have other sizes than MD5 and TRUNC512")


def read_index_file(path: Path, stat: Stat) -> FastaIndex | None:
    """The index of this version of a FASTA file, mapped; None when the file has no sound index of this version.

    Raises:
        ValueError: when its digests have other sizes than MD5 and TRUNC512.
    """
    arrays = array_file.load(path, _version(stat))
    if arrays is None:
        return None
    return FastaIndex.from_arrays(arrays)


def write_index_file(path: Path, stat: Stat, index: FastaIndex, *, mode: int = 0o600) -> None:
    """Write the index of a version of a FASTA file to a file with these permissions, atomically.

    Raises:
        OSError: when the folder cannot be written.
    """
    array_file.store(path, _version(stat), index.arrays(), mode=mode)


def cache_path(folder: Path, location: str) -> Path:
    """The index file of the FASTA file at `location` in a cache folder."""
    return folder / "refget" / hashlib.sha256(location.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _version(stat: Stat) -> str:
    names = ",".join(field.name for field in fields(FastaIndex))
    return f"refget {_LAYOUT_VERSION} {names} {stat.etag}"
