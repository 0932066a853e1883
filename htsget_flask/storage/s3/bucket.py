"""An S3 bucket's objects, by requests that are repeated where that helps."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore import exceptions as faults

from htsget_flask.errors import NotFound, StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import VersionError
from htsget_flask.storage.s3.failures import EXPIRED, code_of, explained, is_of_s3, may_pass, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_PIECE = 1 << 20
# Seconds before the second attempt; each further one waits up to twice as long as the one before.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0

# What is of these classes can be read only where it was restored.
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
# Since it was looked at the object was replaced, or deleted.
_OTHER_VERSION = frozenset({"PreconditionFailed", "InvalidRange", "412", "416", "NoSuchKey", "NoSuchVersion"})


class Object(NamedTuple):
    """One version of an object: `etag` as S3 writes it, with its quotes; `version_id` where it is known to have one.

    `is_archived`: whether it has to be restored before it can be read; None where that takes a look at the object.
    """

    size: int
    modified: float
    etag: str
    version_id: str | None
    is_archived: bool | None = False


class Batch(NamedTuple):
    """Objects by key, in the order of their keys; unless `is_complete` there are more behind the last one.

    `folders` are the prefixes, each with a slash at its end, that a `delimiter` put in place of the objects below them.
    """

    objects: Mapping[str, Object]
    is_complete: bool
    folders: Sequence[str] = ()


class NotAllowedError(Exception):
    """Listing is not allowed to this server, which may still read objects."""


class Bucket:
    """Objects of a bucket by their full keys; safe for threads, as is the client.

    What may pass is tried `max_attempts` times, with random waits between them, before it raises StorageError; an
    absent object is NotFound, and nothing else is. `storage` is what messages call it.
    """

    def __init__(self, client: "S3Client", name: str, *, storage: str, max_attempts: int, revalidate: float) -> None:
        self._client = client
        self.name = name
        self.storage = storage
        self._max_attempts = max_attempts
        self._revalidate = revalidate
        self._bucket_seen = -revalidate

    def head(self, key: str) -> Object:
        """An object's present version."""

        def ask() -> Any:
            try:
                return self._client.head_object(Bucket=self.name, Key=key)
            except faults.ClientError as error:
                if status_of(error) in (400, 403):
                    # The answer to a HEAD does not say why; that to a GET does.
                    self._client.get_object(Bucket=self.name, Key=key, Range="bytes=0-0")["Body"].close()
                raise

        try:
            answer = self._attempted(ask)
        except _NoBodyError:
            # Nor what was not found.
            self._prove_bucket()
            raise NotFound("no such file") from None
        return Object(
            answer["ContentLength"],
            _seconds(answer["LastModified"]),
            _quoted(answer["ETag"]),
            _version_id(answer),
            _is_archived(answer),
        )

    def batch(self, prefix: str, *, after: str | None = None, limit: int, delimiter: str | None = None) -> Batch:
        """At most `limit` objects whose keys start with `prefix` and come behind `after`.

        With a `delimiter` objects that have it after the prefix are replaced by their common prefixes up to it.

        Raises:
            NotAllowedError: where this server may not list the bucket.
        """
        optional = {"StartAfter": after, "Delimiter": delimiter}
        given: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}

        def ask() -> Any:
            return self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, MaxKeys=limit, **given)

        try:
            answer = self._attempted(ask)
        except _NoBodyError as error:
            raise explained(error, self.storage, code="NoSuchBucket") from error.__cause__
        except StorageError as error:
            cause = error.__cause__
            if isinstance(cause, faults.ClientError) and code_of(cause) in ("AccessDenied", "403"):
                raise NotAllowedError from error
            raise
        self._bucket_seen = time.monotonic()
        found = {
            entry["Key"]: Object(
                entry["Size"],
                _seconds(entry["LastModified"]),
                _quoted(entry["ETag"]),
                None,
                # Lists do not tell what was restored.
                None if entry.get("StorageClass") in _ARCHIVES else False,
            )
            for entry in answer.get("Contents", ())
        }
        folders = [entry["Prefix"] for entry in answer.get("CommonPrefixes", ())]
        return Batch(found, not answer["IsTruncated"], folders)

    def stream(
        self, key: str, version: Object, span: ByteRange, *, on_answer: Callable[[Object], None] | None = None
    ) -> Iterator[bytes]:
        """A range of an object, piece by piece; where the connection is cut it goes on from there.

        `on_answer` is told the version with its id.

        Raises:
            VersionError: when another version has taken its place, or none.
        """
        position, failures = span.start, 0
        while position < span.end:
            try:
                answer = self._get(key, version, ByteRange(position, span.end))
                if on_answer is not None:
                    on_answer(version._replace(version_id=_version_id(answer)))
                with closing(answer["Body"]) as body:
                    while position < span.end:
                        data = body.read(min(_PIECE, span.end - position))
                        if not data:
                            raise _CutShortError
                        position += len(data)
                        # Who gets a few bytes at a time would ask for ever.
                        failures = 0 if len(data) == _PIECE else failures
                        yield data
            except Exception as error:
                failures += 1
                try:
                    self._wait_or_raise(error, failures)
                except _NoBodyError:
                    raise VersionError(key) from None

    def _get(self, key: str, version: Object, span: ByteRange) -> Any:
        wanted = f"bytes={span.start}-{span.end - 1}"
        answer = self._client.get_object(Bucket=self.name, Key=key, Range=wanted, IfMatch=version.etag)
        # Not every server heeds these fields.
        expected = f"bytes {span.start}-{span.end - 1}/{version.size}"
        is_whole = len(span) == version.size == answer.get("ContentLength")
        if _quoted(answer["ETag"]) != version.etag:
            answer["Body"].close()
            raise VersionError(key)
        if not is_whole and answer.get("ContentRange") != expected:
            answer["Body"].close()
            raise StorageError(
                f"the storage {self.storage!r} does not answer with the range asked for",
                is_passing=False,
                detail=f"{answer.get('ContentRange')} instead of {expected}",
            )
        return answer

    def _prove_bucket(self) -> None:
        if time.monotonic() - self._bucket_seen < self._revalidate:
            return
        try:
            self._attempted(lambda: self._client.head_bucket(Bucket=self.name))
        except _NoBodyError as error:
            raise explained(error, self.storage, code="NoSuchBucket") from error.__cause__
        except StorageError as error:
            # It may be forbidden to look at a bucket that exists.
            if error.is_passing:
                raise
        self._bucket_seen = time.monotonic()

    def _attempted(self, ask: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return ask()
            except Exception as error:
                failures += 1
                self._wait_or_raise(error, failures)

    def _wait_or_raise(self, error: Exception, failures: int) -> None:
        """Wait for the next attempt where one may help; else raise what the failure means."""
        if not is_of_s3(error):
            raise error
        code = code_of(error)
        if code == "404":
            raise _NoBodyError from error
        if code in _OTHER_VERSION:
            raise VersionError(code) from None
        if failures < self._max_attempts and (may_pass(error) or code in EXPIRED):
            # Not for safety: so that not all clients of a busy storage ask again at the same moment.
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (failures - 1))))  # noqa: S311
            return
        raise explained(error, self.storage) from error


class _NoBodyError(Exception):
    """404 without saying what was not found."""


class _CutShortError(faults.HTTPClientError):
    """The connection ended before the body did."""

    fmt = "the connection was closed in mid-body"


def _quoted(etag: str) -> str:
    """An ETag with its quotes, which some servers leave out in lists."""
    return etag if etag.startswith('"') else f'"{etag}"'


def _seconds(date: datetime) -> float:
    """Lists have fractions of a second, other answers have not."""
    return float(int(date.timestamp()))


def _version_id(answer: Mapping[str, Any]) -> str | None:
    """The version's id; `null` is that of objects which are replaced without trace."""
    version_id = answer.get("VersionId")
    return None if version_id in (None, "null") else str(version_id)


def _is_archived(answer: Mapping[str, Any]) -> bool:
    """Whether the answer to a HEAD tells of an object that cannot be read: a restored one still has its class."""
    if "ArchiveStatus" in answer:
        return True
    return answer.get("StorageClass") in _ARCHIVES and 'ongoing-request="false"' not in answer.get("Restore", "")
