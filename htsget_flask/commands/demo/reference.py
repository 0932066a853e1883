"""The reference of the example data."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam
from numpy.typing import NDArray

CONTIGS = (("chr1", 600_000, 0.41, 2), ("chr2", 300_000, 0.41, 2), ("chrM", 16_569, 0.44, 1))
"""Name, bases, GC fraction and ploidy."""

_WINDOW = 1000  # bases
_LINE_BASES = 60

Bytes = NDArray[np.uint8]


class Reference(NamedTuple):
    name: str
    ploidy: int
    codes: Bytes
    text: str


def draw_reference(rng: np.random.Generator, name: str, length: int, gc: float, ploidy: int) -> Reference:
    """Draw a sequence whose GC fraction wanders from one window of 1,000 bases to the next."""
    window_gc = rng.normal(gc, 0.05, length // _WINDOW + 1)
    is_gc = rng.random(length) < np.repeat(window_gc, _WINDOW)[:length]
    second = rng.integers(0, 2, length, dtype=np.uint8)
    codes = np.where(is_gc, 1 + second, 3 * second).astype(np.uint8)
    return Reference(name, ploidy, codes, decode_bases(codes))


def decode_bases(codes: Bytes) -> str:
    return np.frombuffer(b"ACGT", dtype=np.uint8)[codes].tobytes().decode("ascii")


def write_reference(path: Path, references: Sequence[Reference]) -> None:
    """Write a FASTA file and its index."""
    with path.open("w", encoding="ascii", newline="\n") as fasta:
        for name, _, _, text in references:
            fasta.write(f">{name}\n")
            fasta.writelines(f"{text[at : at + _LINE_BASES]}\n" for at in range(0, len(text), _LINE_BASES))
    pysam.faidx(str(path), catch_stdout=False)
