"""A file of this machine as an open descriptor: the kernel can send it."""

import io
import os
import tempfile
from collections.abc import Iterator

from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile

_BUFFER_SIZE = 1 << 20


class DescriptorFile(io.FileIO, StoredFile):  # type: ignore[misc]  # as typeshed's own FileIO
    """The file of a descriptor, which is closed with it."""

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


def create_temporary_file() -> DescriptorFile:
    """An empty file without a name, which the system removes once it is closed."""
    descriptor, path = tempfile.mkstemp(prefix="htsget_flask-")
    os.unlink(path)
    return DescriptorFile(descriptor, "r+b")
