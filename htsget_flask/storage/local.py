"""Files below a folder of this machine."""

import errno
import io
import os
import stat as modes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from htsget_flask.errors import NotFound
from htsget_flask.storage import Stat, VersionError, is_key, validate_key
from htsget_flask.storage.handover import Handover, SharedFile

_MOST_SEEN = 10_000
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


class LocalStorage:
    """Regular files below `root`; a symbolic link may point elsewhere below it, never out of it.

    With a `handover` a web server in front can send the files that `open` returns.
    """

    def __init__(self, root: Path, *, handover: Handover | None = None) -> None:
        self._root = os.path.realpath(root)
        self._handover = handover
        self._seen: dict[str, tuple[float, Stat]] = {}

    def stat(self, key: str, *, max_age: float = 0) -> Stat:
        # Not the system call is dear but that it hands the interpreter to another thread.
        if max_age:
            seen = self._seen.get(key)
            if seen is not None and time.monotonic() - seen[0] <= max_age:
                return seen[1]
        present = _stat(self._resolve(key)[1])
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[key] = (time.monotonic(), present)
        return present

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        path, _ = self._resolve(key)
        # A pipe put in the file's place must not block the thread, nor a link lead out of the root.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            if error.errno in _ABSENT:
                raise NotFound("no such file") from None
            raise
        try:
            present = _stat(os.fstat(descriptor))
            if etag is not None and present.etag != etag:
                raise VersionError(key)
            if self._handover is not None:
                return cast(BinaryIO, SharedFile(descriptor, path, self._handover))
            return cast(BinaryIO, io.FileIO(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    def signed_url(self, key: str) -> None:
        return None

    def keys(self, prefix: str = "") -> Iterator[str]:
        for folder, folders, names in os.walk(self._root):
            folders.sort()
            for name in sorted(names):
                key = os.path.relpath(os.path.join(folder, name), self._root)
                if key.startswith(prefix) and is_key(key):
                    yield key

    def location(self, key: str) -> str:
        return os.path.join(self._root, key)

    def _resolve(self, key: str) -> tuple[str, os.stat_result]:
        """The file's path without links, and its status.

        Only a path that has a link among its segments pays for realpath: this runs several times per ticket.
        """
        validate_key(key)
        path = self._root
        try:
            for segment in key.split("/"):
                path = f"{path}/{segment}"
                status = os.lstat(path)
                if modes.S_ISLNK(status.st_mode):
                    path = os.path.realpath(f"{self._root}/{key}", strict=True)
                    if not path.startswith(self._root.rstrip("/") + "/"):
                        raise NotFound("no such file")
                    status = os.lstat(path)
                    break
        except OSError as error:
            if error.errno in _ABSENT:
                raise NotFound("no such file") from None
            raise
        return path, status


def _stat(status: os.stat_result) -> Stat:
    if not modes.S_ISREG(status.st_mode):
        raise NotFound("no such file")
    return Stat(status.st_size, status.st_mtime, f"{status.st_mtime_ns:x}-{status.st_size:x}")
