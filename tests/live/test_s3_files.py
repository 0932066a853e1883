"""Plain files of a bucket, redirected to presigned URLs or through this server; igv.js reads both."""

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.client import Response
from tests.support.faulty import FaultyProxy
from tests.support.live.browser import count_reads, count_variants, igv_js_file, other_site, visit
from tests.support.live.buckets import BucketHttp, application, request_kind, serving_bucket
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
# After a redirect to another origin browsers send `Origin: null`, which only "*" allows.
RULE: "CORSRuleTypeDef" = {
    "AllowedOrigins": ["*"],
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["Content-Range", "Content-Length", "Accept-Ranges", "ETag"],
    "MaxAgeSeconds": 3600,
}
ODD = "sub folder/a b#%?é+&=.bam"


@pytest.fixture(scope="module")
def bucket(versitygw: S3Server, demo_folder: Path, big_folder: Path) -> str:
    """A bucket with the example data, an odd name, and a large file."""
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
    return http.request("HEAD", path, headers)


@pytest.fixture(scope="module")
def dated(proxying: BucketHttp) -> str:
    """The date of an object, once its second has passed: only then is it a validator."""
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
        for range_, part in (
            ("bytes=5-9", content[5:10]),
            ("bytes=-9", content[-9:]),
            ("bytes=1000000-1999999", content[1_000_000:2_000_000]),
        ):
            answer = redirecting.get(location, {"Range": range_})
            assert answer.status == 206
            assert answer.headers["content-range"].endswith(f"/{len(content)}")
            is_equal = answer.body == part
            assert is_equal
        assert redirecting.get(location, {"Range": "bytes=99999999-"}).status == 416
        assert redirecting.get(location, {"If-Match": '"other"'}).status == 412

    def test_but_head_is_answered_directly(self, redirecting: BucketHttp, demo_folder: Path) -> None:
        answer = head(redirecting, url("NA00001.bam"))
        assert answer.status == 200
        assert answer.headers["content-length"] == str((demo_folder / "NA00001.bam").stat().st_size)
        assert answer.headers["accept-ranges"] == "bytes"
        in_bucket = redirecting.get(redirecting.get(url("NA00001.bam")).headers["location"], {"Range": "bytes=0-0"})
        assert answer.headers["etag"] == in_bucket.headers["etag"]
        modified = in_bucket.headers["last-modified"]
        assert answer.headers.get("last-modified", modified) == modified
        assert head(redirecting, url("NA00001.bam"), {"If-None-Match": answer.headers["etag"]}).status == 304
        assert head(redirecting, url("NA00001.bam"), {"If-Match": '"other"'}).status == 412

    def test_but_absent_and_hidden_files_are_not_found(self, redirecting: BucketHttp, proxying: BucketHttp) -> None:
        for key in ("none", "NA00001.bam/", "NA00001", "../NA00001.bam", ".hidden", "%2e%2e/x", "none/", "sub%20folde"):
            for http in (redirecting, proxying):
                assert http.get(f"/files/cohort/{key}").status == 404
                assert head(http, f"/files/cohort/{key}").status == 404

    def test_a_folder_is_redirected_to_its_page(self, redirecting: BucketHttp, proxying: BucketHttp) -> None:
        for http in (redirecting, proxying):
            answer = http.get("/files/cohort/sub%20folder")
            assert (answer.status, answer.headers["location"]) == (301, "sub%20folder/")
            assert b'href="a%20b%23%25%3F' in http.get("/files/cohort/sub%20folder/").body


class TestFilesAreProxiedByThisServer:
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

    def test_by_one_request_for_the_requested_range(self, proxying: BucketHttp, proxy: FaultyProxy) -> None:
        head(proxying, url("NA00001.bam"))
        proxy.clear()
        proxying.get(url("NA00001.bam"), {"Range": "bytes=1000-2500999"})
        (request,) = proxy.requests
        assert (request_kind(request), request.headers["range"]) == ("GET NA00001.bam", "bytes=1000-2500999")

    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_ranges_and_preconditions(
        self, proxying: BucketHttp, demo_folder: Path, proxy: FaultyProxy, dated: str, case: Case
    ) -> None:
        path, content = url("NA00001.bam"), (demo_folder / "NA00001.bam").read_bytes()
        etag = head(proxying, path).headers["etag"]
        proxy.clear()
        answer = check_case(case, proxying, path, content, etag=etag, last_modified=dated)
        # Only an answer with a body takes a request.
        requests = [request for request in proxy.requests if request_kind(request).startswith("GET")]
        assert len(requests) == (answer.status in (200, 206))

    def test_if_they_are_empty(self, proxying: BucketHttp) -> None:
        answer = proxying.get(url("empty.txt"))
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")

    def test_in_the_new_version_after_a_replacement(
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
    """A live server that redirects clients to the bucket."""
    folder = tmp_path_factory.mktemp("signing")
    with serving_bucket(versitygw, bucket, folder, browser={"igv_js": str(igv_js_file())}) as server:
        yield server


def peak_memory(server: Server) -> int:
    """The peak resident memory of the workers, in bytes."""
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
        with live.connect(receive_buffer=1 << 16) as connection:
            connection.sendall(b"GET /files/cohort/big.bam HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            # The bytes in transit fit into the buffers of the sockets.
            assert wait_until(lambda: proxy.sent > MIB)
        assert wait_until(lambda: not proxy.under_way)
        assert proxy.sent < size // 2
        assert [request_kind(request) for request in proxy.requests].count("GET big.bam") == 1

    def test_in_bounded_memory(self, live: Server, big_folder: Path) -> None:
        content = (big_folder / "big.bam").read_bytes()
        live.http.get("/files/cohort/big.bam", {"Range": "bytes=0-99"})
        before = peak_memory(live)
        connections = []
        for _ in range(8):
            connection = HTTPConnection(live.host, live.port, timeout=20)
            connection.request("GET", "/files/cohort/big.bam")
            connections.append((connection, connection.getresponse()))
        for connection, response in connections:
            is_equal = response.read() == content
            assert is_equal
            connection.close()
        assert peak_memory(live) - before < 8 * 6 * MIB


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
        with other_site(browser, tmp_path, settings) as tab:
            drawn = tab.tracks("alignment")
            tab.screenshot(f"bucket-{way}")
            assert tab.errors == tab.alerts() == []
            hosts = tab.hosts() - {urlsplit(tab.page.url).netloc, urlsplit(server.url).netloc}
            urls = [address for address in tab.requests if "X-Amz-Signature=" in address]
        for name in tracks:
            count = count_reads(demo_folder / "NA00001.bam", NAME, drawn[name]["start"], drawn[name]["end"])
            assert drawn[name]["count"] == count > 1000, name
            assert drawn[name]["ink"] > 100
        if way == "signing":
            assert hosts == {urlsplit(versitygw.endpoint).netloc}
            # The URLs of tickets have a signed If-Match, those of redirects have not.
            assert {"if-match" in address.lower() for address in urls if "/NA00001.bam?" in address} == {True, False}
        else:
            assert hosts == set()


class TestThePageShowsABucket:
    def test_under_its_content_security_policy(
        self, browser: "Browser", signing: Server, versitygw: S3Server, demo_folder: Path
    ) -> None:
        policy = signing.http.get("/").headers["content-security-policy"]
        (connect,) = [part for part in policy.split("; ") if part.startswith("connect-src ")]
        assert versitygw.endpoint in connect.split()
        for dataset, kinds in (("NA00001", ("alignment",)), ("cohort", ("variant",))):
            with visit(browser, f"{signing.url}/?dataset={dataset}&locus={NAME}:{START + 1}-{END}") as tab:
                tracks = tab.tracks(*kinds)
                tab.screenshot(f"bucket-page-{dataset}")
                assert tab.errors == tab.alerts() == []
                assert tab.hosts() == {urlsplit(signing.url).netloc, urlsplit(versitygw.endpoint).netloc}
            (track,) = [track for track in tracks.values() if track["type"] in kinds][:1]
            count = count_reads if dataset == "NA00001" else count_variants
            name = "NA00001.bam" if dataset == "NA00001" else "cohort.vcf.gz"
            assert track["count"] == count(demo_folder / name, NAME, track["start"], track["end"]) > 0
            assert track["ink"] > 100
