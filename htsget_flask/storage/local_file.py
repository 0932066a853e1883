"""An open file of this machine."""

import io
import os
from collections.abc import Iterator

from htsget_flask.ranges import ByteRange
from htsget_flask.storage import SendfileHeaders, StoredFile
from htsget_flask.storage.sendfile import SendfileMethod

_BUFFER_SIZE = 1 << 20


class LocalFile(io.FileIO, StoredFile):  # type: ignore[misc]  # as typeshed's own FileIO
    """The file of a descriptor, which is closed with it; the kernel can send it.

    `path` is absolute and without links; `status` is that of the descriptor.
    """

    def __init__(self, descriptor: int, path: str, status: os.stat_result, method: SendfileMethod | None) -> None:
        super().__init__(descriptor)
        self._path = path
        self._status = status
        self._method = method

    def stream(self, span: ByteRange) -> Iterator[bytes]:
        self.seek(span.start)
        return self._buffers(len(span))

    def _buffers(self, remaining: int) -> Iterator[bytes]:
        while remaining:
            data = self.read(min(_BUFFER_SIZE, remaining))
            if not data:
                raise OSError(f"the file ended {remaining} bytes early")
            remaining -= len(data)
            yield data

    def sendfile_headers(self, span: ByteRange) -> SendfileHeaders | None:
        if self._method is None or span != ByteRange(0, self._status.st_size):
            return None
        return self._method.headers(self._path, self._status)
