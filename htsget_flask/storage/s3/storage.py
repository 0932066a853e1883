"""Objects of an S3 bucket, which clients fetch by presigned URLs."""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import NamedTuple, cast

from htsget_flask.errors import NotFound, StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import (
    Child,
    Entry,
    SignedUrl,
    Stat,
    StoredFile,
    VersionError,
    is_hidden,
    is_key,
    validate_key,
)
from htsget_flask.storage.remote_file import RemoteFile
from htsget_flask.storage.s3.bucket import Batch, Bucket, NotAllowedError, Object
from htsget_flask.storage.s3.failures import archived_error
from htsget_flask.storage.s3.presigned import Presigner

# Seconds for which an absence is remembered: users look for a file that they have just written.
_ABSENCE_AGE = 5.0
_MAX_REMEMBERED = 10_000
_MAX_SIBLINGS = 100
_MAX_LISTED = 1000
# The last of all, in the order of keys.
_LAST_CHARACTER = "\U0010ffff"

_PLAIN_ETAG = re.compile(r'"([A-Za-z0-9_.-]{1,128})"')


class _Lookup(NamedTuple):
    """The object that a key had at a time; None where it had none."""

    time: float
    object: Object | None


class _SiblingListing(NamedTuple):
    """When the keys with a prefix were listed, and up to which one; `last` is None where all were."""

    time: float
    last: str | None
    is_empty: bool


class S3Storage:
    """The objects of a bucket whose keys start with `prefix`, which is empty or ends with a slash.

    Clients fetch them with URLs of the presigner; without one this server delivers all bytes. Versions are remembered
    for `revalidate` seconds, for callers that tolerate it. `executor` runs the prefetches.
    """

    mtime_is_meaningful = False
    reads_are_requests = True

    def __init__(
        self, bucket: Bucket, prefix: str, *, presigner: Presigner | None, executor: Executor, revalidate: float
    ) -> None:
        self.max_age = revalidate
        self._bucket = bucket
        self._prefix = prefix
        self._presigner = presigner
        self._executor = executor
        self._absence_age = min(_ABSENCE_AGE, revalidate)
        self._lookups: dict[str, _Lookup] = {}
        self._listings: dict[str, _SiblingListing] = {}
        self._may_list_from = 0.0

    @property
    def origin(self) -> str | None:
        return None if self._presigner is None else self._presigner.origin()

    def stat(self, key: str, *, max_age: float = 0, sibling_prefix: str | None = None) -> Stat:
        validate_key(key)
        if sibling_prefix is not None and not key.startswith(sibling_prefix):
            sibling_prefix = None
        lookup = self._remembered(key, max_age, sibling_prefix) if max_age else None
        return _stat(_require(lookup or self._look_up(key, sibling_prefix)))

    def open(self, key: str, *, etag: str | None = None) -> StoredFile:
        validate_key(key)
        version = self._version(key, etag)

        def fetch(span: ByteRange) -> Iterator[bytes]:
            return self._bucket.stream(self._prefix + key, version, span, on_response=remember)

        def remember(current: Object) -> None:
            lookup = self._lookups.get(key)
            if lookup is not None and lookup.object == version:
                self._lookups[key] = lookup._replace(object=current)

        return RemoteFile(version.size, fetch, self._executor)

    def signed_url(self, key: str, version: Stat, *, pinned: bool = True) -> SignedUrl | None:
        if self._presigner is None:
            return None
        current = self._version(key, version.etag)
        # Lists report neither; reading reports the id.
        if current.is_archived is None or (pinned and current.version_id is None):
            current = self._fresh_version(key, version.etag)
        if current.is_archived:
            raise archived_error(self._bucket.storage)
        return self._presigner.sign(self._prefix + key, current, pinned=pinned)

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        if not (is_key(prefix) or is_key(prefix + "x")) or (after > prefix and not after.startswith(prefix)):
            return
        last = after if after.startswith(prefix) and is_key(after) else None
        while True:
            batch = self._batch(prefix, after=last)
            for full_key, object_ in batch.objects.items():
                last = full_key[len(self._prefix) :]
                if last > after and is_key(last) and not is_hidden(last):
                    yield Entry(last, _stat(object_))
            if batch.is_complete or not batch.objects:
                return

    def children(self, folder: str = "", *, after: str = "") -> Iterator[Child]:
        if folder and (not is_key(folder.removesuffix("/")) or is_hidden(folder)):
            raise NotFound("no such folder")
        if after > folder and not after.startswith(folder):
            return
        last = after if after.startswith(folder) and is_key(after.removesuffix("/")) else ""
        name, slash, inner = last[len(folder) :].partition("/")
        if slash:
            last = f"{folder}{name}/"
            if inner:
                yield Child(last, None)
        while True:
            # Servers differ in whether a folder comes after its own key, and after the keys in it.
            start = f"{last}{_LAST_CHARACTER}" if last.endswith("/") else last
            batch = self._batch(folder, after=start or None, delimiter="/")
            # An object with the folder's own key shows that the folder exists, even if it is empty.
            if folder and not (last or batch.objects or batch.folders):
                raise NotFound("no such folder")
            stats = {key[len(self._prefix) :]: _stat(object_) for key, object_ in batch.objects.items()}
            stats.pop(folder, None)
            for key in sorted([*stats, *(key[len(self._prefix) :] for key in batch.folders)]):
                if key > last and is_key(key.removesuffix("/")) and not is_hidden(key):
                    yield Child(key, stats.get(key))
                last = key
            if batch.is_complete:
                return

    def _batch(self, prefix: str, *, after: str | None, delimiter: str | None = None) -> Batch:
        """The first objects whose keys start with a prefix and sort after a key, and their folders."""
        start = None if after is None else self._prefix + after
        try:
            return self._bucket.batch(self._prefix + prefix, after=start, limit=_MAX_LISTED, delimiter=delimiter)
        except NotAllowedError as error:
            raise cast(StorageError, error.__cause__) from None

    def location(self, key: str) -> str:
        return f"s3://{self._bucket.name}/{self._prefix}{key}"

    def local_path(self, key: str) -> None:
        return None

    def _version(self, key: str, etag: str | None) -> Object:
        """The version with this etag, or the current one."""
        # However old the lookup is: S3 refuses to read another version by this ETag.
        lookup = self._lookups.get(key)
        if etag is not None and lookup is not None and lookup.object is not None and _stat(lookup.object).etag == etag:
            return lookup.object
        return self._fresh_version(key, etag)

    def _fresh_version(self, key: str, etag: str | None) -> Object:
        current = _require(self._head(key))
        if etag is not None and _stat(current).etag != etag:
            raise VersionError(key)
        return current

    def _remembered(self, key: str, max_age: float, sibling_prefix: str | None) -> _Lookup | None:
        now = time.monotonic()
        lookup = self._lookups.get(key)
        if lookup is not None and now - lookup.time <= (max_age if lookup.object else min(max_age, self._absence_age)):
            return lookup
        listing = None if sibling_prefix is None else self._listings.get(sibling_prefix)
        if listing is None or (listing.last is not None and key > listing.last):
            return None
        # Where the data exists an index that was not written need not be looked up again and again.
        if now - listing.time > (min(max_age, self._absence_age) if listing.is_empty else max_age):
            return None
        # A listing is complete up to its last key: a key that it lacks is absent.
        return _Lookup(listing.time, None)

    def _look_up(self, key: str, sibling_prefix: str | None) -> _Lookup:
        if sibling_prefix is None or time.monotonic() < self._may_list_from:
            return self._head(key)
        try:
            listing, objects = self._list_siblings(sibling_prefix)
        except NotAllowedError:
            self._may_list_from = time.monotonic() + self.max_age
            return self._head(key)
        if listing.last is not None and key > listing.last:
            return self._head(key)
        return _Lookup(listing.time, objects.get(key))

    def _head(self, key: str) -> _Lookup:
        self._make_room()
        current = None
        with suppress(NotFound):
            current = self._bucket.head(self._prefix + key)
        lookup = self._lookups[key] = _Lookup(time.monotonic(), current)
        return lookup

    def _list_siblings(self, prefix: str) -> tuple[_SiblingListing, Mapping[str, Object]]:
        self._make_room()
        batch = self._bucket.batch(self._prefix + prefix, limit=_MAX_SIBLINGS)
        now = time.monotonic()
        objects = {}
        for full_key, current in batch.objects.items():
            key = full_key[len(self._prefix) :]
            lookup = self._lookups.get(key)
            previous = None if lookup is None else lookup.object
            # Lists report no ids of versions: that of the same version stays. An archived object may be restored since.
            if previous is not None and previous[:3] == current[:3]:
                is_archived = current.is_archived if previous.is_archived is False else None
                current = current._replace(version_id=previous.version_id, is_archived=is_archived)  # noqa: PLW2901
            objects[key] = current
            self._lookups[key] = _Lookup(now, current)
        listing = _SiblingListing(now, None if batch.is_complete else max(objects, default=None), not objects)
        self._listings[prefix] = listing
        return listing, objects

    def _make_room(self) -> None:
        for remembered in (self._lookups, self._listings):
            if len(remembered) >= _MAX_REMEMBERED:
                remembered.clear()


def _require(lookup: _Lookup) -> Object:
    if lookup.object is None:
        raise NotFound("no such file")
    return lookup.object


def _stat(object_: Object) -> Stat:
    plain = _PLAIN_ETAG.fullmatch(object_.etag)
    # URLs contain it, and some servers put characters into ETags that URLs may not contain.
    etag = plain[1] if plain else hashlib.sha256(object_.etag.encode()).hexdigest()[:32]
    return Stat(object_.size, object_.modified, etag)
