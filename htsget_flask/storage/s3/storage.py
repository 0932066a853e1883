"""Objects of an S3 bucket, which clients fetch by presigned URLs."""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from typing import BinaryIO, NamedTuple, cast

from htsget_flask.errors import NotFound, StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import Child, Entry, SignedUrl, Stat, VersionError, is_hidden, is_key, validate_key
from htsget_flask.storage.remote_file import RemoteFile
from htsget_flask.storage.s3.bucket import Batch, Bucket, NotAllowedError, Object
from htsget_flask.storage.s3.failures import archived
from htsget_flask.storage.s3.presigned import Presigner

# Seconds for which it is remembered that nothing is there: who has just written a file looks for it.
_ABSENCE = 5.0
_MAX_SEEN = 10_000
_MAX_IN_FAMILY = 100
_MAX_LISTED = 1000
# The last of all, in the order of keys.
_LAST_CHARACTER = "\U0010ffff"

_PLAIN_ETAG = re.compile(r'"([A-Za-z0-9_.-]{1,128})"')


class _Seen(NamedTuple):
    """What was there, and when; None is nothing."""

    time: float
    object: Object | None


class _Family(NamedTuple):
    """A look at all keys with a prefix: up to `last`, or at all of them."""

    time: float
    last: str | None
    is_empty: bool


class S3Storage:
    """The objects of a bucket whose keys start with `prefix`, which is empty or ends with a slash.

    Clients fetch them with URLs of the presigner; without one this server delivers all bytes. Versions are remembered
    for `revalidate` seconds by those who allow it. `executor` runs the requests that are made ahead.
    """

    is_remote = True

    def __init__(
        self, bucket: Bucket, prefix: str, *, presigner: Presigner | None, executor: Executor, revalidate: float
    ) -> None:
        self.max_age = revalidate
        self._bucket = bucket
        self._prefix = prefix
        self._presigner = presigner
        self._executor = executor
        self._absence = min(_ABSENCE, revalidate)
        self._seen: dict[str, _Seen] = {}
        self._families: dict[str, _Family] = {}
        self._has_versions = False
        self._may_list_from = 0.0

    @property
    def origin(self) -> str | None:
        return None if self._presigner is None else self._presigner.origin()

    def stat(self, key: str, *, max_age: float = 0, family: str | None = None) -> Stat:
        validate_key(key)
        if family is not None and not key.startswith(family):
            family = None
        found = self._remembered(key, max_age, family) if max_age else None
        return _stat(self._present(found or self._look_for(key, family)))

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        validate_key(key)
        version = self._version(key, etag)

        def stream(span: ByteRange) -> Iterator[bytes]:
            return self._bucket.stream(self._prefix + key, version, span, on_answer=learn)

        def learn(answered: Object) -> None:
            if answered.version_id is not None:
                self._has_versions = True
                seen = self._seen.get(key)
                if seen is not None and seen.object == version:
                    self._seen[key] = seen._replace(object=answered)

        return cast(BinaryIO, RemoteFile(version.size, stream, self._executor))

    def signed_url(self, key: str, version: Stat) -> SignedUrl | None:
        if self._presigner is None:
            return None
        return self._presigner.sign(self._prefix + key, self._fetchable(key, version.etag, with_id=self._has_versions))

    def redirect_url(self, key: str, version: Stat) -> str | None:
        if self._presigner is None:
            return None
        return self._presigner.sign(self._prefix + key, self._fetchable(key, version.etag), with_headers=False).url

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        if not (is_key(prefix) or is_key(prefix + "x")) or (after > prefix and not after.startswith(prefix)):
            return
        behind = after if after.startswith(prefix) and is_key(after) else None
        while True:
            batch = self._batch(prefix, after=behind)
            for full_key, found in batch.objects.items():
                behind = full_key[len(self._prefix) :]
                if behind > after and is_key(behind) and not is_hidden(behind):
                    yield Entry(behind, _stat(found))
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
            # An object with the folder's own key says that there is one, though nothing may lie in it.
            if folder and not (last or batch.objects or batch.folders):
                raise NotFound("no such folder")
            stats = {key[len(self._prefix) :]: _stat(found) for key, found in batch.objects.items()}
            stats.pop(folder, None)
            for key in sorted([*stats, *(key[len(self._prefix) :] for key in batch.folders)]):
                if key > last and is_key(key.removesuffix("/")) and not is_hidden(key):
                    yield Child(key, stats.get(key))
                last = key
            if batch.is_complete:
                return

    def _batch(self, prefix: str, *, after: str | None, delimiter: str | None = None) -> Batch:
        """The first objects whose keys start with a prefix and come after a key, and their folders."""
        start = None if after is None else self._prefix + after
        try:
            return self._bucket.batch(self._prefix + prefix, after=start, limit=_MAX_LISTED, delimiter=delimiter)
        except NotAllowedError as error:
            raise cast(StorageError, error.__cause__) from None

    def location(self, key: str) -> str:
        return f"s3://{self._bucket.name}/{self._prefix}{key}"

    def _version(self, key: str, etag: str | None) -> Object:
        """The version with this etag, or the present one."""
        # Whatever the age of what is remembered: another version does not answer to its ETag.
        seen = self._seen.get(key)
        if etag is not None and seen is not None and seen.object is not None and _stat(seen.object).etag == etag:
            return seen.object
        return self._looked_at(key, etag)

    def _looked_at(self, key: str, etag: str | None) -> Object:
        found = self._present(self._look_at(key))
        if etag is not None and _stat(found).etag != etag:
            raise VersionError(key)
        return found

    def _fetchable(self, key: str, etag: str, *, with_id: bool = False) -> Object:
        """The version with this etag, which clients are to fetch; StorageError where it is in the archive."""
        found = self._version(key, etag)
        # What lists do not tell.
        if found.is_archived is None or (with_id and found.version_id is None):
            found = self._looked_at(key, etag)
        if found.is_archived:
            raise archived(self._bucket.storage)
        return found

    def _remembered(self, key: str, max_age: float, family: str | None) -> _Seen | None:
        now = time.monotonic()
        seen = self._seen.get(key)
        if seen is not None and now - seen.time <= (max_age if seen.object else min(max_age, self._absence)):
            return seen
        looked = None if family is None else self._families.get(family)
        if looked is None or (looked.last is not None and key > looked.last):
            return None
        # An index that a tool chose not to write is not looked for again and again where the data is known.
        if now - looked.time > (min(max_age, self._absence) if looked.is_empty else max_age):
            return None
        return _Seen(looked.time, None)

    def _look_for(self, key: str, family: str | None) -> _Seen:
        if family is None or time.monotonic() < self._may_list_from:
            return self._look_at(key)
        try:
            looked, objects = self._look_at_family(family)
        except NotAllowedError:
            self._may_list_from = time.monotonic() + self.max_age
            return self._look_at(key)
        if looked.last is not None and key > looked.last:
            return self._look_at(key)
        return _Seen(looked.time, objects.get(key))

    def _look_at(self, key: str) -> _Seen:
        self._make_room()
        try:
            found = self._bucket.head(self._prefix + key)
        except NotFound:
            seen = _Seen(time.monotonic(), None)
        else:
            self._has_versions = self._has_versions or found.version_id is not None
            seen = _Seen(time.monotonic(), found)
        self._seen[key] = seen
        return seen

    def _look_at_family(self, family: str) -> tuple[_Family, Mapping[str, Object]]:
        self._make_room()
        batch = self._bucket.batch(self._prefix + family, limit=_MAX_IN_FAMILY)
        now = time.monotonic()
        objects = {}
        for full_key, found in batch.objects.items():
            key = full_key[len(self._prefix) :]
            before = self._seen.get(key)
            known = before.object if before is not None else None
            # A list does not tell the ids of versions: they stay what they were. What was archived may be restored.
            if known is not None and known[:3] == found[:3]:
                is_archived = found.is_archived if known.is_archived is False else None
                found = found._replace(version_id=known.version_id, is_archived=is_archived)  # noqa: PLW2901
            objects[key] = found
            self._seen[key] = _Seen(now, objects[key])
        looked = _Family(now, None if batch.is_complete else max(objects, default=None), not objects)
        self._families[family] = looked
        return looked, objects

    def _make_room(self) -> None:
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        if len(self._families) >= _MAX_SEEN:
            self._families.clear()

    @staticmethod
    def _present(seen: _Seen) -> Object:
        if seen.object is None:
            raise NotFound("no such file")
        return seen.object


def _stat(found: Object) -> Stat:
    plain = _PLAIN_ETAG.fullmatch(found.etag)
    # Part of URLs, where not all may stand that a server of another make puts between the quotes.
    etag = plain[1] if plain else hashlib.sha256(found.etag.encode()).hexdigest()[:32]
    return Stat(found.size, found.modified, etag)
