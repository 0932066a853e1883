"""Reference sequences in a bucket, from a store and from FASTA files of any layout."""

from collections.abc import Iterator

import pytest

from htsget_flask.commands.check.report import check_sources
from htsget_flask.config import Config
from htsget_flask.services import create_services
from tests.support.faulty import FaultyProxy, faulty_proxy
from tests.support.live.buckets import STORAGE, BucketHttp, application, is_elsewhere, request_kind, settings
from tests.support.s3 import S3Server
from tests.support.sequences import Expected, expected, fasta, run_ingest, some_letters, write_compressed

pytestmark = pytest.mark.live

LETTERS = {"one": some_letters("one", 700_001), "two": some_letters("two", 40)}
ONE: Expected = expected(LETTERS["one"])


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bucket with a FASTA file, a compressed one, and a store of the same sequences."""
    folder = tmp_path_factory.mktemp("bucket")
    path = folder / "plain.fa"
    path.write_bytes(fasta(LETTERS))
    write_compressed(folder / "compressed.fa.gz", fasta(LETTERS))
    run_ingest(path, folder / "refget", tmp_path_factory.mktemp("cache"))
    bucket = s3_server.create_bucket()
    s3_server.put_folder(bucket, folder)
    return bucket


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_server.endpoint) as proxy:
        yield proxy


STORE = {"store": {"storage": STORAGE, "prefix": "refget/"}}
FILES = {"plain": "plain.fa", "compressed": "compressed.fa.gz"}


def check_parts(http: BucketHttp) -> None:
    """Fetch parts at the start, in the middle and at the end, and compare them."""
    path = f"/sequence/{ONE.md5}"
    for start, end in ((0, 10), (123_456, 123_999), (100_000, 400_000), (700_000, 700_001)):
        answer = http.get(f"{path}?start={start}&end={end}")
        assert (answer.status, answer.body) == (200, ONE.letters[start:end])
        answer = http.get(path, {"Range": f"bytes={start}-{end - 1}"})
        assert (answer.status, answer.body) == (206, ONE.letters[start:end])


class TestAStore:
    def test_a_whole_sequence_is_fetched_from_the_bucket(self, s3_server: S3Server, bucket: str) -> None:
        http = application(s3_server, bucket, refget=STORE)
        answer = http.get(f"/sequence/{ONE.md5}")
        assert answer.status in (302, 307)
        assert is_elsewhere(answer.headers["location"])
        whole = http.get(answer.headers["location"])
        assert (whole.status, whole.body) == (200, ONE.letters)

    def test_parts_are_fetched_alone(self, s3_server: S3Server, bucket: str, proxy: FaultyProxy) -> None:
        http = application(s3_server, bucket, endpoint=proxy.url, refget=STORE)
        check_parts(http)
        proxy.clear()
        answer = http.get(f"/sequence/{ONE.md5}?start=200000&end=201000")
        assert (answer.status, answer.body) == (200, ONE.letters[200_000:201_000])
        requests = [request for request in proxy.requests if request_kind(request) == f"GET {ONE.md5[4:]}"]
        assert len(requests) == 1
        first, last = map(int, requests[0].headers["range"].removeprefix("bytes=").split("-"))
        assert last - first < 100_000

    def test_only_the_first_part_needs_a_head_request(
        self, s3_server: S3Server, bucket: str, proxy: FaultyProxy
    ) -> None:
        http = application(s3_server, bucket, endpoint=proxy.url, refget=STORE)
        path = f"/sequence/{ONE.md5}"
        assert http.get(f"{path}?start=5&end=10").status == 200
        for method, query, requests in (("GET", "?start=7&end=99", 1), ("HEAD", "", 0)):
            proxy.clear()
            assert http.request(method, path + query).status == 200
            assert [request_kind(request) for request in proxy.requests] == [f"GET {ONE.md5[4:]}"] * requests

    @pytest.mark.parametrize("is_proxied", [False, True], ids=["presigned", "proxied"])
    def test_an_incomplete_object_is_a_fault_until_it_is_repaired(
        self, s3_server: S3Server, bucket: str, is_proxied: bool
    ) -> None:
        key = f"refget/{ONE.md5[:2]}/{ONE.md5[2:4]}/{ONE.md5[4:]}"
        path = f"/sequence/{ONE.md5}"
        try:
            s3_server.put(bucket, key, ONE.letters[:-1])
            http = application(s3_server, bucket, storage={"proxy": is_proxied}, refget=STORE)
            for method, query in (("GET", ""), ("HEAD", ""), ("GET", "?start=5&end=10")):
                answer = http.request(method, path + query)
                assert answer.status == 500
                assert method == "HEAD" or b"a sequence of the store is incomplete" in answer.body
        finally:
            s3_server.put(bucket, key, ONE.letters)
        assert http.get(f"{path}?start=5&end=10").body == ONE.letters[5:10]
        assert http.request("HEAD", path).status == 200
        assert http.get(path).status == (200 if is_proxied else 302)

    def test_a_replaced_object_is_checked_again(self, s3_server: S3Server, bucket: str) -> None:
        http = application(s3_server, bucket, refget=STORE)
        two = expected(LETTERS["two"])
        key = f"refget/{two.md5[:2]}/{two.md5[2:4]}/{two.md5[4:]}"
        assert http.get(f"/sequence/{two.md5}?start=5&end=10").status == 200
        try:
            s3_server.put(bucket, key, two.letters[::-1])
            answer = http.get(f"/sequence/{two.md5}?start=5&end=10")
        finally:
            s3_server.put(bucket, key, two.letters)
        assert (answer.status, answer.body) == (200, two.letters[::-1][5:10])

    def test_everything_comes_through_a_proxying_server(self, s3_server: S3Server, bucket: str) -> None:
        http = application(s3_server, bucket, storage={"proxy": True}, refget=STORE)
        answer = http.get(f"/sequence/{ONE.md5}")
        assert (answer.status, answer.body) == (200, ONE.letters)
        check_parts(http)


class TestCheckOfAStore:
    def test_by_one_list(
        self, s3_server: S3Server, bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in s3_server.environment().items():
            monkeypatch.setenv(name, value)
        services = create_services(Config.model_validate(settings(proxy.url, bucket, refget=STORE)))
        proxy.clear()
        (report,) = check_sources(services.sequences)
        assert report == (f"s3://{bucket}/refget/", 2, [], False, False)
        assert sorted(map(request_kind, proxy.requests)) == ["GET refget.tsv", "HEAD refget.tsv", "LIST"]
        two = expected(LETTERS["two"])
        key = f"refget/{two.md5[:2]}/{two.md5[2:4]}/{two.md5[4:]}"
        try:
            s3_server.put(bucket, key, b"A")
            (report,) = check_sources(services.sequences)
        finally:
            s3_server.put(bucket, key, two.letters)
        assert report.is_broken
        assert report.faults == [f"sequences of its list are missing or incomplete: {two.md5}"]


class TestAFastaFile:
    @pytest.mark.parametrize("layout", FILES)
    def test_is_served_whole_and_in_part(self, s3_server: S3Server, bucket: str, layout: str) -> None:
        fastas = [{"storage": STORAGE, "key": FILES[layout]}]
        http = application(s3_server, bucket, refget={"fastas": fastas})
        answer = http.get(f"/sequence/{ONE.ga4gh}")
        assert (answer.status, answer.body) == (200, ONE.letters)
        check_parts(http)
        assert http.get(f"/sequence/{'0' * 32}").status == 404
