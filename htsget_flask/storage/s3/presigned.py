"""Presigned URLs of S3 objects: each valid for one version, for a limited time."""

import time
from bisect import bisect_left
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from htsget_flask.cache import ExpiringCache, bytes_of
from htsget_flask.errors import StorageError
from htsget_flask.storage import SignedUrl
from htsget_flask.storage.s3.bucket import Object
from htsget_flask.storage.s3.failures import EXPIRED_CREDENTIALS, NO_CREDENTIALS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The part of its lifetime for which a URL is cached: signing one takes longer than all the rest of a ticket.
_CACHED_SHARE = 0.25
_MAX_CACHED = 10_000
# RuntimeError: the renewed credentials have expired already.
_FAULTS = (BotoCoreError, ClientError, RuntimeError)


class Presigner:
    """Signs URLs of a bucket's objects, valid for `expires` seconds, or until the credentials expire if that is sooner.

    `storage` is the name in messages; credentials are None where the bucket is open to all.
    """

    def __init__(
        self, client: "S3Client", credentials: Credentials | None, bucket: str, *, storage: str, expires: int
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._bucket = bucket
        self._storage = storage
        self._expires = expires
        self._cache: ExpiringCache[tuple[str, Object, bool], SignedUrl] = ExpiringCache(_MAX_CACHED)

    def sign(self, key: str, version: Object, *, pinned: bool = True) -> SignedUrl:
        """The URL of a version: `pinned` by its id, or by its ETag in a header field where it has no id.

        Raises:
            StorageError: without credentials, or with expired ones.
        """
        cached = self._cache.get((key, version, pinned))
        if cached is not None:
            return cached
        parameters, headers = {"Bucket": self._bucket, "Key": key}, {}
        if version.version_id:
            parameters["VersionId"] = version.version_id
        elif pinned:
            parameters["IfMatch"] = headers["If-Match"] = version.etag
        now, lifetime = time.monotonic(), self.lifetime()
        signed = SignedUrl(self._url(parameters, lifetime), headers)
        until, size = now + lifetime * _CACHED_SHARE, bytes_of((key, version, signed))
        self._cache.keep((key, version, pinned), signed, until, size=size)
        return signed

    def origin(self) -> str | None:
        """The origin (RFC 6454) of the URLs; None where none can be signed."""
        try:
            parts = urlsplit(self._url({"Bucket": self._bucket, "Key": "key"}, 1))
        except StorageError:
            return None
        return f"{parts.scheme}://{parts.netloc}"

    def _url(self, parameters: dict[str, str], lifetime: int) -> str:
        try:
            return self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=lifetime)
        except _FAULTS as error:
            raise self._fault(error) from error

    def lifetime(self) -> int:
        """Seconds for which a URL signed now is valid."""
        credentials = self._credentials
        if not isinstance(credentials, RefreshableCredentials):
            return self._expires
        try:
            credentials.get_frozen_credentials()
        except _FAULTS as error:
            raise self._fault(error) from error
        # botocore reports only whether the credentials expire within some number of seconds.
        seconds = range(1, self._expires + 1)
        return max(1, bisect_left(seconds, True, key=lambda left: credentials.refresh_needed(refresh_in=left)))

    def _fault(self, error: Exception) -> StorageError:
        is_passing = False
        if isinstance(error, RuntimeError):
            reason = EXPIRED_CREDENTIALS
        elif isinstance(error, NoCredentialsError | PartialCredentialsError):
            reason = NO_CREDENTIALS
        else:
            reason, is_passing = "this server's credentials for the storage {} cannot be renewed", True
        return StorageError(reason.format(repr(self._storage)), is_passing=is_passing, detail=type(error).__name__)
