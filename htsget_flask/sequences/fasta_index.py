"""What is known of the sequences of one FASTA file: where they lie, how long they are, their digests."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask import array_file as sidecar
from htsget_flask.sequences.digests import MD5_SIZE, TRUNC512_SIZE, Digests
from htsget_flask.storage import Stat

BESIDE = ".refget"
"""What the name of a FASTA file has behind it for the file of its table, where that lies beside it."""

# Part of a file's version: to be raised when the arrays change their meaning.
_TABLE_VERSION = 1

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Layout(NamedTuple):
    """Where a sequence's letters lie in the text of a file, in bytes of the text: uncompressed, where it is compressed.

    From `start` on `bases` letters are followed by others up to `width`, as in a .fai; `end` is behind all of it.
    Where `width` is 0 there is no such rule: the letters are those bytes between `start` and `end` that are letters.
    """

    start: int
    end: int
    bases: int
    width: int


def one_line(length: int) -> Layout:
    """The layout of a sequence of so many letters that is all of its file."""
    return Layout(0, length, max(1, length), max(1, length))


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The sequences of a FASTA file in its order, one for each element, or row, of all arrays but two.

    `names`: the bytes of all names, each up to its `name_ends`. `bodies`: where the line behind the header starts;
    `starts`, `ends`, `bases`, `widths`: as in Layout. `lengths`: in letters. `md5`, `trunc512`: rows of 16 and 24
    bytes. `block_coffsets`, `block_uoffsets`: where the BGZF blocks start, in the file and in the text; empty where
    the file is not compressed.
    """

    names: Bytes
    name_ends: Integers
    bodies: Integers
    starts: Integers
    ends: Integers
    bases: Integers
    widths: Integers
    lengths: Integers
    md5: Bytes
    trunc512: Bytes
    block_coffsets: Integers
    block_uoffsets: Integers

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, place: int) -> str:
        """The name of a sequence."""
        start = int(self.name_ends[place - 1]) if place else 0
        return self.names[start : int(self.name_ends[place])].tobytes().decode("utf-8", "replace")

    def all_names(self) -> list[str]:
        """The names of all sequences."""
        return [self.name(place) for place in range(len(self))]

    def digests(self, place: int) -> Digests:
        """The digests of a sequence."""
        return Digests(self.md5[place].tobytes(), self.trunc512[place].tobytes())

    def layout(self, place: int) -> Layout:
        """Where a sequence lies."""
        columns = (self.starts, self.ends, self.bases, self.widths)
        return Layout(*(int(column[place]) for column in columns))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> "Table":
        """The table whose fields are these arrays."""
        table = cls(**{field.name: arrays[field.name] for field in fields(cls)})  # type: ignore[arg-type]
        if table.md5.shape != (len(table), MD5_SIZE) or table.trunc512.shape != (len(table), TRUNC512_SIZE):
            raise ValueError("not a table of digests")
        return table

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def load_table(path: Path, stat: Stat) -> Table | None:
    """The table of this version of a FASTA file, mapped; None when the file has none that fits and is sound."""
    arrays = sidecar.load(path, _version(stat))
    return None if arrays is None else Table.from_arrays(arrays)


def store_table(path: Path, stat: Stat, table: Table, *, mode: int = 0o600) -> None:
    """Write the table of a version of a FASTA file to a file with these permissions, atomically.

    Raises:
        OSError: when the folder cannot be written.
    """
    sidecar.store(path, _version(stat), table.arrays(), mode=mode)


def kept_path(folder: Path, location: str) -> Path:
    """Where the table of the FASTA file at `location` is kept in a cache folder."""
    return folder / "refget" / hashlib.sha256(location.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _version(stat: Stat) -> str:
    names = ",".join(field.name for field in fields(Table))
    return f"refget {_TABLE_VERSION} {names} {stat.etag}"
