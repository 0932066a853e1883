"""A file that is read by requests, in pages which stay in memory."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple, Protocol

from htsget_flask.ranges import ByteRange, coalesce
from htsget_flask.storage import StoredFile
from htsget_flask.storage.remote_file import RandomAccessFile

# In bytes. Windows of 10 kb of a 30x BAM file, one after the other, take 0.16 requests each; 0.32 with half of it.
PAGE_SIZE = 1 << 20
# In pages: the most that one request reads, and the most in memory that were prefetched but not read.
_MAX_REQUEST = 8
_MAX_PREFETCHED = 32


class PageCache(Protocol):
    """Values in memory, each of one version of a file."""

    def is_cached(self, key: Hashable) -> bool:
        """Whether the value of a key is in the cache."""

    def cached(self, key: Hashable, make: Callable[[], bytes], size_of: Callable[[bytes], int]) -> bytes:
        """The value of a key, from the cache or made now; `size_of` gives its memory in bytes."""


class _Request(NamedTuple):
    """A request for pages from byte `start` of the file on."""

    start: int
    data: "Future[bytes]"


class PagedFile(RandomAccessFile):
    """The `size` bytes of `content`, whose pages the cache keeps; closing it leaves the content open.

    A read requests adjacent pages that are absent together, and others at the same time. Ranges of an earlier
    `prefetch` remain.
    """

    def __init__(self, content: StoredFile, size: int, cache: PageCache) -> None:
        super().__init__(size)
        self._content = content
        self._cache = cache
        self._requests: dict[int, _Request] = {}

    def prefetch(self, spans: Sequence[ByteRange]) -> None:
        pages = {page for span in spans for page in _pages(span.start, min(span.end, self._size))[:_MAX_PREFETCHED]}
        self._request(self._absent(sorted(pages))[: max(0, _MAX_PREFETCHED - len(self._requests))])

    def stream(self, span: ByteRange) -> Iterator[bytes]:
        return self._content.stream(span)

    def close(self) -> None:
        for request in self._requests.values():
            request.data.cancel()
        self._requests.clear()
        super().close()

    def _read(self, start: int, end: int) -> bytes:
        pages = _pages(start, end)
        absent = self._absent(pages)
        if len(absent) > 1:
            self._request(absent)
        first = pages.start * PAGE_SIZE
        return b"".join(map(self._page, pages))[start - first : end - first]

    def _absent(self, pages: Iterable[int]) -> list[int]:
        return [page for page in pages if page not in self._requests and not self._cache.is_cached(("page", page))]

    def _request(self, pages: Sequence[int]) -> None:
        longest = _MAX_REQUEST * PAGE_SIZE
        spans = [
            ByteRange(start, min(run.end, start + longest))
            for run in coalesce(map(self._span, pages))
            for start in range(run.start, run.end, longest)
        ]
        for span, data in zip(spans, self._content.request(spans), strict=True):
            self._requests.update(dict.fromkeys(_pages(span.start, span.end), _Request(span.start, data)))

    def _page(self, page: int) -> bytes:
        try:
            return self._cache.cached(("page", page), partial(self._take, page), len)
        finally:
            self._requests.pop(page, None)

    def _take(self, page: int) -> bytes:
        """The bytes of a page that the cache lacks; other threads that need it wait for it."""
        span, request = self._span(page), self._requests.get(page)
        if request is None:
            return b"".join(self._content.stream(span))
        return request.data.result()[span.start - request.start : span.end - request.start]

    def _span(self, page: int) -> ByteRange:
        start = page * PAGE_SIZE
        return ByteRange(start, min(self._size, start + PAGE_SIZE))


def _pages(start: int, end: int) -> range:
    """The numbers of the pages that hold these bytes."""
    return range(start // PAGE_SIZE, -(-end // PAGE_SIZE))
