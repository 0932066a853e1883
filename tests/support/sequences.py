"""FASTA files made in code, and their right digests, computed without the code under test."""

import base64
import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from htsget_flask.commands.refget import index_fasta, ingest_fasta
from htsget_flask.config import RefgetConfig
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.store import StoreWriter
from htsget_flask.storage.local import LocalStorage
from tests.support.files.bgzf import write_bgzf


class Expected(NamedTuple):
    """A sequence in upper case, with its digests."""

    letters: bytes

    @property
    def md5(self) -> str:
        """Its MD5 in hexadecimal."""
        return hashlib.md5(self.letters, usedforsecurity=False).hexdigest()

    @property
    def trunc512(self) -> str:
        """The first 24 bytes of its SHA-512, in hexadecimal."""
        return hashlib.sha512(self.letters).hexdigest()[:48]

    @property
    def ga4gh(self) -> str:
        """Its GA4GH identifier."""
        return "ga4gh:SQ." + base64.urlsafe_b64encode(bytes.fromhex(self.trunc512)).decode()


def expected(text: bytes) -> Expected:
    """The sequence in a text: its letters in any case, without other characters."""
    return Expected(bytes(byte for byte in text.upper() if byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def some_letters(seed: str, length: int, alphabet: bytes = b"ACGTacgtN") -> bytes:
    """`length` random letters, the same each time."""
    return bytes(random.Random(seed).choices(alphabet, k=length))


def fasta(
    sequences: Mapping[str, bytes] | Iterable[tuple[str, bytes]], *, width: int = 60, end: bytes = b"\n"
) -> bytes:
    """The text of a FASTA file with lines of `width` characters."""
    parts = []
    for name, text in sequences.items() if isinstance(sequences, Mapping) else sequences:
        lines = [b">" + name.encode(), *(text[start : start + width] for start in range(0, len(text), width)), b""]
        parts.append(end.join(lines))
    return b"".join(parts)


def write_compressed(path: Path, text: bytes, *, size: int = 5000) -> None:
    """Write a BGZF file with blocks of `size` bytes, and an empty one in the middle."""
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    write_bgzf(path, [*blocks[: len(blocks) // 2], b"", *blocks[len(blocks) // 2 :]])


def library_of(folder: Path, **settings: Any) -> Library:
    """The library of the FASTA files in a folder, or of these settings; its cache folder is next to that folder."""
    config = {"fastas": [{"storage": "data", "prefix": ""}], **settings}
    return Library(RefgetConfig.model_validate(config), {"data": LocalStorage(folder)}, folder.parent / "cache")


def faults_of(sequences: Library) -> list[str]:
    """The faults of all sources of sequences."""
    return [fault for report in sequences.scan() for fault in report.faults]


def run_index(path: Path, cache: Path) -> Path | None:
    """Save the digests of a FASTA file; the path of the saved file."""
    return index_fasta(path, cache, Silent)[0]


def run_ingest(path: Path, store: Path, cache: Path) -> tuple[int, int]:
    """Add the sequences of a FASTA file to the store in a folder."""
    return ingest_fasta(path, StoreWriter(store), cache, Silent)


class Silent:
    """A progress bar without output; it checks that the progress is complete at the end."""

    def __init__(self, label: str, length: int) -> None:
        self.count = 0
        self.length = length

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            assert self.count == self.length

    def __call__(self, step: int) -> None:
        self.count += step
