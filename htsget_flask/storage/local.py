"""Files below a folder of this machine."""

import contextlib
import errno
import heapq
import io
import os
import stat as modes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from htsget_flask.errors import NotFound
from htsget_flask.storage import Child, Entry, SignedUrl, Stat, VersionError, is_hidden, is_key, validate_key
from htsget_flask.storage.handover import Handover, SharedFile, static_etag
from htsget_flask.storage.signed import UrlSigner

_MOST_SEEN = 10_000
# So many names of a folder are in memory at once; the folder is read again for more.
_FIRST_BATCH = 2_000
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


class LocalStorage:
    """Regular files below `root`; a symbolic link may point elsewhere below it, never out of it.

    With a `handover` a web server in front can send the files that `open` returns; with a `signer` clients can fetch
    them from one.
    """

    # Not the system call is dear but that it hands the interpreter to another thread.
    max_age = 1.0
    is_remote = False

    def __init__(self, root: Path, *, handover: Handover | None = None, signer: UrlSigner | None = None) -> None:
        self._root = os.path.realpath(root)
        self._handover = handover
        self._signer = signer
        self._seen: dict[str, tuple[float, Stat]] = {}

    @property
    def origin(self) -> str | None:
        return None if self._signer is None else self._signer.origin

    def stat(self, key: str, *, max_age: float = 0, family: str | None = None) -> Stat:
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
            status = os.fstat(descriptor)
            present = _stat(status)
            if etag is not None and present.etag != etag:
                raise VersionError(key)
            if self._handover is not None:
                return cast(BinaryIO, SharedFile(descriptor, path, status, self._handover))
            return cast(BinaryIO, io.FileIO(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    def signed_url(self, key: str, version: Stat) -> SignedUrl | None:
        if self._signer is None:
            return None
        path = os.fsencode(os.path.relpath(self._resolve(key)[0], self._root))
        modified = int(version.etag.partition("-")[0], 16)
        return self._signer.sign(path, etag=static_etag(modified, version.size))

    def redirect_url(self, key: str, version: Stat) -> str | None:
        return None

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        folder = prefix[: prefix.rfind("/") + 1]
        if folder:
            path = f"{self._root.rstrip('/')}/{folder[:-1]}"
            # Folders behind links are not walked through, as they may contain themselves.
            if not is_key(folder[:-1]) or is_hidden(folder) or os.path.realpath(path) != path:
                return iter(())
        return self._walk(folder, prefix, after)

    def children(self, folder: str = "", *, after: str = "") -> Iterator[Child]:
        path = f"{self._root.rstrip('/')}/{folder[:-1]}"
        if folder and not (is_key(folder[:-1]) and not is_hidden(folder) and _is_folder(path)):
            raise NotFound("no such folder")
        for child in self._sorted_children(folder, folder, after):
            if not child.endswith("/"):
                with contextlib.suppress(NotFound, PermissionError):
                    yield Child(child, self.stat(child))
            elif child != after and is_key(child[:-1]):
                yield Child(child, None)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[Entry]:
        """The entries in a folder, which is named with a slash at its end, and in those below it."""
        for child in self._sorted_children(folder, prefix, after):
            if child.endswith("/"):
                if is_key(child[:-1]):
                    yield from self._walk(child, prefix, after)
                continue
            # It may be gone by now, or nothing that is served.
            with contextlib.suppress(NotFound, PermissionError):
                yield Entry(child, _stat(self._resolve(child)[1]))

    def _sorted_children(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """The keys of `_children`, in their order."""
        batch, last = _FIRST_BATCH, ""
        while True:
            # With the slash at its end, a folder's name sorts as all keys in it do.
            children = (child for child in self._children(folder, prefix, after) if child > last)
            smallest = heapq.nsmallest(batch, children)
            yield from smallest
            if len(smallest) < batch:
                return
            last = smallest[-1]
            batch *= 4

    def _children(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """What is directly in a folder and is wanted; folders, with a slash at their ends, that may hold such."""
        try:
            found = os.scandir(f"{self._root}/{folder}")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # What this server may not read, such as a disk's lost+found, it does not serve either.
            if folder:
                return
            raise
        with found:
            for entry in found:
                name = entry.name
                if name[0] == ".":
                    continue
                key = folder + name
                if entry.is_dir(follow_symlinks=False):
                    key += "/"
                    holds_wanted = key.startswith(prefix) or prefix.startswith(key)
                    if holds_wanted and (key > after or after.startswith(key)):
                        yield key
                elif key > after and key.startswith(prefix):
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


def _is_folder(path: str) -> bool:
    """Whether there is a folder, and no link on the way to it: links are not followed to folders in listings."""
    return os.path.realpath(path) == path and os.path.isdir(path)


def _stat(status: os.stat_result) -> Stat:
    if not modes.S_ISREG(status.st_mode):
        raise NotFound("no such file")
    return Stat(status.st_size, status.st_mtime, f"{status.st_mtime_ns:x}-{status.st_size:x}")
