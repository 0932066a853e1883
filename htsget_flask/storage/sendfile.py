"""Files that a web server in front sends itself: what it is told, in header fields, of which bytes of which file."""

import io
import os
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

from htsget_flask.ranges import ByteRange

# So much of an answer the buffers of config/nginx.conf take in at once: no thread of this server waits for the client.
_BUFFERED = 1 << 20


class SendfileMethod(Protocol):
    """How a web server takes a file over; it names the way in the `X-Sendfile-Type` of its requests, by `header`."""

    header: str
    # The answer's own fields that the web server is told by another name, or not at all.
    renamed: Mapping[str, str | None]

    def whole(self, path: str, version: os.stat_result) -> dict[str, str] | None:
        """The fields for a whole file, of which the web server picks the client's own range; None when it cannot."""

    def part(self, path: str, version: os.stat_result, span: ByteRange) -> dict[str, str] | None:
        """The fields for a part of a file as a resource of its own; None when the web server cannot send it."""


class XAccel:
    """nginx, with the internal locations `/_whole/` and `/_part/` of config/nginx.conf.

    What a storage's folder is called there is `name`; `root` is the same folder here, as an absolute path.
    """

    header = "X-Accel-Redirect"
    # nginx would keep them where it then cannot send the file, and add those of what it sends instead.
    renamed: Mapping[str, str | None] = {"Cache-Control": "X-Accel-Cache", "Accept-Ranges": None}

    def __init__(self, name: str, root: str) -> None:
        self._name = quote(name)
        self._start = len(root.rstrip("/")) + 1

    def whole(self, path: str, version: os.stat_result) -> dict[str, str]:
        return self._fields("_whole", path, version)

    def part(self, path: str, version: os.stat_result, span: ByteRange) -> dict[str, str] | None:
        return {**self._fields("_part", path, version), "X-Accel-Part": f"bytes={span.start}-{span.end - 1}"}

    def _fields(self, location: str, path: str, version: os.stat_result) -> dict[str, str]:
        inner = quote(os.fsencode(path[self._start :]))
        return {
            "X-Accel-Redirect": f"/{location}/{self._name}/{inner}",
            "X-Accel-Version": static_etag(version.st_mtime_ns, version.st_size),
        }


class XSendfile:
    """Apache, with mod_xsendfile: whole files only, by their absolute path."""

    header = "X-Sendfile"
    renamed: Mapping[str, str | None] = {}

    def whole(self, path: str, version: os.stat_result) -> dict[str, str] | None:
        # Its versions do not agree on whether the path is percent-encoded.
        return None if "%" in path else {"X-Sendfile": os.fsencode(path).decode("latin-1")}

    def part(self, path: str, version: os.stat_result, span: ByteRange) -> dict[str, str] | None:
        return None


class SendableFile(io.FileIO):
    """An open file that a web server in front may send instead; `path` is absolute and without links.

    `version` is the file's status.
    """

    def __init__(self, descriptor: int, path: str, version: os.stat_result, handover: SendfileMethod) -> None:
        super().__init__(descriptor)
        self._path = path
        self._version = version
        self.handover = handover

    def handed_over(self, span: ByteRange, *, ranged: bool) -> dict[str, str] | None:
        """The fields by which the web server sends these bytes; None when it cannot.

        Of a whole file it sends the client's own range, when the answer is `ranged`.
        """
        if span == ByteRange(0, self._version.st_size):
            return self.handover.whole(self._path, self._version)
        if ranged or len(span) <= _BUFFERED:
            return None
        return self.handover.part(self._path, self._version, span)


def static_etag(modified: int, size: int) -> str:
    """The ETag of nginx for a file of `size` bytes that was modified at `modified`, in nanoseconds since the epoch."""
    return f'"{modified // 1_000_000_000:x}-{size:x}"'
