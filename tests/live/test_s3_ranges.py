"""Ranges of objects: the pages that stay in memory, the proxies of the environment, and connections."""

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.formats.table import FORMATS
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import Storage, VersionError
from htsget_flask.storage.s3.bucket import Bucket
from htsget_flask.storage.s3.storage import S3Storage
from tests.support.faulty import FaultyProxy
from tests.support.live.buckets import application
from tests.support.live.server import wait_until
from tests.support.s3 import OWNER, S3Server

pytestmark = pytest.mark.live

DATA = random.Random(7).randbytes(12_345_678)
WINDOW = 165_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def bucket(versitygw: S3Server) -> str:
    return versitygw.create_bucket({"a.bam": DATA})


@pytest.fixture
def storage(versitygw: S3Server, proxy: FaultyProxy, bucket: str, executor: Executor) -> Storage:
    client = versitygw.client(endpoint=proxy.url)
    credentials = Credentials(OWNER.access_key, OWNER.secret_key)
    objects = Bucket(client, credentials, bucket, storage="cohort", max_attempts=1, revalidate=60)
    return S3Storage(objects, "", presigner=None, executor=executor, revalidate=60)


Open = Callable[[], OpenFile]


@pytest.fixture
def open_file(storage: Storage) -> Open:
    """Opens the object as the storage remembers it, each time with the same cache."""
    source = Source("a", FORMATS["BAM"], "cohort", storage, "a.bam", None, None)
    cache = ByteCache(64 * MIB)
    return lambda: OpenFile(DataFile(source, source.stat("a.bam", fresh=False)), cache, None)


class TestPages:
    def test_neighbouring_windows_take_few_requests(self, open_file: Open, proxy: FaultyProxy) -> None:
        open_file()
        proxy.clear()
        for start in range(0, len(DATA), WINDOW):
            with open_file() as file:
                file.pages.seek(start)
                is_equal = file.pages.read(WINDOW) == DATA[start : start + WINDOW]
                assert is_equal
        assert len(proxy.requests) == -(-len(DATA) // MIB)

    def test_announced_ones_are_requested_once(self, open_file: Open, proxy: FaultyProxy) -> None:
        starts = (5, 3 * MIB + 5, 9 * MIB + 5)
        with open_file() as file:
            proxy.clear()
            file.pages.prefetch([ByteRange(start, start + WINDOW) for start in starts])
            for start in starts:
                file.pages.seek(start)
                assert file.pages.read(WINDOW) == DATA[start : start + WINDOW]
        ranges = {request.headers["range"] for request in proxy.requests}
        assert ranges == {f"bytes={start}-{start + MIB - 1}" for start in (0, 3 * MIB, 9 * MIB)}
        assert len(proxy.requests) == 3

    def test_a_replaced_object_has_no_more_pages(self, open_file: Open, versitygw: S3Server, bucket: str) -> None:
        with open_file() as file:
            assert file.pages.read(10) == DATA[:10]
            versitygw.put(bucket, "a.bam", DATA[::-1])
            file.pages.seek(5 * MIB)
            with pytest.raises(VersionError):
                file.pages.read(10)


def test_requests_pass_the_proxy_of_the_environment(
    versitygw: S3Server, proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    http = application(versitygw, bucket, endpoint="http://s3.example:9000", storage={"proxy": True})
    proxy.clear()
    answer = http.get("/files/cohort/a.bam", {"Range": "bytes=100-299"})
    assert (answer.status, answer.body) == (206, DATA[100:300])
    (request,) = [request for request in proxy.requests if request.method == "GET"]
    assert request.target == f"http://s3.example:9000/{bucket}/a.bam"
    assert request.headers["host"] == "s3.example:9000"
    # It is not one of boto3's.
    assert "amz-sdk-request" not in request.headers


def test_connections_are_used_again_or_closed(storage: Storage) -> None:
    with storage.open("a.bam") as file:
        assert file.read(100) == DATA[:100]
        used = _count_sockets()
        for start in range(0, 10 * MIB, MIB):
            file.seek(start)
            assert file.read(100) == DATA[start : start + 100]
        assert _count_sockets() <= used
    for _ in range(5):
        stream = storage.open("a.bam").stream(ByteRange(0, len(DATA)))
        assert next(stream)[:100] == DATA[:100]
        del stream
    # The proxy's ends of the connections are open a little longer.
    assert wait_until(lambda: _count_sockets() <= used, seconds=10)


def _count_sockets() -> int:
    """The number of this process's open sockets."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(os.readlink(entry))
    return sum(link.startswith("socket:") for link in links)
