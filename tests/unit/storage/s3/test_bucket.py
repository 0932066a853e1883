"""A bucket's objects, from the responses of a client that makes no requests."""

from collections.abc import Mapping

import pytest
from botocore.awsrequest import AWSPreparedRequest

from htsget_flask.errors import StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage.s3.bucket import Bucket, Object
from tests.support.s3_client import FakeHttp, fake_client

DATE = "2026-01-01T00:00:00.000Z"


def answer_without_etag(request: AWSPreparedRequest) -> tuple[int, Mapping[str, str], bytes]:
    """As a gateway answers for files that were not written through it."""
    if "list-type" in request.url:
        entry = f"<Contents><Key>a.bam</Key><Size>4</Size><LastModified>{DATE}</LastModified></Contents>"
        return 200, {}, f"<ListBucketResult>{entry}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
    fields = {"Content-Length": "4", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    return 200, fields, b"" if request.method == "HEAD" else b"data"


def test_objects_without_an_etag_are_listed_and_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    http = FakeHttp(answer_without_etag)
    bucket = Bucket(*fake_client(http, monkeypatch), "bucket", storage="lab", max_attempts=1, revalidate=0)
    assert bucket.batch("", limit=10).objects["a.bam"].size == 4
    with pytest.raises(StorageError, match="'lab' has no ETag"):
        bucket.head("a.bam")
    version = Object(4, 0.0, '"etag"', None)
    with pytest.raises(StorageError, match="'lab' has no ETag"):
        list(bucket.stream("a.bam", version, ByteRange(0, 4), on_response=lambda _: None))
    assert [request.method for request in http.requests] == ["GET", "HEAD", "GET"]
    assert http.bodies[-1].closed
