"""What is kept to answer faster, safe for threads: bounded in bytes, or in number and time."""

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# In bytes. What has a longer key is not kept: names of files make keys of 6 kB at most, clients what they like.
_LONGEST_KEY = 8 << 10
# In bytes: a tuple of a few parts, a number with its place in a tuple.
_TUPLE_COST = 96
_NUMBER_COST = 40
# So few values that are over may stay.
_SWEPT_AFTER = 32
_MAX_BYTES = 32 << 20


def bytes_of(value: object) -> int:
    """The memory in bytes that a value takes, with what is in its dicts, lists and tuples."""
    total, left = 0, [value]
    while left:
        one = left.pop()
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
    return total


def _key_size(key: object) -> int:
    """About the memory in bytes of a key: each new ticket pays for it, and it takes half of the time of `bytes_of`."""
    if not isinstance(key, tuple):
        return sys.getsizeof(key)
    total = _TUPLE_COST
    for part in key:
        kind = type(part)
        if kind is str:
            total += sys.getsizeof(part)
        elif kind is int or part is None:
            total += _NUMBER_COST
        else:
            total += _key_size(part)
    return total


@dataclass
class _Making:
    """One value under way: the threads that want it wait on the lock of the first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: int = 0


@dataclass(slots=True)
class _Entry:
    value: Any
    size: int
    used: bool = False


class ByteCache:
    """Values that were not used of late go first once their sizes, with those of their keys, exceed `max_bytes`.

    A value that is under way in one thread is awaited, not made twice, by the others; a failure is not kept. A hit
    takes no lock: it marks the value as used, which saves it once when it comes to be dropped (the clock algorithm).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._making: dict[Hashable, _Making] = {}
        self._bytes = 0

    @property
    def size(self) -> int:
        """The bytes held: of values as their makers declared them, and of keys."""
        return self._bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, absent: object) -> object:
        """The value of `key`, or `absent`."""
        entry = self._entries.get(key)
        if entry is None:
            return absent
        entry.used = True
        return entry.value

    def fetch(self, key: Hashable, make: Callable[[], V], size_of: Callable[[V], int]) -> V:
        """The value of `key`, made when it is not there; one larger than the whole cache is returned but not kept."""
        entry = self._entries.get(key)
        if entry is None:
            return self._make(key, make, size_of)
        entry.used = True
        value: V = entry.value
        return value

    def _make(self, key: Hashable, make: Callable[[], V], size_of: Callable[[V], int]) -> V:
        with self._lock:
            making = self._making.setdefault(key, _Making())
            making.waiting += 1
        try:
            with making.lock:
                entry = self._entries.get(key)
                if entry is not None:
                    return entry.value  # type: ignore[no-any-return]
                value = make()
                self._keep(key, value, size_of(value))
                return value
        finally:
            with self._lock:
                making.waiting -= 1
                if not making.waiting:
                    self._making.pop(key, None)

    def _keep(self, key: Hashable, value: object, size: int) -> None:
        key_size = _key_size(key)
        size += key_size
        if size > self._max_bytes or key_size > _LONGEST_KEY:
            return
        with self._lock:
            self._entries[key] = _Entry(value, size)
            self._bytes += size
            while self._bytes > self._max_bytes:
                oldest, entry = self._entries.popitem(last=False)
                if entry.used:
                    entry.used = False
                    self._entries[oldest] = entry
                else:
                    self._bytes -= entry.size


class _Expiring(NamedTuple):
    value: Any
    until: float
    size: int


class ExpiringCache(Generic[K, V]):
    """At most `most` values of at most `max_bytes` in all, each until its time by the clock; the oldest go first.

    Those that are over go once as many were kept anew as half of all that are held.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, *, max_bytes: int = _MAX_BYTES) -> None:
        self._most = most
        self._max_bytes = max_bytes
        self._bytes = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[K, _Expiring] = {}
        self._kept_since = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value that is kept and not over; None where there is none."""
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry.until:
            return None
        value: V = entry.value
        return value

    def keep(self, key: K, value: V, until: float, *, size: int = 0) -> None:
        """Keep a value of `size` bytes until a time; one larger than the whole cache is not kept."""
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                return
            # Two are looked at for each that was kept, all in all.
            if self._kept_since >= max(len(self._entries) // 2, _SWEPT_AFTER):
                self._sweep()
            self._kept_since += 1
            while len(self._entries) >= self._most or self._bytes + size > self._max_bytes:
                self._drop(next(iter(self._entries)))
            self._entries[key] = _Expiring(value, until, size)
            self._bytes += size

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def _sweep(self) -> None:
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if now >= entry.until]:
            self._drop(key)
        self._kept_since = 0
