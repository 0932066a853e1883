"""An S3 bucket's objects, by requests that are retried where that helps."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore import exceptions as faults
from botocore.credentials import Credentials
from botocore.parsers import ResponseParserError

from htsget_flask.errors import NotFound, StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import VersionError
from htsget_flask.storage.s3.failures import EXPIRED, code_of, is_s3_failure, is_transient, status_of, storage_error
from htsget_flask.storage.s3.range_requests import RangeRequests, RangeResponse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_BUFFER_SIZE = 1 << 20
# Seconds before the second attempt; each further one waits up to twice as long as the one before.
_FIRST_WAIT, _MAX_WAIT = 0.1, 5.0

# Objects of these storage classes have to be restored before they can be read.
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
# The errors that mean that the object was replaced or deleted.
_OTHER_VERSION = frozenset({"PreconditionFailed", "InvalidRange", "412", "416", "NoSuchKey", "NoSuchVersion"})


class Object(NamedTuple):
    """One version of an object; `etag` has its quotes.

    `version_id`: empty for an object without one. `is_archived`: whether it has to be restored before it can be read.
    Both are None where only a request for the object reports them.
    """

    size: int
    modified: float
    etag: str
    version_id: str | None
    is_archived: bool | None = False


class Batch(NamedTuple):
    """Objects by key, in the order of their keys; unless `is_complete` more follow the last one.

    `folders` are the common prefixes, each with a slash at its end, that replace the objects below them where a
    `delimiter` was given.
    """

    objects: Mapping[str, Object]
    is_complete: bool
    folders: Sequence[str] = ()


class NotAllowedError(Exception):
    """Listing the bucket is forbidden; reading objects may be allowed."""


class Bucket:
    """Objects of a bucket by their full keys; safe for threads, as is the client.

    A request with a transient failure is tried `max_attempts` times, with random waits, before it raises StorageError.
    Only an absent object raises NotFound. `storage` is the name in messages; `credentials` are the client's, None where
    it has or needs none.
    """

    def __init__(
        self,
        client: "S3Client",
        credentials: Credentials | None,
        name: str,
        *,
        storage: str,
        max_attempts: int,
        revalidate: float,
    ) -> None:
        self._client = client
        self._ranges = RangeRequests(client, credentials, name)
        self.name = name
        self.storage = storage
        self._max_attempts = max_attempts
        self._revalidate = revalidate
        self._bucket_seen = -revalidate

    def head(self, key: str) -> Object:
        """An object's current version."""

        def request() -> Any:
            try:
                response = self._client.head_object(Bucket=self.name, Key=key)
            except faults.ClientError as error:
                if status_of(error) in (400, 403):
                    # The response to a HEAD has no reason; that to a GET has.
                    self._client.get_object(Bucket=self.name, Key=key, Range="bytes=0-0")["Body"].close()
                raise
            if "ContentLength" not in response:
                raise ResponseParserError("no Content-Length")
            return response

        try:
            response = self._retry(request)
        except _NoBodyError:
            # Either the object or its bucket is absent.
            self._require_bucket()
            raise NotFound("no such file") from None
        return Object(
            response["ContentLength"],
            _seconds(response["LastModified"]),
            self._etag(response.get("ETag")),
            _version_id(response.get("VersionId")),
            _is_archived(response),
        )

    def batch(self, prefix: str, *, after: str | None = None, limit: int, delimiter: str | None = None) -> Batch:
        """At most `limit` objects whose keys start with `prefix` and sort after `after`.

        Objects whose keys have the `delimiter` after the prefix are replaced by their common prefixes up to it.

        Raises:
            NotAllowedError: where this server may not list the bucket.
        """
        optional = {"StartAfter": after, "Delimiter": delimiter}
        parameters: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}

        def request() -> Any:
            return self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, MaxKeys=limit, **parameters)

        try:
            response = self._retry(request)
        except _NoBodyError as error:
            raise storage_error(error, self.storage, code="NoSuchBucket") from error.__cause__
        except StorageError as error:
            cause = error.__cause__
            if isinstance(cause, faults.ClientError) and code_of(cause) in ("AccessDenied", "403"):
                raise NotAllowedError from error
            raise
        self._bucket_seen = time.monotonic()
        objects = {
            entry["Key"]: Object(
                entry["Size"],
                _seconds(entry["LastModified"]),
                _quoted(entry.get("ETag", "")),
                None,
                # Lists do not report whether it was restored.
                None if entry.get("StorageClass") in _ARCHIVES else False,
            )
            for entry in response.get("Contents", ())
        }
        folders = [entry["Prefix"] for entry in response.get("CommonPrefixes", ())]
        return Batch(objects, not response["IsTruncated"], folders)

    def stream(
        self, key: str, version: Object, span: ByteRange, *, on_response: Callable[[Object], None]
    ) -> Iterator[bytes]:
        """A range of an object in buffers; a request for the rest follows where the connection was cut.

        `on_response` is called with the version and its id.

        Raises:
            VersionError: when the object was replaced or deleted.
        """
        position, failures = span.start, 0
        while position < span.end:
            try:
                response = self._get(key, version, ByteRange(position, span.end))
                on_response(version._replace(version_id=_version_id(response.version_id)))
                with closing(response.body) as body:
                    while position < span.end:
                        data = body.read(min(_BUFFER_SIZE, span.end - position))
                        if not data:
                            raise _CutShortError
                        position += len(data)
                        # Only a full buffer resets the count: a few bytes per connection would retry for ever.
                        failures = 0 if len(data) == _BUFFER_SIZE else failures
                        yield data
            except Exception as error:
                failures += 1
                try:
                    self._wait_or_raise(error, failures)
                except _NoBodyError:
                    raise VersionError(key) from None

    def _get(self, key: str, version: Object, span: ByteRange) -> RangeResponse:
        response = self._ranges.get(key, span, version.etag)
        # Some servers ignore the range and the ETag.
        expected = f"bytes {span.start}-{span.end - 1}/{version.size}"
        is_whole = len(span) == version.size and response.content_length == str(version.size)
        try:
            if self._etag(response.etag) != version.etag:
                raise VersionError(key)
            if not is_whole and response.content_range != expected:
                reason = f"the storage {self.storage!r} does not send the requested range"
                detail = f"{response.content_range} instead of {expected}"
                raise StorageError(reason, is_passing=False, detail=detail)
        except BaseException:
            response.body.close()
            raise
        return response

    def _etag(self, etag: str | None) -> str:
        """The version's ETag; gateways may have none for files that were not written through them."""
        if not etag:
            reason = f"the storage {self.storage!r} has no ETag for the file, so that its versions look alike"
            raise StorageError(reason, is_passing=False, detail="upload it through S3")
        return _quoted(etag)

    def _require_bucket(self) -> None:
        if time.monotonic() - self._bucket_seen < self._revalidate:
            return
        try:
            self._retry(lambda: self._client.head_bucket(Bucket=self.name))
        except _NoBodyError as error:
            raise storage_error(error, self.storage, code="NoSuchBucket") from error.__cause__
        except StorageError as error:
            # A HEAD of a bucket that exists may be forbidden.
            if error.is_passing:
                raise
        self._bucket_seen = time.monotonic()

    def _retry(self, request: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return request()
            except Exception as error:
                failures += 1
                self._wait_or_raise(error, failures)

    def _wait_or_raise(self, error: Exception, failures: int) -> None:
        """Wait for the next attempt where one may help; else raise the error that the failure means."""
        if not is_s3_failure(error):
            raise error
        code = code_of(error)
        if code == "404":
            raise _NoBodyError from error
        if code in _OTHER_VERSION:
            raise VersionError(code) from None
        if failures < self._max_attempts and (is_transient(error) or code in EXPIRED):
            # Jitter, so that not all clients of a busy storage retry at the same moment.
            time.sleep(random.uniform(0, min(_MAX_WAIT, _FIRST_WAIT * 2 ** (failures - 1))))  # noqa: S311
            return
        raise storage_error(error, self.storage) from error


class _NoBodyError(Exception):
    """404 without a body that says what is absent: the object or the bucket."""


class _CutShortError(faults.HTTPClientError):
    """The connection ended before the body did."""

    fmt = "the connection was closed in mid-body"


def _quoted(etag: str) -> str:
    """An ETag with its quotes, which some servers leave out in lists."""
    return etag if etag.startswith('"') else f'"{etag}"'


def _seconds(date: datetime) -> float:
    """Seconds since the epoch; whole ones, as only lists have fractions."""
    return float(int(date.timestamp()))


def _version_id(version_id: str | None) -> str:
    """The version's id; empty for objects without one, and for `null`, that of objects which are overwritten."""
    return "" if version_id in (None, "null") else str(version_id)


def _is_archived(response: Mapping[str, Any]) -> bool:
    """Whether the response to a HEAD is for an object that cannot be read: a restored one keeps its storage class."""
    if "ArchiveStatus" in response:
        return True
    return response.get("StorageClass") in _ARCHIVES and 'ongoing-request="false"' not in response.get("Restore", "")
