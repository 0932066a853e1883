import io
import random
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htsget_flask.cache import ByteCache
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile, VersionError
from htsget_flask.storage.pages import PAGE_SIZE, PagedFile
from htsget_flask.storage.remote_file import RemoteFile

CONTENT = random.Random(6).randbytes(12 * PAGE_SIZE + 12_345)
SIZE = len(CONTENT)


class Cache:
    """The values of one version of a file."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.values = ByteCache(max_bytes)

    def is_cached(self, key: Hashable) -> bool:
        return key in self.values

    def cached(self, key: Hashable, make: Callable[[], bytes], size_of: Callable[[bytes], int]) -> bytes:
        return self.values.fetch(key, make, size_of)


class Requests:
    """Serves ranges of the content in buffers, and records them in pages."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []

    def __call__(self, span: ByteRange) -> Iterator[bytes]:
        self.spans.append((span.start / PAGE_SIZE, span.end / PAGE_SIZE))
        assert span.end <= SIZE
        middle = (span.start + span.end) // 2
        yield CONTENT[span.start : middle]
        yield CONTENT[middle : span.end]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


Open = Callable[[], PagedFile]


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def open_file(requests: Requests, executor: Executor) -> Open:
    """Opens the file once more, with the pages that were read before in the same cache."""
    cache = Cache()
    return lambda: PagedFile(RemoteFile(SIZE, requests, executor), SIZE, cache)


def read(file: StoredFile, start: int, end: int) -> None:
    file.seek(start)
    assert file.read(end - start) == CONTENT[start:end]


def offsets() -> st.SearchStrategy[int]:
    # Often next to the end of a page.
    near = st.builds(lambda page, offset: page * PAGE_SIZE + offset, st.integers(1, 12), st.integers(-2, 2))
    return st.integers(0, SIZE + 10) | near


class TestReadsAsAnyFile:
    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(["seek", "end", "read", "prefetch", "open"]), offsets(), offsets()), max_size=20
        ),
        st.sampled_from([0, 2 * PAGE_SIZE + 4_000, 1 << 30]),
    )
    def test_after_any_operations(self, executor: Executor, steps: list[tuple[str, int, int]], cache_size: int) -> None:
        model, cache = io.BytesIO(CONTENT), Cache(cache_size)

        def open_file() -> PagedFile:
            return PagedFile(RemoteFile(SIZE, Requests(), executor), SIZE, cache)

        file = open_file()
        for operation, first, second in steps:
            match operation:
                case "seek":
                    assert file.seek(first) == model.seek(first)
                case "end":
                    back = -min(first, SIZE)
                    assert file.seek(back, io.SEEK_END) == model.seek(back, io.SEEK_END)
                case "read":
                    is_equal = file.read(first // 2) == model.read(first // 2)
                    assert is_equal
                case "prefetch":
                    file.prefetch([ByteRange(first, first + second), ByteRange(0, 10)])
                case "open":
                    file.close()
                    file = open_file()
                    file.seek(model.tell())
            assert file.tell() == model.tell()
            assert cache.values.size <= cache_size
        file.close()

    def test_of_no_bytes(self, requests: Requests, executor: Executor) -> None:
        with PagedFile(RemoteFile(0, requests, executor), 0, Cache()) as file:
            assert file.read(5) == file.read() == b""
            file.prefetch([ByteRange(0, 10)])
        assert not requests.spans

    def test_streams_without_its_pages(self, open_file: Open, requests: Requests) -> None:
        with open_file() as file:
            is_equal = b"".join(file.stream(ByteRange(5, 3 * PAGE_SIZE))) == CONTENT[5 : 3 * PAGE_SIZE]
            assert is_equal
        assert requests.spans == [(5 / PAGE_SIZE, 3)]


class TestMakesFewRequests:
    def test_one_for_each_page_of_neighbouring_windows(self, open_file: Open, requests: Requests) -> None:
        for start in range(0, 10 * PAGE_SIZE, 165_000):
            with open_file() as file:
                read(file, start, start + 165_000)
        assert requests.spans == [(page, page + 1) for page in range(11)]

    def test_one_for_adjacent_pages(self, open_file: Open, requests: Requests) -> None:
        with open_file() as file:
            read(file, PAGE_SIZE + 5, 4 * PAGE_SIZE + 5)
        assert requests.spans == [(1, 5)]

    def test_parallel_ones_for_absent_pages_between_others(self, requests: Requests, executor: Executor) -> None:
        cache, both = Cache(), Barrier(2)

        def wait(span: ByteRange) -> Iterator[bytes]:
            both.wait(timeout=10)
            return requests(span)

        with PagedFile(RemoteFile(SIZE, requests, executor), SIZE, cache) as file:
            read(file, 2 * PAGE_SIZE, 2 * PAGE_SIZE + 1)
        with PagedFile(RemoteFile(SIZE, wait, executor), SIZE, cache) as file:
            read(file, 0, 5 * PAGE_SIZE)
        assert sorted(requests.spans[1:]) == [(0, 2), (3, 5)]

    def test_several_for_many_pages(self, open_file: Open, requests: Requests) -> None:
        with open_file() as file:
            read(file, 0, SIZE)
        assert sorted(requests.spans) == [(0, 8), (8, SIZE / PAGE_SIZE)]

    def test_none_for_what_was_prefetched(self, open_file: Open, requests: Requests) -> None:
        spans = [ByteRange(page * PAGE_SIZE + 5, page * PAGE_SIZE + 50) for page in (3, 7, 4, 3)]
        with open_file() as file:
            file.prefetch(spans)
            file.prefetch(spans)
            for span in spans:
                read(file, span.start, span.end)
        with open_file() as file:
            file.prefetch(spans)
        assert sorted(requests.spans) == [(3, 5), (7, 8)]

    def test_prefetches_a_limited_number_of_pages(self, executor: Executor) -> None:
        requested: list[ByteRange] = []

        def request(span: ByteRange) -> Iterator[bytes]:
            requested.append(span)
            yield bytes(len(span))

        with PagedFile(RemoteFile(1 << 40, request, executor), 1 << 40, Cache()) as file:
            file.prefetch([ByteRange(0, 1 << 40)])
            file.prefetch([ByteRange(1 << 31, 1 << 32)])
            file.seek((1 << 30) - 5)
            assert file.read(10) == bytes(10)
        assert sum(map(len, requested)) <= 34 * PAGE_SIZE


class TestFailures:
    def test_are_raised_by_the_read_and_not_cached(self, requests: Requests, executor: Executor) -> None:
        is_replaced = True

        def fail(span: ByteRange) -> Iterator[bytes]:
            if is_replaced:
                raise VersionError("a.bam")
            return requests(span)

        with PagedFile(RemoteFile(SIZE, fail, executor), SIZE, Cache()) as file:
            file.prefetch([ByteRange(0, 10)])
            for length in (10, 10, 3 * PAGE_SIZE):
                file.seek(0)
                with pytest.raises(VersionError):
                    file.read(length)
            is_replaced = False
            read(file, 5 * PAGE_SIZE, 6 * PAGE_SIZE)

    def test_no_read_after_the_end(self, open_file: Open) -> None:
        file = open_file()
        file.prefetch([ByteRange(0, 10)])
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read(1)
