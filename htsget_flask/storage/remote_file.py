"""A file that is read by requests, as few as the reader's access pattern allows."""

import io
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import chain

from htsget_flask.ranges import ByteRange, coalesce
from htsget_flask.storage import StoredFile

Fetch = Callable[[ByteRange], Iterator[bytes]]

# The longest BGZF block and the head of the next one: all that cutting a chunk's edge reads.
EDGE = (64 << 10) + 512
_GROWTH = 4
_MAX_WINDOW = 8 << 20


class RandomAccessFile(io.RawIOBase, StoredFile):  # type: ignore[misc]  # as typeshed's own FileIO
    """A file of `size` bytes, which a subclass reads in ranges."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        end = self._size if size is None or size < 0 else min(self._size, self._position + size)
        data = self._read(self._position, end) if end > self._position else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @abstractmethod
    def _read(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of the file, at least one."""


class RemoteFile(RandomAccessFile):
    """A file of `size` bytes, in ranges that `fetch` requests; the last window and prefetched ranges stay in memory.

    Sequential reads get longer and longer windows.
    """

    def __init__(self, size: int, fetch: Fetch, executor: Executor) -> None:
        super().__init__(size)
        self._fetch = fetch
        self._executor = executor
        self._window = (0, b"")
        self._length = EDGE
        self._prefetched: dict[ByteRange, Future[bytes]] = {}

    def prefetch(self, spans: Sequence[ByteRange]) -> None:
        self._cancel()
        start, window = self._window
        # A range that starts in the window, or in another range, saves no wait.
        absent = [span for span in spans if not start <= span.start < start + len(window)]
        spans = coalesce(ByteRange(span.start, min(span.end, self._size)) for span in absent)
        self._prefetched = dict(zip(spans, self.request(spans), strict=True))

    def request(self, spans: Sequence[ByteRange]) -> "Sequence[Future[bytes]]":
        return [self._executor.submit(self._fetch_all, span) for span in spans]

    def stream(self, span: ByteRange) -> Iterator[bytes]:
        buffers = self._fetch(span)
        return chain((next(buffers, b""),), buffers)

    def close(self) -> None:
        self._cancel()
        self._window = (0, b"")
        super().close()

    def _read(self, start: int, end: int) -> bytes:
        first, window = self._window
        if not first <= start < first + len(window):
            self._move_window(start, end)
            first, window = self._window
        data = window[start - first : end - first]
        return data if start + len(data) == end else data + self._read(start + len(data), end)

    def _move_window(self, start: int, end: int) -> None:
        """Make the window hold byte `start`, and all up to `end` if that takes a request."""
        for span, future in self._prefetched.items():
            if span.start <= start < span.end:
                self._window = (span.start, future.result())
                return
        previous, window = self._window
        is_sequential = bool(window) and start == previous + len(window)
        self._length = min(_MAX_WINDOW, self._length * _GROWTH) if is_sequential else EDGE
        # The end of a file is read backwards.
        first = start if is_sequential else max(0, min(start, self._size - self._length))
        data = self._fetch_all(ByteRange(first, min(self._size, max(end, start + self._length))))
        if is_sequential and len(window) + len(data) <= _MAX_WINDOW:
            # Headers are read again from their start.
            first, data = previous, window + data
        self._window = (first, data)

    def _fetch_all(self, span: ByteRange) -> bytes:
        return b"".join(self._fetch(span))

    def _cancel(self) -> None:
        for future in self._prefetched.values():
            future.cancel()
        self._prefetched.clear()
