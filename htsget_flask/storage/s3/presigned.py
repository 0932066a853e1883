"""Presigned URLs of S3 objects: each good for one version, for a limited time."""

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

# A URL is handed out for this part of its life: to sign one takes longer than all the rest of a ticket.
_SHARE_HANDED_OUT = 0.25
_MAX_KEPT = 10_000
# RuntimeError: credentials that were given anew are over already.
_FAULTS = (BotoCoreError, ClientError, RuntimeError)


class Presigner:
    """Signs URLs of a bucket's objects, good for `expires` seconds, or for as long as the credentials are.

    `storage` is what messages call it; credentials are None where the bucket is open to all.
    """

    def __init__(
        self, client: "S3Client", credentials: Credentials | None, bucket: str, *, storage: str, expires: int
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._bucket = bucket
        self._storage = storage
        self._expires = expires
        self._kept: ExpiringCache[tuple[str, Object, bool], SignedUrl] = ExpiringCache(_MAX_KEPT)

    def sign(self, key: str, version: Object, *, with_headers: bool = True) -> SignedUrl:
        """The URL of a version: pinned to it by its id, or else by its ETag in a header field, where one may be sent.

        Raises:
            StorageError: without credentials, or with those that are over.
        """
        kept = self._kept.get((key, version, with_headers))
        if kept is not None:
            return kept
        parameters, headers = {"Bucket": self._bucket, "Key": key}, {}
        if version.version_id is not None:
            parameters["VersionId"] = version.version_id
        elif with_headers:
            parameters["IfMatch"] = headers["If-Match"] = version.etag
        now, lifetime = time.monotonic(), self.lifetime()
        signed = SignedUrl(self._url(parameters, lifetime), headers)
        until, size = now + lifetime * _SHARE_HANDED_OUT, bytes_of((key, version, signed))
        self._kept.keep((key, version, with_headers), signed, until, size=size)
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
        """Seconds for which a URL signed now is good."""
        credentials = self._credentials
        if not isinstance(credentials, RefreshableCredentials):
            return self._expires
        try:
            credentials.get_frozen_credentials()
        except _FAULTS as error:
            raise self._fault(error) from error
        # They tell only whether so many seconds are left.
        seconds = range(1, self._expires + 1)
        return max(1, bisect_left(seconds, True, key=lambda left: credentials.refresh_needed(refresh_in=left)))

    def _fault(self, error: Exception) -> StorageError:
        is_passing = False
        if isinstance(error, RuntimeError):
            reason = EXPIRED_CREDENTIALS
        elif isinstance(error, (NoCredentialsError, PartialCredentialsError)):
            reason = NO_CREDENTIALS
        else:
            reason, is_passing = "this server's credentials for the storage {} cannot be renewed now", True
        return StorageError(reason.format(repr(self._storage)), is_passing=is_passing, detail=type(error).__name__)
