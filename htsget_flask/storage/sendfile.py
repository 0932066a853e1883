"""Header fields by which the web server in front sends a file itself, or the requested range of it."""

import os
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

from htsget_flask.storage import SendfileHeaders


class SendfileMethod(Protocol):
    """How a web server takes over the sending of files."""

    def headers(self, path: str, version: os.stat_result) -> SendfileHeaders | None:
        """The headers for a file by its absolute path without links; None when the web server cannot send it."""


class XAccel:
    """nginx, with the internal location `/_whole/` of config/nginx.conf.

    `name` is the storage's name there; `root` is its folder here, as an absolute path.
    """

    # nginx would keep Cache-Control where it then cannot send the file, and adds its own Accept-Ranges.
    _RENAMED: Mapping[str, str | None] = {"Cache-Control": "X-Accel-Cache", "Accept-Ranges": None}

    def __init__(self, name: str, root: str) -> None:
        self._name = quote(name)
        self._start = len(root.rstrip("/")) + 1

    def headers(self, path: str, version: os.stat_result) -> SendfileHeaders:
        key = quote(os.fsencode(path[self._start :]))
        fields = {
            "X-Accel-Redirect": f"/_whole/{self._name}/{key}",
            "X-Accel-Version": static_etag(version.st_mtime_ns, version.st_size),
        }
        return SendfileHeaders("X-Accel-Redirect", fields, self._RENAMED)


class XSendfile:
    """Apache, with mod_xsendfile."""

    def headers(self, path: str, version: os.stat_result) -> SendfileHeaders | None:
        # Versions of mod_xsendfile differ in whether the path is percent-encoded.
        if "%" in path:
            return None
        return SendfileHeaders("X-Sendfile", {"X-Sendfile": os.fsencode(path).decode("latin-1")}, {})


def static_etag(modified: int, size: int) -> str:
    """The ETag of nginx for a file of `size` bytes that was modified at `modified`, in nanoseconds since the epoch."""
    return f'"{modified // 1_000_000_000:x}-{size:x}"'
