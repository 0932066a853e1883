"""The references that a header or an index names: in a dict, or in arrays where there are many."""

from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from htsget_flask.errors import FormatError

# An entry of the dict takes about 400 bytes, one of the arrays 29, its name and 16 for an MD5; but the dict is 50 times
# as fast.
_DICT_COST, _ARRAYS_COST = 400, 29
_MAX_IN_DICT = 50_000
_MAX_REFERENCES = 10_000_000
_NONE = -1
_MD5_SIZE = 16


class Reference(NamedTuple):
    """A reference sequence as a header states it.

    `id`: the number by which records and the index refer to it, from 0 to 2^31 - 1; None where the index lists names
    instead (VCF). `length`: in bases. `md5`: in lower-case hexadecimal digits, from a header that was read with MD5s.
    Both are None where they are not stated.
    """

    name: str
    id: int | None
    length: int | None = None
    md5: str | None = None


class References(Mapping[str, Reference]):
    """References by name, in the order of the header; of those with the same name the first.

    `id_limit`: one more than the largest id, 0 without any. `memory`: the bytes that they take. `have_md5s`: whether
    any has one.
    """

    id_limit: int
    memory: int
    have_md5s: bool

    def in_order(self) -> Iterator[Reference]:
        """The references in order: faster than `values()` where there are many."""
        return iter(self.values())

    @abstractmethod
    def with_id(self, reference_id: int) -> Reference | None:
        """The first reference with an id."""

    @abstractmethod
    def with_md5(self, md5: str) -> list[Reference]:
        """The references with an MD5, in order."""


def check_count(count: int, source: str) -> None:
    """Refuse a header or an index that has more references than fit in memory; the message calls it `source`.

    Raises:
        FormatError: when it does.
    """
    if count > _MAX_REFERENCES:
        raise FormatError(f"{source} has more than {_MAX_REFERENCES:,} references")


def collect_references(references: Iterable[Reference], source: str) -> References:
    """The references of a header or an index, which messages call `source`.

    Raises:
        FormatError: when there are more than fit in memory.
    """
    rest = iter(references)
    by_name: dict[str, Reference] = {}
    for reference in islice(rest, _MAX_IN_DICT):
        by_name.setdefault(reference.name, reference)
    following = next(rest, None)
    if following is None:
        return _ReferenceDict(by_name)
    return _ReferenceArrays(chain(by_name.values(), (following,), rest), source)


class _ReferenceDict(dict[str, Reference], References):
    def __init__(self, by_name: dict[str, Reference]) -> None:
        super().__init__(by_name)
        self._rows = list(by_name.values())
        # The ids of most headers count from 0 on.
        self._is_numbered = all(row.id == number for number, row in enumerate(self._rows))
        self.id_limit = 1 + max((row.id for row in self._rows if row.id is not None), default=_NONE)
        self.memory = _DICT_COST * len(by_name)
        self.have_md5s = any(row.md5 for row in self._rows)

    def with_id(self, reference_id: int) -> Reference | None:
        if self._is_numbered:
            return self._rows[reference_id] if 0 <= reference_id < len(self._rows) else None
        return next((row for row in self._rows if row.id == reference_id), None)

    def with_md5(self, md5: str) -> list[Reference]:
        return [row for row in self._rows if row.md5 == md5]


class _ReferenceArrays(References):
    """Columns in the header's order; names are found by their hashes, which are sorted."""

    def __init__(self, references: Iterable[Reference], source: str) -> None:
        letters, ends, ids, lengths, hashes = bytearray(), array("I"), array("i"), array("q"), array("q")
        # Empty where no MD5 is stated; else zeros stand for one that is not.
        md5s = bytearray()
        for name, reference_id, length, md5 in references:
            encoded = name.encode()
            if md5 is not None:
                md5s += bytes(_MD5_SIZE * len(ends) - len(md5s)) + _digest(md5)
            letters += encoded
            ends.append(len(letters))
            ids.append(_NONE if reference_id is None else reference_id)
            lengths.append(_NONE if length is None else length)
            hashes.append(hash(encoded))
            if len(ends) > _MAX_REFERENCES:
                check_count(len(ends), source)
        if md5s:
            md5s += bytes(_MD5_SIZE * len(ends) - len(md5s))
        self._letters, self._ends = letters, ends
        self._lengths = np.frombuffer(lengths, np.int64)
        self._md5s = np.frombuffer(md5s, np.uint64).reshape(-1, 2)
        self._ids = np.frombuffer(ids, np.int32)
        unsorted = np.frombuffer(hashes, np.int64)
        self._order = np.argsort(unsorted, kind="stable").astype(np.int32)
        self._hashes = unsorted[self._order]
        self._is_first = np.ones(len(ends), dtype=bool)
        for rank in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            before, after = int(self._order[rank]), int(self._order[rank + 1])
            self._is_first[after] = self._name(before) != self._name(after)
        self._ids[~self._is_first] = _NONE
        if md5s:
            self._md5s[~self._is_first] = 0
        self.have_md5s = bool(self._md5s.any())
        self._length = int(self._is_first.sum())
        self.id_limit = 1 + int(self._ids.max(initial=_NONE))
        self.memory = _ARRAYS_COST * len(ends) + len(letters) + len(md5s)

    def in_order(self) -> Iterator[Reference]:
        return self._references(np.flatnonzero(self._is_first))

    def with_id(self, reference_id: int) -> Reference | None:
        if reference_id < 0:
            return None
        return next(self._references(np.flatnonzero(self._ids == reference_id)), None)

    def with_md5(self, md5: str) -> list[Reference]:
        digest = np.frombuffer(_digest(md5), np.uint64)
        if not self.have_md5s or not digest.any():
            return []
        return list(self._references(np.flatnonzero((self._md5s == digest).all(axis=1))))

    def __getitem__(self, name: str) -> Reference:
        encoded = name.encode("utf-8", "surrogatepass")
        value = hash(encoded)
        rank = int(np.searchsorted(self._hashes, value))
        while rank < len(self._hashes) and self._hashes[rank] == value:
            row = int(self._order[rank])
            if self._name(row) == encoded:
                return next(self._references(self._order[rank : rank + 1]))
            rank += 1
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (self._name(int(row)).decode() for row in np.flatnonzero(self._is_first))

    def __len__(self) -> int:
        return self._length

    def _references(self, rows: npt.NDArray[np.integer]) -> Iterator[Reference]:
        for row, reference_id, length in zip(
            rows.tolist(), self._ids[rows].tolist(), self._lengths[rows].tolist(), strict=True
        ):
            digest = self._md5s[row].tobytes() if self.have_md5s else b""
            yield Reference(
                self._name(row).decode(),
                None if reference_id == _NONE else reference_id,
                None if length == _NONE else length,
                digest.hex() if any(digest) else None,
            )

    def _name(self, row: int) -> bytes:
        return bytes(self._letters[self._ends[row - 1] if row else 0 : self._ends[row]])


def _digest(md5: str) -> bytes:
    """The bytes of an MD5; zeros for a text that is not one."""
    try:
        digest = bytes.fromhex(md5)
    except ValueError:
        digest = b""
    return digest if len(digest) == _MD5_SIZE else bytes(_MD5_SIZE)
