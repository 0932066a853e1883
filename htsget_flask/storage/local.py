"""Files below a folder of this machine."""

import contextlib
import errno
import heapq
import io
import os
import stat as modes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from htsget_flask.errors import NotFound
from htsget_flask.storage import Child, Entry, SignedUrl, Stat, VersionError, is_hidden, is_key, validate_key
from htsget_flask.storage.secure_link import SecureLinkSigner
from htsget_flask.storage.sendfile import SendableFile, SendfileMethod, static_etag

_MAX_SEEN = 10_000
# In letters: ten thousand longer keys would take 40 MB. Clients choose them, where links lead to one file in many ways.
_LONGEST_SEEN = 256
# So many names of a folder are in memory at once; the folder is read again for more.
_FIRST_BATCH = 2_000
# What the system says of a link where none may be: ENOTDIR in a folder's place, ELOOP in the file's.
_LINKED = {errno.ENOTDIR, errno.ELOOP}
_ABSENT = {errno.ENOENT, errno.ENAMETOOLONG, *_LINKED}
_CLOSED = {errno.EACCES, errno.EPERM}
# Linux opens a folder with O_PATH to pass through it; other systems have to open it for reading.
_PASSAGE = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)

T = TypeVar("T")


class LocalStorage:
    """Regular files below `root`; a symbolic link may point elsewhere below it, never out of it.

    With a `handover` a web server in front can send the files that `open` returns; with a `signer` clients can fetch
    them from one.
    """

    # Not the system call is dear but that it hands the interpreter to another thread.
    max_age = 1.0
    is_remote = False

    def __init__(
        self, root: Path, *, handover: SendfileMethod | None = None, signer: SecureLinkSigner | None = None
    ) -> None:
        # Empty where the root is that of the machine.
        self._root = os.path.realpath(root).rstrip("/")
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
        present = _stat(self._reach(key, _status)[1])
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        if len(key) <= _LONGEST_SEEN:
            self._seen[key] = (time.monotonic(), present)
        return present

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        path, descriptor = self._reach(key, _open)
        try:
            status = os.fstat(descriptor)
            present = _stat(status)
            if etag is not None and present.etag != etag:
                raise VersionError(key)
            if self._handover is not None:
                return cast(BinaryIO, SendableFile(descriptor, f"{self._root}/{path}", status, self._handover))
            return cast(BinaryIO, io.FileIO(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    def signed_url(self, key: str, version: Stat) -> SignedUrl | None:
        if self._signer is None:
            return None
        path, _ = self._reach(key, _status)
        modified = int(version.etag.partition("-")[0], 16)
        return self._signer.sign(os.fsencode(path), etag=static_etag(modified, version.size))

    def redirect_url(self, key: str, version: Stat) -> str | None:
        return None

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        folder = prefix[: prefix.rfind("/") + 1]
        if folder and (not is_key(folder[:-1]) or is_hidden(folder)):
            return iter(())
        return self._walk(folder, prefix, after)

    def children(self, folder: str = "", *, after: str = "") -> Iterator[Child]:
        if folder and not (is_key(folder[:-1]) and not is_hidden(folder) and self._is_folder(folder)):
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
                yield Entry(child, _stat(self._reach(child, _status)[1]))

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
        for entry in self._scan(folder):
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

    def _is_folder(self, folder: str) -> bool:
        """Whether there is a folder, and no link on the way to it."""
        try:
            os.close(self._descend(f"{folder}.", _open_folder))
        except OSError as error:
            if error.errno not in _ABSENT | _CLOSED:
                raise
            return error.errno in _CLOSED
        return True

    def _scan(self, folder: str) -> Iterator["os.DirEntry[str]"]:
        """What is directly in a folder; nothing where a link leads to it, as it may then contain itself."""
        try:
            descriptor = self._descend(f"{folder}.", _open_folder)
        except OSError as error:
            # What this server may not read, such as a disk's lost+found, it does not serve either.
            if folder and error.errno in _ABSENT | _CLOSED:
                return
            raise
        try:
            with os.scandir(descriptor) as found:
                yield from found
        finally:
            os.close(descriptor)

    def location(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _reach(self, key: str, act: Callable[[str, int | None], T]) -> tuple[str, T]:
        """The file's path below the root, without links, and what `act` makes of the file.

        Only a path that has a link among its segments pays for realpath: this runs several times per ticket.
        """
        validate_key(key)
        try:
            try:
                return key, self._descend(key, act)
            except OSError as error:
                if error.errno not in _LINKED:
                    raise
            inner = self._without_links(key)
            return inner, self._descend(inner, act)
        except OSError as error:
            if error.errno in _ABSENT:
                raise NotFound("no such file") from None
            raise

    def _without_links(self, key: str) -> str:
        """The path below the root that a path with links leads to."""
        try:
            path = os.path.realpath(f"{self._root}/{key}", strict=True)
        except OSError as error:
            # Something else took the link's place before it was read.
            if error.errno == errno.EINVAL:
                raise NotFound("no such file") from None
            raise
        if not path.startswith(f"{self._root}/"):
            raise NotFound("no such file")
        return path[len(self._root) + 1 :]

    def _descend(self, path: str, act: Callable[[str, int | None], T]) -> T:
        """What `act` makes of a name and the descriptor of the folder that holds it.

        Each folder on the way is opened in the one before, and none that is a link: whoever may write there can put a
        link in a folder's place at any time. `act` must not follow links either. Without a descriptor the name is an
        absolute path of which only the last segment is below the root.
        """
        *folders, name = path.split("/")
        if not folders:
            return act(f"{self._root}/{name}", None)
        descriptor = os.open(f"{self._root}/{folders[0]}", _PASSAGE)
        try:
            for folder in folders[1:]:
                outer, descriptor = descriptor, os.open(folder, _PASSAGE, dir_fd=descriptor)
                os.close(outer)
            return act(name, descriptor)
        finally:
            os.close(descriptor)


def _status(name: str, folder: int | None) -> os.stat_result:
    status = os.lstat(name, dir_fd=folder)
    if modes.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return status


def _open(name: str, folder: int | None) -> int:
    # A pipe put in the file's place must not block the thread.
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)


def _open_folder(name: str, folder: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)


def _stat(status: os.stat_result) -> Stat:
    if not modes.S_ISREG(status.st_mode):
        raise NotFound("no such file")
    return Stat(status.st_size, status.st_mtime, f"{status.st_mtime_ns:x}-{status.st_size:x}")
