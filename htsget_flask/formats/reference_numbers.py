"""The references that a header or an index names, and their numbers: in a dict, or in arrays where there are many."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from htsget_flask.errors import FormatError

# Each entry of a dict takes about 180 bytes, in arrays 28 and its name; but a dict is 50 times as fast.
_MAX_IN_DICT = 100_000
_MAX_REFERENCES = 10_000_000
_NONE = -1
_DICT_COST, _ARRAYS_COST = 180, 28


def check_count(count: int, name: str) -> None:
    """Refuse a header or an index that has more references than are kept in memory; the message calls it `name`.

    Raises:
        FormatError: when it does.
    """
    if count > _MAX_REFERENCES:
        raise FormatError(f"{name} has more than {_MAX_REFERENCES:,} references")


def number_references(pairs: Iterable[tuple[str, int | None]], name: str) -> Mapping[str, int | None]:
    """The references by name, of those with the same name the first; numbers are None, or from 0 to 2^31 - 1.

    Raises:
        FormatError: when there are more than are kept in memory; `name` is what the message calls their file.
    """
    rest = iter(pairs)
    few: dict[str, int | None] = {}
    for reference, number in islice(rest, _MAX_IN_DICT):
        few.setdefault(reference, number)
    following = next(rest, None)
    if following is None:
        return few
    return _Arrays((pair for part in (few.items(), (following,), rest) for pair in part), name)


def name_of(references: Mapping[str, int | None], number: int) -> str | None:
    """The first name with a number; None where there is none."""
    if isinstance(references, _Arrays):
        return references.name_of(number)
    return next((name for name, other in references.items() if other == number), None)


def limit_of(references: Mapping[str, int | None]) -> int:
    """One more than the largest number; 0 without any."""
    if isinstance(references, _Arrays):
        return references.limit
    return 1 + max((number for number in references.values() if number is not None), default=-1)


def memory_of(references: Mapping[str, int | None]) -> int:
    """The memory in bytes that the references take."""
    return references.size if isinstance(references, _Arrays) else _DICT_COST * len(references)


class _Arrays(Mapping[str, int | None]):
    """Names one after the other, found by their hashes, which are sorted."""

    def __init__(self, pairs: Iterable[tuple[str, int | None]], name: str) -> None:
        letters, ends, numbers, hashes = bytearray(), array("q"), array("i"), array("q")
        for reference, number in pairs:
            encoded = reference.encode()
            letters += encoded
            ends.append(len(letters))
            numbers.append(_NONE if number is None else number)
            hashes.append(hash(encoded))
            check_count(len(ends), name)
        self._letters, self._ends = letters, ends
        self._numbers = np.frombuffer(numbers, np.int32)
        found = np.frombuffer(hashes, np.int64)
        self._order = np.argsort(found, kind="stable").astype(np.int32)
        self._hashes = found[self._order]
        self._is_first = np.ones(len(ends), dtype=bool)
        for place in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            before, after = int(self._order[place]), int(self._order[place + 1])
            self._is_first[after] = self._name(before) != self._name(after)
        self._numbers[~self._is_first] = _NONE
        self._length = int(self._is_first.sum())
        self.limit = 1 + int(self._numbers.max(initial=_NONE))
        self.size = _ARRAYS_COST * len(ends) + len(letters)

    def name_of(self, number: int) -> str | None:
        """The first name with a number; None where there is none."""
        places = np.flatnonzero(self._numbers == number)
        return self._name(int(places[0])).decode() if len(places) and number >= 0 else None

    def __getitem__(self, name: str) -> int | None:
        encoded = name.encode("utf-8", "surrogatepass")
        value = hash(encoded)
        place = int(np.searchsorted(self._hashes, value))
        while place < len(self._hashes) and self._hashes[place] == value:
            at = int(self._order[place])
            if self._name(at) == encoded:
                number = int(self._numbers[at])
                return None if number == _NONE else number
            place += 1
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (self._name(int(place)).decode() for place in np.flatnonzero(self._is_first))

    def __len__(self) -> int:
        return self._length

    def _name(self, place: int) -> bytes:
        return bytes(self._letters[self._ends[place - 1] if place else 0 : self._ends[place]])
