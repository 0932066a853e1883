"""Caches in memory, safe for threads: bounded in bytes, or in number and time."""

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# In bytes; values with a longer key are not cached. Names of files make keys of 6 kB at most. Clients choose a part of
# some keys (the Host of a ticket's URLs), so that keys count towards the memory.
_MAX_KEY_SIZE = 8 << 10
# In bytes: a tuple of a few parts, a number with its slot in a tuple.
_TUPLE_COST = 96
_NUMBER_COST = 40
# Fewer additions than this do not start a sweep.
_MIN_SWEEP = 32
_MAX_BYTES = 32 << 20


def bytes_of(value: object) -> int:
    """The memory in bytes of a value, including the items of its dicts, lists and tuples."""
    total, pending = 0, [value]
    while pending:
        item = pending.pop()
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list | tuple):
            pending += item
    return total


def _key_size(key: object) -> int:
    """About the memory in bytes of a key, in half of the time of `bytes_of`: each new ticket pays for it."""
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
class _Computation:
    """A value that one thread computes: others that need it wait for its lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: int = 0


@dataclass(slots=True)
class _Entry:
    value: Any
    size: int
    used: bool = False


class ByteCache:
    """Values by key; the sizes of both are at most `max_bytes`, and values that were not used recently go first.

    Each value is computed once, while other threads wait for it; a failure is not cached. A hit takes no lock (108 ns
    against 2,452 with 8 threads): it marks the value as used, which spares it once from eviction (the clock algorithm).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._computations: dict[Hashable, _Computation] = {}
        self._bytes = 0

    @property
    def size(self) -> int:
        """The bytes of all values, as declared by `size_of`, and of their keys."""
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
        """The value of `key`, made when it is absent; one larger than the whole cache is returned but not cached."""
        entry = self._entries.get(key)
        if entry is None:
            return self._make(key, make, size_of)
        entry.used = True
        value: V = entry.value
        return value

    def replace(self, key: Hashable, value: object, size: int) -> None:
        """Cache a value of `size` bytes in place of the one that the key has; none that is larger than the cache."""
        self._add(key, value, size)

    def _make(self, key: Hashable, make: Callable[[], V], size_of: Callable[[V], int]) -> V:
        with self._lock:
            computation = self._computations.setdefault(key, _Computation())
            computation.waiting += 1
        try:
            with computation.lock:
                entry = self._entries.get(key)
                if entry is not None:
                    return entry.value  # type: ignore[no-any-return]
                value = make()
                self._add(key, value, size_of(value))
                return value
        finally:
            with self._lock:
                computation.waiting -= 1
                if not computation.waiting:
                    self._computations.pop(key, None)

    def _add(self, key: Hashable, value: object, size: int) -> None:
        key_size = _key_size(key)
        size += key_size
        with self._lock:
            before = self._entries.pop(key, None)
            self._bytes -= 0 if before is None else before.size
            if size > self._max_bytes or key_size > _MAX_KEY_SIZE:
                return
            self._bytes += size
            self._entries[key] = _Entry(value, size)
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
    """At most `limit` values of at most `max_bytes` in all, each until it expires by the clock; the oldest go first.

    Expired values are removed whenever the number of additions reaches half of the number of values.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic, *, max_bytes: int = _MAX_BYTES) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[K, _Expiring] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The cached value; None where there is none, or an expired one."""
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry.until:
            return None
        value: V = entry.value
        return value

    def keep(self, key: K, value: V, until: float, *, size: int = 0) -> None:
        """Cache a value of `size` bytes until a time; one larger than the whole cache is not cached."""
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                return
            # On average two values are checked per addition.
            if self._added >= max(len(self._entries) // 2, _MIN_SWEEP):
                self._sweep()
            self._added += 1
            while len(self._entries) >= self._limit or self._bytes + size > self._max_bytes:
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
        self._added = 0
