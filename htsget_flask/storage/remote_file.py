"""A file that is read by requests: as few as its reader's habits allow."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

from htsget_flask.ranges import ByteRange, coalesce

Stream = Callable[[ByteRange], Iterator[bytes]]

# The longest BGZF block, and behind it the head of the next one: what it takes to cut a chunk's edge.
EDGE = (64 << 10) + 512
_GROWTH = 4
_LONGEST_WINDOW = 8 << 20


class RemoteFile(io.RawIOBase):
    """A file of `size` bytes, in ranges that `stream` fetches; it keeps the last ones, and those that were prefetched.

    Whoever reads on behind a range is given longer and longer ones.
    """

    def __init__(self, size: int, stream: Stream, executor: Executor) -> None:
        self._size = size
        self._stream = stream
        self._executor = executor
        self._position = 0
        self._window = (0, b"")
        self._length = EDGE
        self._coming: dict[ByteRange, Future[bytes]] = {}

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
        data = self._take(self._position, end) if end > self._position else b""
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def prefetch(self, spans: Sequence[ByteRange]) -> None:
        """Begin to read these ranges, all at once; those that were asked for before are dropped.

        Nobody would wait for one that begins in what is at hand, or in another of them.
        """
        self._cancel()
        held, window = self._window
        absent = [span for span in spans if not held <= span.start < held + len(window)]
        for span in coalesce(ByteRange(span.start, min(span.end, self._size)) for span in absent):
            self._coming[span] = self._executor.submit(self._fetch, span)

    def stream(self, span: ByteRange) -> Iterator[bytes]:
        """The bytes of a range by one request, piece by piece as they come."""
        return self._stream(span)

    def close(self) -> None:
        self._cancel()
        self._window = (0, b"")
        super().close()

    def _take(self, start: int, end: int) -> bytes:
        held, window = self._window
        if not held <= start < held + len(window):
            self._look_at(start, end)
            held, window = self._window
        found = window[start - held : end - held]
        return found if start + len(found) == end else found + self._take(start + len(found), end)

    def _look_at(self, start: int, end: int) -> None:
        """Have a window that holds byte `start`, and `end` if it comes to fetching."""
        for span, future in self._coming.items():
            if span.start <= start < span.end:
                self._window = (span.start, future.result())
                return
        held, window = self._window
        reads_on = bool(window) and start == held + len(window)
        self._length = min(_LONGEST_WINDOW, self._length * _GROWTH) if reads_on else EDGE
        # At its end a file is read backwards.
        first = start if reads_on else max(0, min(start, self._size - self._length))
        data = self._fetch(ByteRange(first, min(self._size, max(end, start + self._length))))
        if reads_on and len(window) + len(data) <= _LONGEST_WINDOW:
            # What was read to its end may be read again from its start, as are headers.
            first, data = held, window + data
        self._window = (first, data)

    def _fetch(self, span: ByteRange) -> bytes:
        return b"".join(self._stream(span))

    def _cancel(self) -> None:
        for future in self._coming.values():
            future.cancel()
        self._coming.clear()
