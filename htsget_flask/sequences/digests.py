"""The digests of sequences, and identifiers made of them (refget 2.0.0, "Checksum calculation")."""

import base64
import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import NamedTuple

MD5_SIZE, TRUNC512_SIZE = 16, 24

# Hashing less than this costs less than handing it to another thread.
_MIN_FOR_THREAD = 64 << 10
_MD5 = re.compile(r"(?:md5:)?([0-9A-Fa-f]{32})", re.ASCII)
_TRUNC512 = re.compile(r"(?:trunc512:)?([0-9A-Fa-f]{48})", re.ASCII)
_GA4GH = re.compile(r"(?:ga4gh:)?SQ\.([0-9A-Za-z_-]{32})", re.ASCII)
_CURIE = re.compile(r"[^\s:/]{1,100}:[^\s/]{1,200}")


class Digests(NamedTuple):
    """The MD5 of a sequence, and the first 24 bytes of its SHA-512, which TRUNC512 and ga4gh both encode."""

    md5: bytes
    trunc512: bytes


class Digester:
    """Both digests in one pass; a `helper` computes one of them in parallel (hashlib releases the GIL)."""

    def __init__(self, helper: Executor | None = None) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512(usedforsecurity=False)
        self._helper = helper

    def update(self, letters: "bytes | memoryview") -> None:
        """Add the next letters of the sequence, in upper case."""
        if self._helper is None or len(letters) < _MIN_FOR_THREAD:
            self._md5.update(letters)
            self._sha512.update(letters)
        else:
            md5_update = self._helper.submit(self._md5.update, letters)
            self._sha512.update(letters)
            md5_update.result()

    def digests(self) -> Digests:
        return Digests(self._md5.digest(), self._sha512.digest()[:TRUNC512_SIZE])


class Identifier(NamedTuple):
    """A client's name for a sequence: one of its digests, or a CURIE of the configuration."""

    md5: bytes | None = None
    trunc512: bytes | None = None
    curie: str | None = None


def parse_identifier(text: str) -> Identifier | None:
    """The identifier in a text; None for a text that is not a valid identifier.

    Hexadecimal digests in any case, with or without the name of the algorithm; GA4GH identifiers are case-sensitive.
    """
    if match := _MD5.fullmatch(text):
        return Identifier(md5=bytes.fromhex(match[1]))
    if match := _TRUNC512.fullmatch(text):
        return Identifier(trunc512=bytes.fromhex(match[1]))
    if match := _GA4GH.fullmatch(text):
        return Identifier(trunc512=base64.urlsafe_b64decode(match[1]))
    return Identifier(curie=text) if _CURIE.fullmatch(text) else None


def format_digests(digests: Digests) -> Mapping[str, str]:
    """The digests by algorithm, formatted as in metadata."""
    ga4gh = base64.urlsafe_b64encode(digests.trunc512).decode()
    return {"md5": digests.md5.hex(), "trunc512": digests.trunc512.hex(), "ga4gh": f"ga4gh:SQ.{ga4gh}"}
