import threading
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.cache import ByteCache, ExpiringCache, bytes_of


class TestTheCacheIsBounded:
    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40))), st.integers(0, 100))
    def test_in_bytes(self, requests: list[tuple[int, int]], limit: int) -> None:
        cache = ByteCache(limit)
        for key, size in requests:
            value = cache.fetch(key, lambda key=key, size=size: (key, size), lambda value: value[1])  # type: ignore[misc]
            assert value[0] == key
            assert cache.size <= limit

    def test_recently_used_values_stay(self) -> None:
        cache = ByteCache(3 * (1 + bytes_of("a")))
        calls = []

        def fetch(key: str) -> None:
            cache.fetch(key, lambda: calls.append(key), lambda _: 1)

        for key in ("a", "b", "c", "a", "d", "a", "b"):
            fetch(key)
        assert calls == ["a", "b", "c", "d", "b"]

    def test_a_value_in_constant_use_outlives_a_flood(self) -> None:
        cache = ByteCache(10 * (1 + bytes_of("often")))
        calls = []
        for number in range(1000):
            cache.fetch("often", lambda: calls.append("often"), lambda _: 1)
            cache.fetch(number, lambda: None, lambda _: 1)
        assert calls == ["often"]

    def test_a_value_replaces_another(self) -> None:
        cache = ByteCache(200)
        assert cache.fetch("key", lambda: "first", lambda _: 50) == "first"
        size = cache.size
        cache.replace("key", "second", 60)
        assert (cache.get("key", None), cache.size) == ("second", size + 10)
        cache.replace("other", "third", 1)
        assert (cache.get("key", None), cache.get("other", None)) == ("second", "third")
        # One that is too large is not cached, but the value that it replaces is not valid any more.
        cache.replace("key", "fourth", 201)
        assert "key" not in cache
        assert cache.fetch("key", lambda: "fifth", lambda _: 1) == "fifth"
        cache.replace("other", "sixth", 201)
        cache.replace("key", "seventh", 201)
        assert cache.size == 0

    def test_none_is_a_value(self) -> None:
        cache = ByteCache(100)
        calls = []
        for _ in range(2):
            cache.fetch("key", lambda: calls.append(1), lambda _: 1)
        assert len(calls) == 1


class TestKeysAreCounted:
    def test_of_any_type_that_clients_choose(self) -> None:
        cache = ByteCache(1 << 20)
        tracemalloc.start()
        try:
            for number in range(3000):
                cache.fetch(("version", f"{number:04}" + "x" * 4000), lambda: b"", len)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (1 << 19) < cache.size <= 1 << 20
        assert held < 1.2 * (1 << 20)

    def test_values_with_long_keys_are_not_cached(self) -> None:
        cache = ByteCache(1 << 20)
        for key in ("x" * 8000, "x" * 8500, ("x", ("x" * 5000, "y" * 5000)), chr(0x10000) * 2100):
            cache.fetch(key, lambda: b"", len)
        assert ["x" * 8000 in cache, cache.size < 9000] == [True, True]


class TestAValueIsComputedOnce:
    def test_for_many_threads(self) -> None:
        cache = ByteCache(1000)
        calls, values = [], []
        barrier = threading.Barrier(16)

        def make() -> int:
            time.sleep(0.05)
            calls.append(1)
            return len(calls)

        def fetch_value() -> None:
            barrier.wait()
            values.append(cache.fetch("key", make, lambda _: 1))

        threads = [threading.Thread(target=fetch_value) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls == [1]
        assert values == [1] * 16

    def test_others_do_not_wait_for_it(self) -> None:
        cache = ByteCache(1000)
        inside, go = threading.Event(), threading.Event()

        def slow() -> int:
            inside.set()
            assert go.wait(5)
            return 1

        thread = threading.Thread(target=lambda: cache.fetch("slow", slow, lambda _: 1))
        thread.start()
        assert inside.wait(5)
        assert cache.fetch("quick", lambda: 2, lambda _: 1) == 2
        go.set()
        thread.join()

    def test_a_failure_is_not_cached(self) -> None:
        cache = ByteCache(1000)

        def fail() -> int:
            raise OSError("broken")

        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                cache.fetch("key", fail, lambda _: 1)
        assert cache.fetch("key", lambda: 3, lambda _: 1) == 3
        assert not cache._computations


class TestExpiredValuesAreRemoved:
    def test_whatever_their_lifetime(self) -> None:
        now = 0.0
        cache: ExpiringCache[int, int] = ExpiringCache(10_000, lambda: now)
        for key in range(5000):
            now += 1
            cache.keep(key, key, now + (1000 if key % 100 == 0 else 10))
            # 10 that expire soon, 10 that do not, and the expired ones that may stay.
            assert len(cache) <= 20 + 33
            assert cache.get(key) == key
            assert (cache.get(key - 10) is None) == ((key - 10) % 100 != 0 or key < 10)
        assert cache.get(4500) == 4500

    def test_and_no_other_values(self) -> None:
        now = 0.0
        cache: ExpiringCache[int, int] = ExpiringCache(1000, lambda: now)
        for key in range(1000):
            cache.keep(key, key, 10)
        assert [cache.get(key) for key in range(1000)] == list(range(1000))
        cache.keep(1000, 1000, 10)
        assert (len(cache), cache.get(0), cache.get(1)) == (1000, None, 1)
        now = 10
        for key in range(2000, 2600):
            cache.keep(key, key, 20)
        assert len(cache) == 600

    def test_the_oldest_too_if_the_bytes_are_exceeded(self) -> None:
        now = 0.0
        cache: ExpiringCache[int, bytes] = ExpiringCache(1000, lambda: now, max_bytes=100)
        for key in range(10):
            cache.keep(key, b"", 10, size=30)
            cache.keep(key, b"", 10, size=40)
        assert [key for key in range(10) if cache.get(key) is not None] == [8, 9]
        cache.keep(9, b"", 10, size=101)
        assert (cache.get(9), cache.get(8)) == (None, b"")
        cache.keep(11, b"", 10, size=60)
        assert (len(cache), cache.get(8)) == (2, b"")
        cache.keep(12, b"", 10, size=100)
        assert (len(cache), cache.get(12)) == (1, b"")

    def test_by_a_cheap_search(self) -> None:
        calls = 0

        def clock() -> float:
            nonlocal calls
            calls += 1
            return 0

        cache: ExpiringCache[int, int] = ExpiringCache(100_000, clock)
        for key in range(50_000):
            cache.keep(key, key, 1)
        assert (len(cache), calls < 50) == (50_000, True)
