"""An S3 storage without a server: which requests it makes of its bucket."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import cast

import pytest

from htsget_flask.errors import StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import SignedUrl
from htsget_flask.storage.s3.bucket import Batch, Bucket, Object
from htsget_flask.storage.s3.presigned import Presigner
from htsget_flask.storage.s3.storage import S3Storage

KEY = "a.bam"


class FakeBucket:
    """One object; `requests` are the methods that were called."""

    name = storage = "bucket"

    def __init__(self, *, version_id: str, is_archived: bool = False) -> None:
        self.object = Object(4, 0.0, '"etag"', version_id, is_archived)
        self.requests: list[str] = []

    def head(self, key: str) -> Object:
        self.requests.append("head")
        return self.object

    def batch(self, prefix: str, *, limit: int) -> Batch:
        self.requests.append("list")
        is_archived = None if self.object.is_archived else False
        return Batch({KEY: self.object._replace(version_id=None, is_archived=is_archived)}, is_complete=True)

    def stream(
        self, key: str, version: Object, span: ByteRange, *, on_response: Callable[[Object], None]
    ) -> Iterator[bytes]:
        self.requests.append("get")
        on_response(version._replace(version_id=self.object.version_id))
        yield b"data"[span.start : span.end]


class FakePresigner:
    """URLs that show what was signed."""

    def sign(self, key: str, version: Object, *, pinned: bool) -> SignedUrl:
        return SignedUrl(f"{key}?{version.version_id}&{pinned}", {})


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def storage_of(bucket: FakeBucket, executor: Executor) -> S3Storage:
    """A storage of the bucket that signs URLs and remembers versions for a minute."""
    presigner = cast(Presigner, FakePresigner())
    return S3Storage(cast(Bucket, bucket), "", presigner=presigner, executor=executor, revalidate=60)


@pytest.mark.parametrize("version_id", ["some-id", ""])
class TestSignedUrlNeedsNoReadBefore:
    def test_the_id_is_requested_where_a_listing_did_not_report_it(self, version_id: str, executor: Executor) -> None:
        bucket = FakeBucket(version_id=version_id)
        storage = storage_of(bucket, executor)
        stat = storage.stat(KEY, max_age=60, sibling_prefix="a.")
        for _ in range(3):
            assert storage.signed_url(KEY, stat) == (f"{KEY}?{version_id}&True", {})
        assert bucket.requests == ["list", "head"]

    def test_no_request_after_a_read(self, version_id: str, executor: Executor) -> None:
        bucket = FakeBucket(version_id=version_id)
        storage = storage_of(bucket, executor)
        stat = storage.stat(KEY, max_age=60, sibling_prefix="a.")
        with storage.open(KEY, etag=stat.etag) as file:
            assert file.read() == b"data"
        assert storage.signed_url(KEY, stat) == (f"{KEY}?{version_id}&True", {})
        assert bucket.requests == ["list", "get"]

    def test_no_request_after_a_lookup(self, version_id: str, executor: Executor) -> None:
        bucket = FakeBucket(version_id=version_id)
        storage = storage_of(bucket, executor)
        storage.signed_url(KEY, storage.stat(KEY))
        assert bucket.requests == ["head"]

    def test_the_id_outlives_a_new_listing(self, version_id: str, executor: Executor) -> None:
        bucket = FakeBucket(version_id=version_id)
        storage = storage_of(bucket, executor)
        storage.signed_url(KEY, storage.stat(KEY))
        stat = storage.stat(KEY, sibling_prefix="a.")
        assert storage.signed_url(KEY, stat) == (f"{KEY}?{version_id}&True", {})
        assert bucket.requests == ["head", "list"]


class TestUnpinnedUrls:
    def test_need_no_id(self, executor: Executor) -> None:
        bucket = FakeBucket(version_id="some-id")
        storage = storage_of(bucket, executor)
        stat = storage.stat(KEY, max_age=60, sibling_prefix="a.")
        assert storage.signed_url(KEY, stat, pinned=False) == (f"{KEY}?None&False", {})
        assert bucket.requests == ["list"]


@pytest.mark.parametrize("pinned", [True, False])
def test_archived_objects_have_no_urls(executor: Executor, pinned: bool) -> None:
    bucket = FakeBucket(version_id="", is_archived=True)
    storage = storage_of(bucket, executor)
    stat = storage.stat(KEY, max_age=60, sibling_prefix="a.")
    with pytest.raises(StorageError, match="archive"):
        storage.signed_url(KEY, stat, pinned=pinned)
    assert bucket.requests == ["list", "head"]
