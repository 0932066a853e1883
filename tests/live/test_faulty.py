"""The faulty proxy of the tests: it injects exactly the faults of its rules."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.support.client import LiveHttp
from tests.support.faulty import (
    NO_SUCH_KEY,
    SLOW_DOWN,
    UNAVAILABLE,
    Close,
    Cut,
    Fault,
    FaultyProxy,
    Garbage,
    IgnoreRange,
    Request,
    Stall,
    StallInBody,
    Truncate,
    always,
    at_random,
    faulty_proxy,
    next_ones,
)
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.live, pytest.mark.parametrize("s3_server", ["rclone"], indirect=True)]

DATA = bytes(range(256)) * 4096


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy in front of the S3 server."""
    threads = threading.active_count()
    with faulty_proxy(s3_server.endpoint) as proxy:
        yield proxy
    assert threading.active_count() == threads


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    """A bucket with one object of 1 MiB."""
    return s3_server.create_bucket({"a b/ü.bin": DATA})


class Read(Protocol):
    """Reads bytes 10 to 299,999 of the object through the proxy, without retries."""

    def __call__(self, *, timeout: float = 10) -> bytes:
        """The bytes; `timeout` is in seconds without data."""
        ...


@pytest.fixture
def read(s3_server: S3Server, bucket: str, proxy: FaultyProxy) -> Iterator[Read]:
    """Reads from the object."""
    with ExitStack() as stack:

        @cache
        def client(timeout: float) -> "S3Client":
            client = s3_server.client(endpoint=proxy.url, read_timeout=timeout)
            stack.callback(client.close)
            return client

        def read(*, timeout: float = 10) -> bytes:
            answer = client(timeout).get_object(Bucket=bucket, Key="a b/ü.bin", Range="bytes=10-299999")
            return answer["Body"].read()

        yield read


def is_get(request: Request) -> bool:
    """Whether a request is one of `read`."""
    return request.method == "GET"


class TestRequestsWithoutAFaultPassUnchanged:
    def test_in_both_directions(self, s3_server: S3Server, bucket: str, proxy: FaultyProxy) -> None:
        client = s3_server.client(endpoint=proxy.url)
        client.put_object(Bucket=bucket, Key="b", Body=DATA)
        assert client.get_object(Bucket=bucket, Key="b")["Body"].read() == DATA
        assert client.head_object(Bucket=bucket, Key="b")["ContentLength"] == len(DATA)
        assert client.list_objects_v2(Bucket=bucket, Prefix="b")["KeyCount"] == 1
        with pytest.raises(ClientError):
            client.head_object(Bucket=bucket, Key="none")
        client.delete_object(Bucket=bucket, Key="b")
        client.close()
        requests = proxy.requests
        assert [request.method for request in requests] == ["PUT", "GET", "HEAD", "GET", "HEAD", "DELETE"]
        assert requests[1].target == f"/{bucket}/b" and requests[1].headers["authorization"].startswith("AWS4-")
        assert [request.time for request in requests] == sorted(request.time for request in requests)
        proxy.clear()
        assert proxy.requests == []

    def test_presigned_urls_over_one_connection(self, s3_server: S3Server, bucket: str, proxy: FaultyProxy) -> None:
        client = s3_server.client(endpoint=proxy.url)
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b/ü.bin"})
        target = url.removeprefix(proxy.url)
        connection = HTTPConnection(urlsplit(proxy.url).netloc, timeout=10)
        for first in (0, 1000, 1_048_000):
            connection.request("GET", target, headers={"Range": f"bytes={first}-{first + 99}"})
            assert connection.getresponse().read() == DATA[first : first + 100]
            socket = connection.sock
        assert connection.sock is socket
        connection.close()
        assert [request.target for request in proxy.requests] == [target] * 3

    def test_for_many_threads_at_once(self, proxy: FaultyProxy, read: Read) -> None:
        with ThreadPoolExecutor(16) as executor:
            assert set(executor.map(lambda _: read(), range(64))) == {DATA[10:300_000]}
        assert len(proxy.requests) == 64

    def test_later_with_latency(self, proxy: FaultyProxy, read: Read) -> None:
        proxy.latency = 0.1
        read()
        read()
        first, second = proxy.requests
        assert second.time - first.time >= 0.1


class TestTheRulesDecideOnFaults:
    def test_for_the_next_requests(self, proxy: FaultyProxy, read: Read) -> None:
        proxy.rules = [next_ones(SLOW_DOWN, NO_SUCH_KEY, when=is_get)]
        for status, code in ((503, "SlowDown"), (404, "NoSuchKey")):
            with pytest.raises(ClientError) as caught:
                read()
            response = caught.value.response
            assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (status, code)
        assert read() == DATA[10:300_000]
        assert (len(proxy.requests), proxy.faults) == (3, 2)

    def test_for_matching_requests(self, s3_server: S3Server, bucket: str, proxy: FaultyProxy, read: Read) -> None:
        proxy.rules = [always(SLOW_DOWN, when=lambda request: request.method == "HEAD")]
        assert read() == DATA[10:300_000]
        client = s3_server.client(endpoint=proxy.url)
        with pytest.raises(ClientError) as caught:
            client.head_object(Bucket=bucket, Key="a b/ü.bin")
        assert caught.value.response["Error"]["Code"] == "503"
        client.close()

    def test_at_random_by_the_seed(self, proxy: FaultyProxy, read: Read) -> None:
        def successes() -> list[bool]:
            proxy.rules = [at_random(0.3, [UNAVAILABLE], seed=1)]
            results = []
            for _ in range(20):
                try:
                    results.append(read() == DATA[10:300_000])
                except ClientError:
                    results.append(False)
            return results

        results = successes()
        assert 2 < results.count(False) < 12
        assert successes() == results


class TestEachFaultMatchesItsDescription:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Close(), ConnectionClosedError),
            (Garbage(), HTTPClientError),
            (Stall(), ReadTimeoutError),
            (Cut(1000), BotoCoreError),
            (Truncate(1000), ResponseStreamingError),
            (StallInBody(1000), BotoCoreError),
        ],
        ids=lambda value: type(value).__name__ if not isinstance(value, type) else "",
    )
    def test_to_boto3(self, proxy: FaultyProxy, read: Read, fault: Fault, error: type[Exception]) -> None:
        proxy.rules = [next_ones(fault)]
        with pytest.raises(error):
            read(timeout=0.5 if isinstance(fault, Stall | StallInBody) else 10)
        assert read() == DATA[10:300_000]

    def test_a_part_of_a_cut_body_arrives(self, s3_server: S3Server, bucket: str, proxy: FaultyProxy) -> None:
        params = {"Bucket": bucket, "Key": "a b/ü.bin"}
        client = s3_server.client(endpoint=proxy.url)
        url = client.generate_presigned_url("get_object", Params=params)
        client.close()
        http = LiveHttp(proxy.url)
        proxy.rules = [next_ones(Truncate(500_000), Cut(500_000), Close(), Truncate(500_000, announced=False))]
        with pytest.raises(IncompleteRead) as caught:
            http.get(url)
        assert caught.value.partial == DATA[:500_000]
        with pytest.raises(ConnectionResetError):
            http.get(url)
        with pytest.raises(RemoteDisconnected):
            http.get(url)
        answer = http.get(url)
        assert (answer.status, answer.body) == (200, DATA[:500_000])
        assert "content-length" not in answer.headers

    def test_a_range_returns_the_whole_object(
        self, s3_server: S3Server, bucket: str, proxy: FaultyProxy, read: Read
    ) -> None:
        etag = s3_server.owner.head_object(Bucket=bucket, Key="a b/ü.bin")["ETag"]
        proxy.rules = [next_ones(IgnoreRange(DATA))]
        client = s3_server.client(endpoint=proxy.url)
        answer = client.get_object(Bucket=bucket, Key="a b/ü.bin", Range="bytes=10-19")
        assert (answer["Body"].read(), answer["ETag"]) == (DATA, etag)
        assert not answer.get("ContentRange")
        client.close()

    def test_the_proxy_ends_while_clients_wait(self, s3_server: S3Server) -> None:
        with faulty_proxy(s3_server.endpoint) as proxy:
            proxy.rules = [always(Stall())]
            connection = HTTPConnection(urlsplit(proxy.url).netloc, timeout=30)
            connection.request("GET", "/")
        with pytest.raises(ConnectionError):
            connection.getresponse()
        connection.close()
