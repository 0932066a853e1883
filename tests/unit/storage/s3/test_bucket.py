"""A bucket's objects, from the responses of a client that makes no requests."""

import io
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest

from htsget_flask.errors import StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage.s3.bucket import Bucket, Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ClientWithoutETags:
    """Responses as those of a gateway for files that were not written through it."""

    def __init__(self) -> None:
        self.body = io.BytesIO(b"data")

    def head_object(self, **_: Any) -> dict[str, Any]:
        return {"ContentLength": 4, "LastModified": datetime.now(timezone.utc)}

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"ContentLength": 4, "Body": self.body}

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        entry = {"Key": "a.bam", "Size": 4, "LastModified": datetime.now(timezone.utc)}
        return {"Contents": [entry], "IsTruncated": False}


def test_objects_without_an_etag_are_listed_and_cannot_be_read() -> None:
    client = ClientWithoutETags()
    bucket = Bucket(cast("S3Client", client), "bucket", storage="lab", max_attempts=1, revalidate=0)
    assert bucket.batch("", limit=10).objects["a.bam"].size == 4
    with pytest.raises(StorageError, match="'lab' has no ETag"):
        bucket.head("a.bam")
    version = Object(4, 0.0, '"etag"', None)
    with pytest.raises(StorageError, match="'lab' has no ETag"):
        list(bucket.stream("a.bam", version, ByteRange(0, 4), on_response=lambda _: None))
    assert client.body.closed
