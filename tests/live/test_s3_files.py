"""Plain files of a bucket: redirected to presigned URLs, or through this server; and igv.js that reads both."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.live.test_page import reads, variants
from tests.support.client import Response
from tests.support.faulty import FaultyProxy, faulty_proxy
from tests.support.live.browser import elsewhere, igv_js_file, visit
from tests.support.live.buckets import BucketHttp, application, kind, serving_bucket
from tests.support.live.server import Server, wait_until
from tests.support.live.wire import ORIGIN
from tests.support.range_cases import CASES, Case, case_id, check_case
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef
    from playwright.sync_api import Browser

pytestmark = pytest.mark.live

MIB = 1 << 20
NAME, START, END = "chr1", 30_000, 50_000
# A redirection to another origin makes browsers send `Origin: null`, which only "*" allows.
RULE: "CORSRuleTypeDef" = {
    "AllowedOrigins": ["*"],
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["Content-Range", "Content-Length", "Accept-Ranges", "ETag"],
    "MaxAgeSeconds": 3600,
}
ODD = "sub folder/a b#%?é+&=.bam"


@pytest.fixture(scope="module")
def proxy(versitygw: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(versitygw.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bucket(versitygw: S3Server, demo_folder: Path, big_folder: Path) -> str:
    """The example data, an odd name, and a large file."""
    bucket = versitygw.create_bucket()
    versitygw.put_folder(bucket, demo_folder)
    versitygw.put(bucket, ODD, demo_folder / "NA00001.bam")
    versitygw.put(bucket, "big.bam", big_folder / "big.bam")
    versitygw.put(bucket, ".hidden", b"hidden")
    versitygw.put(bucket, "empty.txt", b"")
    versitygw.owner.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [RULE]})
    return bucket


@pytest.fixture(scope="module")
def redirecting(versitygw: S3Server, bucket: str) -> BucketHttp:
    return application(versitygw, bucket)


@pytest.fixture(scope="module")
def proxying(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> BucketHttp:
    return application(versitygw, bucket, endpoint=proxy.url, storage={"proxy": True})


def url(key: str) -> str:
    quoted = key.replace("%", "%25").replace(" ", "%20").replace("#", "%23").replace("?", "%3F").replace("é", "%C3%A9")
    return f"/files/cohort/{quoted}"


def head(http: BucketHttp, path: str, headers: dict[str, str] | None = None) -> Response:
    with http.client.head(path, headers=headers) as answer:
        fields = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, fields, answer.get_data())


@pytest.fixture(scope="module")
def dated(proxying: BucketHttp) -> str:
    """The date of an object, once its second is over: only then is it a validator."""
    assert wait_until(lambda: "last-modified" in head(proxying, url("NA00001.bam")).headers)
    return head(proxying, url("NA00001.bam")).headers["last-modified"]


class TestFilesAreRedirected:
    @pytest.mark.parametrize("key", ["NA00001.bam", ODD])
    def test_to_a_url_that_serves_ranges(self, redirecting: BucketHttp, demo_folder: Path, key: str) -> None:
        content = (demo_folder / "NA00001.bam").read_bytes()
        answer = redirecting.get(url(key), {"Range": "bytes=5-9", "Origin": ORIGIN})
        assert (answer.status, answer.body) == (307, b"")
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["cache-control"] == "no-store"
        location = answer.headers["location"]
        is_equal = redirecting.get(location).body == content
        assert is_equal
        for asked, part in (
            ("bytes=5-9", content[5:10]),
            ("bytes=-9", content[-9:]),
            ("bytes=1000000-1999999", content[1_000_000:2_000_000]),
        ):
            found = redirecting.get(location, {"Range": asked})
            assert found.status == 206
            assert found.headers["content-range"].endswith(f"/{len(content)}")
            is_equal = found.body == part
            assert is_equal
        assert redirecting.get(location, {"Range": "bytes=99999999-"}).status == 416
        assert redirecting.get(location, {"If-Match": '"other"'}).status == 412

    def test_but_head_is_answered(self, redirecting: BucketHttp, demo_folder: Path) -> None:
        answer = head(redirecting, url("NA00001.bam"))
        assert answer.status == 200
        assert answer.headers["content-length"] == str((demo_folder / "NA00001.bam").stat().st_size)
        assert answer.headers["accept-ranges"] == "bytes"
        there = redirecting.get(redirecting.get(url("NA00001.bam")).headers["location"], {"Range": "bytes=0-0"})
        assert answer.headers["etag"] == there.headers["etag"]
        assert answer.headers.get("last-modified", there.headers["last-modified"]) == there.headers["last-modified"]
        assert head(redirecting, url("NA00001.bam"), {"If-None-Match": answer.headers["etag"]}).status == 304
        assert head(redirecting, url("NA00001.bam"), {"If-Match": '"other"'}).status == 412

    def test_and_what_is_absent_or_hidden_is_not(self, redirecting: BucketHttp, proxying: BucketHttp) -> None:
        for key in ("none", "NA00001.bam/", "NA00001", "../NA00001.bam", ".hidden", "%2e%2e/x", "none/", "sub%20folde"):
            for http in (redirecting, proxying):
                assert http.get(f"/files/cohort/{key}").status == 404
                assert head(http, f"/files/cohort/{key}").status == 404

    def test_a_folder_is_redirected_to_its_page(self, redirecting: BucketHttp, proxying: BucketHttp) -> None:
        for http in (redirecting, proxying):
            answer = http.get("/files/cohort/sub%20folder")
            assert (answer.status, answer.headers["location"]) == (301, "sub%20folder/")
            assert b'href="a%20b%23%25%3F' in http.get("/files/cohort/sub%20folder/").body


class TestFilesComeThroughThisServer:
    @pytest.mark.parametrize("key", ["NA00001.bam", ODD])
    def test_whole_and_in_ranges(self, proxying: BucketHttp, demo_folder: Path, key: str) -> None:
        content = (demo_folder / "NA00001.bam").read_bytes()
        whole = proxying.get(url(key))
        assert (whole.status, whole.headers["content-length"]) == (200, str(len(content)))
        is_equal = whole.body == content
        assert is_equal
        for start, end in (
            (0, 1),
            (5, 10),
            (len(content) - 9, len(content)),
            (1_000_000, 4_000_001),
            (0, len(content)),
        ):
            answer = proxying.get(url(key), {"Range": f"bytes={start}-{end - 1}"})
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"
            is_equal = answer.body == content[start:end]
            assert is_equal

    def test_by_one_request_for_what_is_asked(self, proxying: BucketHttp, proxy: FaultyProxy) -> None:
        head(proxying, url("NA00001.bam"))
        proxy.clear()
        proxying.get(url("NA00001.bam"), {"Range": "bytes=1000-2500999"})
        (request,) = proxy.requests
        assert (kind(request), request.headers["range"]) == ("GET NA00001.bam", "bytes=1000-2500999")

    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_ranges_and_preconditions(
        self, proxying: BucketHttp, demo_folder: Path, proxy: FaultyProxy, dated: str, case: Case
    ) -> None:
        path, content = url("NA00001.bam"), (demo_folder / "NA00001.bam").read_bytes()
        etag = head(proxying, path).headers["etag"]
        proxy.clear()
        answer = check_case(case, proxying, path, content, etag=etag, last_modified=dated)
        # Only a body is fetched, by one request.
        fetched = [request for request in proxy.requests if kind(request).startswith("GET")]
        assert len(fetched) == (answer.status in (200, 206))

    def test_also_when_they_are_empty(self, proxying: BucketHttp) -> None:
        answer = proxying.get(url("empty.txt"))
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")

    def test_in_their_new_version_when_they_are_replaced(
        self, versitygw: S3Server, bucket: str, proxying: BucketHttp
    ) -> None:
        versitygw.put(bucket, "replaced", b"old" * 100_000)
        assert proxying.get(url("replaced")).body == b"old" * 100_000
        versitygw.put(bucket, "replaced", b"new one" * 100_000)
        is_equal = proxying.get(url("replaced")).body == b"new one" * 100_000
        assert is_equal
        versitygw.owner.delete_object(Bucket=bucket, Key="replaced")
        assert proxying.get(url("replaced")).status == 404


@pytest.fixture(scope="module")
def live(
    versitygw: S3Server, bucket: str, proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A live server that delivers all bytes itself."""
    folder = tmp_path_factory.mktemp("live")
    settings = {"igv_js": str(igv_js_file())}
    with serving_bucket(
        versitygw, bucket, folder, endpoint=proxy.url, storage={"proxy": True}, browser=settings
    ) as server:
        yield server


@pytest.fixture(scope="module")
def signing(versitygw: S3Server, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A live server that sends clients to the bucket."""
    folder = tmp_path_factory.mktemp("signing")
    with serving_bucket(versitygw, bucket, folder, browser={"igv_js": str(igv_js_file())}) as server:
        yield server


def connection_to(server: Server) -> socket.socket:
    """A connection whose buffers take little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.settimeout(20)
    connection.connect((server.host, server.port))
    return connection


def resident(server: Server) -> int:
    """The most memory that a worker ever had, in bytes."""
    lines = [
        line
        for worker in server.workers()
        for line in Path(f"/proc/{worker}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return max(int(line.split()[1]) << 10 for line in lines)


class TestALargeFileIsStreamed:
    def test_only_as_far_as_the_client_reads(self, live: Server, proxy: FaultyProxy, big_folder: Path) -> None:
        size = (big_folder / "big.bam").stat().st_size
        proxy.clear()
        with connection_to(live) as connection:
            connection.sendall(b"GET /files/cohort/big.bam HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            # What is on the way fits into the buffers of the sockets.
            assert wait_until(lambda: proxy.sent > MIB)
        assert wait_until(lambda: not proxy.under_way)
        assert proxy.sent < size // 2
        assert [kind(request) for request in proxy.requests].count("GET big.bam") == 1

    def test_in_bounded_memory(self, live: Server, big_folder: Path) -> None:
        content = (big_folder / "big.bam").read_bytes()
        live.http.get("/files/cohort/big.bam", {"Range": "bytes=0-99"})
        before = resident(live)
        connections = []
        for _ in range(8):
            connection = HTTPConnection(live.host, live.port, timeout=20)
            connection.request("GET", "/files/cohort/big.bam")
            connections.append((connection, connection.getresponse()))
        for connection, response in connections:
            is_equal = response.read() == content
            assert is_equal
            connection.close()
        assert resident(live) - before < 8 * 6 * MIB


class TestIgvReadsABucketFromAnotherOrigin:
    @pytest.mark.parametrize("way", ["signing", "live"])
    def test_plain_files_and_htsget(
        self,
        browser: "Browser",
        request: pytest.FixtureRequest,
        versitygw: S3Server,
        demo_folder: Path,
        tmp_path: Path,
        way: str,
    ) -> None:
        server: Server = request.getfixturevalue(way)
        plain = f"{server.url}/files/cohort"
        tracks = {
            "plain": {"format": "bam", "url": f"{plain}/NA00001.bam", "indexURL": f"{plain}/NA00001.bam.bai"},
            "htsget": {"format": "bam", "sourceType": "htsget", "url": f"{server.url}/reads/NA00001"},
        }
        settings = {
            "reference": {"id": "demo", "fastaURL": f"{plain}/demo.fa", "indexURL": f"{plain}/demo.fa.fai"},
            "locus": f"{NAME}:{START + 1}-{END}",
            "tracks": [{"name": name, "type": "alignment", **track} for name, track in tracks.items()],
        }
        with elsewhere(browser, tmp_path, settings) as present:
            found = present.tracks("alignment")
            present.screenshot(f"bucket-{way}")
            assert present.errors == present.alerts() == []
            hosts = present.hosts() - {urlsplit(present.page.url).netloc, urlsplit(server.url).netloc}
            asked = [one for one in present.requests if "X-Amz-Signature=" in one]
        for name in tracks:
            count = reads(demo_folder / "NA00001.bam", NAME, found[name]["start"], found[name]["end"])
            assert found[name]["count"] == count > 1000, name
            assert found[name]["ink"] > 100
        if way == "signing":
            assert hosts == {urlsplit(versitygw.endpoint).netloc}
            # Those of tickets and those of redirections are signed apart.
            assert {"if-match" in one.lower() for one in asked if "/NA00001.bam?" in one} == {True, False}
        else:
            assert hosts == set()


class TestOurOwnPageShowsABucket:
    def test_by_its_policy(self, browser: "Browser", signing: Server, versitygw: S3Server, demo_folder: Path) -> None:
        policy = signing.http.get("/").headers["content-security-policy"]
        (connect,) = [part for part in policy.split("; ") if part.startswith("connect-src ")]
        assert versitygw.endpoint in connect.split()
        for dataset, kinds in (("NA00001", ("alignment",)), ("cohort", ("variant",))):
            with visit(browser, f"{signing.url}/?dataset={dataset}&locus={NAME}:{START + 1}-{END}") as present:
                tracks = present.tracks(*kinds)
                present.screenshot(f"bucket-page-{dataset}")
                assert present.errors == present.alerts() == []
                assert present.hosts() == {urlsplit(signing.url).netloc, urlsplit(versitygw.endpoint).netloc}
            (shown,) = [track for track in tracks.values() if track["type"] in kinds][:1]
            count = reads if dataset == "NA00001" else variants
            name = "NA00001.bam" if dataset == "NA00001" else "cohort.vcf.gz"
            assert shown["count"] == count(demo_folder / name, NAME, shown["start"], shown["end"]) > 0
            assert shown["ink"] > 100
