"""Files below a folder of this machine."""

import contextlib
import errno
import heapq
import os
import stat as modes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from htsget_flask.errors import NotFound
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import (
    Child,
    Entry,
    SendfileHeaders,
    SignedUrl,
    Stat,
    StoredFile,
    VersionError,
    is_hidden,
    is_key,
    validate_key,
)
from htsget_flask.storage.descriptor_file import DescriptorFile
from htsget_flask.storage.secure_link import SecureLinkSigner
from htsget_flask.storage.sendfile import SendfileMethod, static_etag

_MAX_REMEMBERED = 10_000
# In characters: 10,000 longer keys would take 40 MB. Clients choose them, where links give one file many keys.
_MAX_REMEMBERED_KEY = 256
# How many names of a folder are in memory at once; for more the folder is read again.
_FIRST_BATCH = 2_000
# The errors for a link where none is allowed: ENOTDIR instead of a folder, ELOOP instead of the file.
_LINKED = {errno.ENOTDIR, errno.ELOOP}
_ABSENT = {errno.ENOENT, errno.ENAMETOOLONG, *_LINKED}
_CLOSED = {errno.EACCES, errno.EPERM}
# Linux opens a folder with O_PATH to pass through it; other systems have to open it for reading.
_PATH_ONLY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)

T = TypeVar("T")


class LocalStorage:
    """Regular files below `root`; a symbolic link may point elsewhere below it, never out of it.

    With a `sendfile_method` a web server in front can send the files that `open` returns; with a `signer` clients can
    fetch them from one.
    """

    # lstat is cheap, but it releases the interpreter lock, and to get it back took half of a warm ticket's time.
    max_age = 1.0
    mtime_is_meaningful = True
    reads_are_requests = False

    def __init__(
        self, root: Path, *, sendfile_method: SendfileMethod | None = None, signer: SecureLinkSigner | None = None
    ) -> None:
        # Empty where the root is the file system's.
        self._root = os.path.realpath(root).rstrip("/")
        self._sendfile_method = sendfile_method
        self._signer = signer
        self._remembered: dict[str, tuple[float, Stat]] = {}

    @property
    def origin(self) -> str | None:
        return None if self._signer is None else self._signer.origin

    def stat(self, key: str, *, max_age: float = 0, sibling_prefix: str | None = None) -> Stat:
        if max_age:
            remembered = self._remembered.get(key)
            if remembered is not None and time.monotonic() - remembered[0] <= max_age:
                return remembered[1]
        current = _stat(self._resolve(key, _status)[1])
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        if len(key) <= _MAX_REMEMBERED_KEY:
            self._remembered[key] = (time.monotonic(), current)
        return current

    def open(self, key: str, *, etag: str | None = None) -> StoredFile:
        path, descriptor = self._resolve(key, _open)
        try:
            status = os.fstat(descriptor)
            current = _stat(status)
            if etag is not None and current.etag != etag:
                raise VersionError(key)
            return _LocalFile(descriptor, f"{self._root}/{path}", status, self._sendfile_method)
        except BaseException:
            os.close(descriptor)
            raise

    def signed_url(self, key: str, version: Stat, *, pinned: bool = True) -> SignedUrl | None:
        if self._signer is None or not pinned:
            return None
        path, _ = self._resolve(key, _status)
        modified = int(version.etag.partition("-")[0], 16)
        return self._signer.sign(os.fsencode(path), etag=static_etag(modified, version.size))

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        folder = prefix[: prefix.rfind("/") + 1]
        if folder and (not is_key(folder[:-1]) or is_hidden(folder)):
            return iter(())
        return self._walk(folder, prefix, after)

    def children(self, folder: str = "", *, after: str = "") -> Iterator[Child]:
        if folder and not (is_key(folder[:-1]) and not is_hidden(folder) and self._is_folder(folder)):
            raise NotFound("no such folder")
        # An empty folder is not an absent one: rclone and wget fail where it is answered with 404.
        for child in self._sorted_children(folder, folder, after):
            if not child.endswith("/"):
                with contextlib.suppress(NotFound, PermissionError):
                    yield Child(child, self.stat(child))
            elif child != after and is_key(child[:-1]):
                yield Child(child, None)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[Entry]:
        """The entries in a folder, whose name ends with a slash, and in the folders below it."""
        for child in self._sorted_children(folder, prefix, after):
            if child.endswith("/"):
                if is_key(child[:-1]):
                    yield from self._walk(child, prefix, after)
                continue
            # It may be gone by now, or not be a regular file.
            with contextlib.suppress(NotFound, PermissionError):
                yield Entry(child, _stat(self._resolve(child, _status)[1]))

    def _sorted_children(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """The keys of `_children`, sorted."""
        batch, last = _FIRST_BATCH, ""
        while True:
            # With the slash at its end a folder's name sorts as the keys in it do.
            children = (child for child in self._children(folder, prefix, after) if child > last)
            smallest = heapq.nsmallest(batch, children)
            yield from smallest
            if len(smallest) < batch:
                return
            last = smallest[-1]
            batch *= 4

    def _children(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """The matching files directly in a folder, and the folders, with a slash at the end, that may hold some."""
        for entry in self._scan(folder):
            name = entry.name
            if name[0] == ".":
                continue
            key = folder + name
            if entry.is_dir(follow_symlinks=False):
                key += "/"
                may_match = key.startswith(prefix) or prefix.startswith(key)
                if may_match and (key > after or after.startswith(key)):
                    yield key
            elif key > after and key.startswith(prefix):
                yield key

    def _is_folder(self, folder: str) -> bool:
        """Whether there is a folder, without a link in its path."""
        try:
            os.close(self._descend(f"{folder}.", _open_folder))
        except OSError as error:
            if error.errno not in _ABSENT | _CLOSED:
                raise
            return error.errno in _CLOSED
        return True

    def _scan(self, folder: str) -> Iterator["os.DirEntry[str]"]:
        """The names directly in a folder; none where its path has a link, as the folder may then contain itself."""
        try:
            descriptor = self._descend(f"{folder}.", _open_folder)
        except OSError as error:
            # A folder that this server may not read, such as a disk's lost+found, is left out.
            if folder and error.errno in _ABSENT | _CLOSED:
                return
            raise
        try:
            with os.scandir(descriptor) as entries:
                yield from entries
        finally:
            os.close(descriptor)

    def location(self, key: str) -> str:
        return f"{self._root}/{key}"

    def local_path(self, key: str) -> Path:
        return Path(self.location(key))

    def _resolve(self, key: str, act: Callable[[str, int | None], T]) -> tuple[str, T]:
        """The file's path below the root, without links, and the result of `act` for the file.

        Only a path with a link among its segments pays for realpath: this runs several times per ticket.
        """
        validate_key(key)
        try:
            try:
                return key, self._descend(key, act)
            except OSError as error:
                if error.errno not in _LINKED:
                    raise
            path = self._without_links(key)
            return path, self._descend(path, act)
        except OSError as error:
            if error.errno in _ABSENT:
                raise NotFound("no such file") from None
            raise

    def _without_links(self, key: str) -> str:
        """The path below the root to which a path with links resolves."""
        try:
            path = os.path.realpath(f"{self._root}/{key}", strict=True)
        except OSError as error:
            # The link was replaced before it was read.
            if error.errno == errno.EINVAL:
                raise NotFound("no such file") from None
            raise
        if not path.startswith(f"{self._root}/"):
            raise NotFound("no such file")
        return path[len(self._root) + 1 :]

    def _descend(self, path: str, act: Callable[[str, int | None], T]) -> T:
        """The result of `act` for a name and the descriptor of the folder that holds it.

        Each folder of the path is opened relative to the one before, without following links: a user who may write
        there can replace a folder by a link at any time. `act` must not follow links either. Without a descriptor the
        name is an absolute path of which only the last segment is below the root.
        """
        *folders, name = path.split("/")
        if not folders:
            return act(f"{self._root}/{name}", None)
        descriptor = os.open(f"{self._root}/{folders[0]}", _PATH_ONLY)
        try:
            for folder in folders[1:]:
                outer, descriptor = descriptor, os.open(folder, _PATH_ONLY, dir_fd=descriptor)
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
    # A pipe instead of the file must not block the thread.
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)


def _open_folder(name: str, folder: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)


def _stat(status: os.stat_result) -> Stat:
    if not modes.S_ISREG(status.st_mode):
        raise NotFound("no such file")
    return Stat(status.st_size, status.st_mtime, f"{status.st_mtime_ns:x}-{status.st_size:x}")


class _LocalFile(DescriptorFile):
    """A file that the web server in front may send.

    `path` is absolute and without links; `status` is that of the descriptor.
    """

    def __init__(self, descriptor: int, path: str, status: os.stat_result, method: SendfileMethod | None) -> None:
        super().__init__(descriptor)
        self._path = path
        self._status = status
        self._method = method

    def sendfile_headers(self, span: ByteRange) -> SendfileHeaders | None:
        if self._method is None or span != ByteRange(0, self._status.st_size):
            return None
        return self._method(self._path, self._status)
