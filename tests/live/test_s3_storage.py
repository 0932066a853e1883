"""The S3 storage fulfils the contract of all storages, with real servers."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from botocore.credentials import Credentials

from htsget_flask.storage import Storage
from htsget_flask.storage.s3.bucket import Bucket
from htsget_flask.storage.s3.storage import S3Storage
from tests.support.contract import StorageContract
from tests.support.s3 import OWNER, S3Server

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return s3_server.create_bucket()


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage_prefix(self) -> str:
        return f"a folder/é/{uuid.uuid4().hex}/"

    @pytest.fixture
    def storage(self, s3_server: S3Server, bucket: str, storage_prefix: str, executor: Executor) -> Storage:
        credentials = Credentials(OWNER.access_key, OWNER.secret_key)
        objects = Bucket(s3_server.owner, credentials, bucket, storage="cohort", max_attempts=1, revalidate=0)
        return S3Storage(objects, storage_prefix, presigner=None, executor=executor, revalidate=0)

    @pytest.fixture
    def put(self, s3_server: S3Server, bucket: str, storage_prefix: str) -> Callable[[str, bytes], None]:
        return lambda key, content: s3_server.put(bucket, storage_prefix + key, content)

    @pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
    def test_a_folder_with_only_its_own_key_is_empty(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        put("folder/", b"")
        assert list(storage.children()) == [("folder/", None)]
        assert list(storage.children("folder/")) == []
        put("folder/a", b"1")
        assert [child.key for child in storage.children("folder/")] == ["folder/a"]

    def test_a_large_folder_is_listed_in_steps(
        self, storage: Storage, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("htsget_flask.storage.s3.storage._MAX_LISTED", 2)
        names = ["a/", "b", "c/", "d/", "e", "f", "g/"]
        for name in names:
            put(f"{name}file" if name.endswith("/") else name, b"1")
        assert [child.key for child in storage.children()] == names
        assert [child.key for child in storage.children(after="b")] == names[2:]
        assert [child.key for child in storage.children(after="c/file")] == names[2:]
