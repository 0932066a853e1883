"""Header fields by which the web server in front sends a file itself, or the requested range of it."""

import os
from collections.abc import Callable
from urllib.parse import quote

from htsget_flask.storage import SendfileHeaders

SendfileMethod = Callable[[str, os.stat_result], SendfileHeaders | None]
"""The headers for a file by its absolute path without links and its status; None when the server cannot send it."""


def x_accel(name: str, root: str) -> SendfileMethod:
    """The method of nginx, with the internal location `/_whole/` of config/nginx.conf.

    `name` is the storage's name there; `root` is its folder here, as an absolute path.
    """
    prefix, start = f"/_whole/{quote(name)}/", len(root.rstrip("/")) + 1

    def headers(path: str, status: os.stat_result) -> SendfileHeaders:
        fields = {
            "X-Accel-Redirect": prefix + quote(os.fsencode(path[start:])),
            "X-Accel-Version": static_etag(status.st_mtime_ns, status.st_size),
        }
        # nginx would keep Cache-Control in the answer that replaces an unreadable file, and adds its own Accept-Ranges.
        return SendfileHeaders("X-Accel-Redirect", fields, {"Cache-Control": "X-Accel-Cache", "Accept-Ranges": None})

    return headers


def x_sendfile(path: str, status: os.stat_result) -> SendfileHeaders | None:
    """The method of Apache, with mod_xsendfile, whose versions differ in whether the path is percent-encoded."""
    if "%" in path:
        return None
    return SendfileHeaders("X-Sendfile", {"X-Sendfile": os.fsencode(path).decode("latin-1")}, {})


def static_etag(modified: int, size: int) -> str:
    """The ETag of nginx for a file of `size` bytes that was modified at `modified`, in nanoseconds since the epoch."""
    return f'"{modified // 1_000_000_000:x}-{size:x}"'
