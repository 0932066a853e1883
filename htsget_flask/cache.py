"""A cache bounded in bytes, safe for threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

V = TypeVar("V")


@dataclass
class _Making:
    """One value under way: the threads that want it wait on the lock of the first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: int = 0


class ByteCache:
    """Least recently used values go first once their sizes exceed `max_bytes`.

    A value that is under way in one thread is awaited, not made twice, by the others; a failure is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, _Making] = {}
        self._bytes = 0

    @property
    def size(self) -> int:
        """The bytes held, as their makers declared them."""
        return self._bytes

    def fetch(self, key: Hashable, make: Callable[[], V], size_of: Callable[[V], int]) -> V:
        """The value of `key`, made when it is not there; one larger than the whole cache is returned but not kept."""
        with self._lock:
            found = self._values.get(key)
            if found is not None:
                self._values.move_to_end(key)
                value: V = found[0]
                return value
            making = self._making.setdefault(key, _Making())
            making.waiting += 1
        try:
            with making.lock:
                with self._lock:
                    found = self._values.get(key)
                if found is not None:
                    return found[0]  # type: ignore[no-any-return]
                value = make()
                self._keep(key, value, size_of(value))
                return value
        finally:
            with self._lock:
                making.waiting -= 1
                if not making.waiting:
                    self._making.pop(key, None)

    def _keep(self, key: Hashable, value: object, size: int) -> None:
        if size > self._max_bytes:
            return
        with self._lock:
            self._values[key] = (value, size)
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, dropped) = self._values.popitem(last=False)
                self._bytes -= dropped
