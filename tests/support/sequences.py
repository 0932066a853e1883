"""FASTA files made in code, and what is right of their sequences, without the code under test."""

import base64
import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.files import write_bgzf


class Expected(NamedTuple):
    """A sequence as refget has it."""

    letters: bytes

    @property
    def md5(self) -> str:
        """Its MD5 in hexadecimal."""
        return hashlib.md5(self.letters, usedforsecurity=False).hexdigest()

    @property
    def trunc512(self) -> str:
        """The first half of its SHA-512 and a little less, in hexadecimal."""
        return hashlib.sha512(self.letters).hexdigest()[:48]

    @property
    def ga4gh(self) -> str:
        """Its GA4GH identifier."""
        return "ga4gh:SQ." + base64.urlsafe_b64encode(bytes.fromhex(self.trunc512)).decode()


def expected(text: bytes) -> Expected:
    """The sequence of letters that may be in any case, with other characters between."""
    return Expected(bytes(byte for byte in text.upper() if byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def some_letters(seed: str, length: int, alphabet: bytes = b"ACGTacgtN") -> bytes:
    """So many letters, the same each time."""
    return bytes(random.Random(seed).choices(alphabet, k=length))


def fasta(
    sequences: Mapping[str, bytes] | Iterable[tuple[str, bytes]], *, width: int = 60, end: bytes = b"\n"
) -> bytes:
    """The text of a FASTA file with lines of `width` characters."""
    pieces = []
    for name, text in sequences.items() if isinstance(sequences, Mapping) else sequences:
        lines = [b">" + name.encode(), *(text[start : start + width] for start in range(0, len(text), width)), b""]
        pieces.append(end.join(lines))
    return b"".join(pieces)


def write_compressed(path: Path, text: bytes, *, size: int = 5000) -> None:
    """Write a BGZF file whose blocks hold `size` bytes each, and one in the middle that is empty."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    write_bgzf(path, [*pieces[: len(pieces) // 2], b"", *pieces[len(pieces) // 2 :]])
