"""A file of this machine as an open descriptor: the kernel can send it."""

import io
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_BUFFER_SIZE = 1 << 20


class DescriptorFile(io.FileIO, StoredFile):
    """The file of a descriptor, which is closed with it."""

    def stream(self, span: ByteRange) -> Iterator[bytes]:
        self.seek(span.start)
        return self._buffers(len(span))

    def write(self, data: "ReadableBuffer") -> int:  # type: ignore[override]
        """Write all of the data: the system may write a part, as where the disk is full, which is then an OSError."""
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += super().write(view[written:])
        return written

    def _buffers(self, remaining: int) -> Iterator[bytes]:
        while remaining:
            data = self.read(min(_BUFFER_SIZE, remaining))
            if not data:
                raise OSError(f"the file ended {remaining} bytes early")
            remaining -= len(data)
            yield data


def create_temporary_file() -> DescriptorFile:
    """An empty file without a name, which the system removes once it is closed."""
    descriptor, path = tempfile.mkstemp(prefix="htsget_flask-")
    os.unlink(path)
    return DescriptorFile(descriptor, "r+b")
