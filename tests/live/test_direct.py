"""Direct URLs in tickets, which nginx serves itself: their bytes, and access to them."""

import base64
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pysam
import pytest

from tests.support.client import fetch, fetch_ticket
from tests.support.live import fronts
from tests.support.live.browser import chromium, count_reads, igv_js_file, static_site, visit
from tests.support.live.fronts import Front
from tests.support.live.server import free_port
from tests.support.live.tools import run
from tests.support.live.wire import ORIGIN

pytestmark = pytest.mark.live

SECRET = "correct-horse/battery+staple="
ODD = "sub folder/a $HOME `id` \"b\" 'c' #%41?&+ü;%2F x"


@pytest.fixture(scope="module")
def data(big_folder: Path, demo_folder: Path) -> Iterator[Path]:
    """A folder of files that nginx may read, with a link and an odd name."""
    with fronts.open_folder() as folder:
        (folder / ODD).parent.mkdir()
        for path in demo_folder.iterdir():
            shutil.copy(path, folder)
        for suffix in (".bam", ".bam.bai"):
            for name in ("big", "replaced", ODD):
                shutil.copy(big_folder / f"big{suffix}", folder / f"{name}{suffix}")
            (folder / f"linked{suffix}").symlink_to(f"big{suffix}")
        yield folder


def write(folder: Path, data: Path, port: int, secret: str) -> Path:
    """Write a configuration with direct URLs for all files of a folder."""
    (folder / "key").write_text(secret + "\n", encoding="ascii")
    direct = {"url": f"https://127.0.0.1:{port}/raw/lab/", "secret": "file:key", "expires": 60}
    content = {
        "trusted_proxies": 1,
        "storages": {"lab": {"type": "local", "root": str(data), "sendfile": "x-accel", **direct}},
        "datasets": [{"prefix": "", "storage": "lab"}],
        "files": {"storages": ["lab"]},
        "htsget": {"block_size": 4 << 20},
        "cache": {"folder": str(folder / "cache")},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def front(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx with the secret."""
    folder, port = tmp_path_factory.mktemp("direct"), free_port()
    config = write(folder, data, port, SECRET)
    with fronts.nginx(folder, config, {"lab": data}, port=port, secret=SECRET) as front:
        yield front
    for log in (folder / "stderr", folder / "stdout", folder / "access"):
        assert SECRET not in log.read_text()


def direct_urls(front: Front, path: str) -> list[tuple[str, dict[str, str]]]:
    """The direct URLs of a ticket, each with its headers."""
    entries = fetch_ticket(front, path)["htsget"]["urls"]
    return [(entry["url"], entry["headers"]) for entry in entries if "/raw/" in entry["url"]]


def signed(path: str, expires: int, secret: str = SECRET) -> str:
    """A path with its signature according to nginx's manual."""
    digest = hashlib.md5(f"{expires}{unquote(path)} {secret}".encode()).digest()
    return f"{path}?md5={base64.urlsafe_b64encode(digest).decode().rstrip('=')}&expires={expires}"


class TestTicketsPointToNginx:
    @pytest.mark.parametrize("name", ["big", "linked", ODD])
    def test_and_contain_the_file(self, front: Front, data: Path, name: str) -> None:
        before = len((front.folder / "access").read_text())
        assert len(direct_urls(front, f"/reads/{quote(name)}")) > 5
        is_equal = fetch(front, f"/reads/{quote(name)}") == (data / f"{name}.bam").read_bytes()
        assert is_equal
        assert "/raw/" not in (front.folder / "access").read_text()[before:]

    def test_for_a_limited_time(self, front: Front) -> None:
        for url, _ in direct_urls(front, "/reads/big"):
            assert 50 < int(parse_qs(urlsplit(url).query)["expires"][0]) - time.time() <= 60

    def test_but_not_for_bytes_that_are_not_in_the_file(self, front: Front) -> None:
        ticket = fetch_ticket(front, "/reads/NA00001", referenceName="chr1", start=100_000, end=200_000)
        _, first, whole, last, _ = (entry["url"] for entry in ticket["htsget"]["urls"])
        assert "/raw/" in whole
        assert all(edge.startswith("data:") for edge in (first, last))


class TestClientsReadDirectUrls:
    @pytest.fixture(autouse=True)
    def trust_certificate(self, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        front.trust(monkeypatch)

    @pytest.mark.parametrize(("name", "format_"), [("big", "BAM"), ("linked", "BAM"), ("NA00001", "CRAM")])
    def test_samtools(self, front: Front, data: Path, tmp_path: Path, name: str, format_: str) -> None:
        url = f"{front.url}/reads/{name}?format={format_}"
        assert direct_urls(front, url)
        answer = run("samtools", "view", url, cwd=tmp_path)
        is_equal = answer == run("samtools", "view", data / f"{name}.{format_.lower()}", cwd=tmp_path)
        assert is_equal and answer

    def test_samtools_with_a_region(self, front: Front, data: Path, tmp_path: Path) -> None:
        region = "referenceName=chr1&start=10000000&end=90000000"
        assert direct_urls(front, f"/reads/big?{region}")
        answer = run("samtools", "view", f"{front.url}/reads/big?{region}", cwd=tmp_path).splitlines()
        expected = run("samtools", "view", data / "big.bam", "chr1:10000001-90000000", cwd=tmp_path).splitlines()
        assert set(expected) <= set(answer) and expected

    def test_bcftools(self, front: Front, data: Path, tmp_path: Path) -> None:
        answer = run("bcftools", "view", "-H", f"{front.url}/variants/cohort", cwd=tmp_path)
        is_equal = answer == run("bcftools", "view", "-H", data / "cohort.vcf.gz", cwd=tmp_path)
        assert is_equal and answer

    def test_pysam(self, front: Front, data: Path) -> None:
        with pysam.AlignmentFile(f"{front.url}/reads/big") as answer, pysam.AlignmentFile(data / "big.bam") as file:
            records = [read.to_string() for read in answer.fetch(until_eof=True)]
            is_equal = records == [read.to_string() for read in file.fetch(until_eof=True)]
        assert is_equal and records

    def test_the_htsget_client(self, front: Front, data: Path, tmp_path: Path) -> None:
        run("htsget", f"{front.url}/reads/big", "-O", "big.bam", cwd=tmp_path)
        is_equal = (tmp_path / "big.bam").read_bytes() == (data / "big.bam").read_bytes()
        assert is_equal


class TestOnlySignedUrlsAreServed:
    LATER = 4_000_000_000

    def test_the_signature_is_that_of_the_manual(self, front: Front) -> None:
        url, _ = direct_urls(front, f"/reads/{quote(ODD)}")[0]
        path, expires = urlsplit(url).path, int(parse_qs(urlsplit(url).query)["expires"][0])
        assert url == front.url + signed(path, expires)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_no_other_url_is_served(self, front: Front, method: str) -> None:
        good, other = (signed(f"/raw/lab/{name}.bam", self.LATER) for name in ("big", "linked"))
        wrong = [
            good.partition("?")[0],
            good.partition("&")[0],
            good.replace("md5=", "md5=A"),
            good.replace(str(self.LATER), str(self.LATER + 1)),
            good.replace("big", "linked"),
            other.replace("linked", "big"),
            good.replace("/raw/lab/", "/raw/nowhere/"),
            signed("/raw/lab/big.bam", int(time.time()) - 1),
            signed("/raw/lab/big.bam", self.LATER, ""),
            signed("/raw/lab/big.bam", self.LATER, "other"),
            "/raw/lab/big.bam?md5=&expires=",
        ]
        for target in wrong:
            answer = front.ask(method, target, Origin=ORIGIN)
            assert answer.status == 403, target
            assert answer.headers["access-control-allow-origin"] == ORIGIN

    def test_no_path_leads_out_of_the_folder(self, front: Front) -> None:
        for path in ("/raw/lab/../../etc/passwd", "/raw/lab/%2e%2e/%2e%2e/etc/passwd", "/raw/lab/..%2f..%2fetc/passwd"):
            assert front.ask("GET", signed(path, self.LATER)).status in (400, 403, 404)
        assert front.ask("GET", signed("/raw/nowhere/etc/passwd", self.LATER)).status == 404
        assert front.ask("GET", signed("/raw/lab/sub%20folder/", self.LATER)).status in (403, 404)

    def test_no_url_is_served_without_a_secret(self, data: Path, tmp_path: Path) -> None:
        port = free_port()
        config = write(tmp_path, data, port, SECRET)
        with fronts.nginx(tmp_path, config, {"lab": data}, port=port) as front:
            for secret in ("", SECRET):
                assert front.ask("GET", signed("/raw/lab/big.bam", self.LATER, secret)).status == 403


class TestRangesOfTheFile:
    def test_are_the_requested_ones(self, front: Front, data: Path) -> None:
        content = (data / "big.bam").read_bytes()
        target = signed("/raw/lab/big.bam", 4_000_000_000)
        for start, end in ((0, 1), (0, len(content)), (1_234_567, 1_234_568), (5, 20_000_001)):
            answer = front.ask("GET", target, Range=f"bytes={start}-{end - 1}", Origin=ORIGIN)
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"
            assert answer.headers["content-type"] == "application/octet-stream"
            is_equal = answer.body == content[start:end]
            assert is_equal
        assert front.ask("HEAD", target).headers["content-length"] == str(len(content))
        is_equal = front.ask("GET", target).body == content
        assert is_equal
        assert front.ask("GET", target, Range="bytes=0-0,5-6").status == 200

    def test_there_are_none_past_the_end(self, front: Front, data: Path) -> None:
        size = (data / "big.bam").stat().st_size
        answer = front.ask("GET", signed("/raw/lab/big.bam", 4_000_000_000), Range=f"bytes={size}-", Origin=ORIGIN)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
        assert answer.headers["access-control-allow-origin"] == ORIGIN


class TestAReplacedFile:
    def test_is_an_error_and_never_other_bytes(self, front: Front, data: Path) -> None:
        urls = direct_urls(front, "/reads/replaced")
        path = data / "replaced.bam"
        status = path.stat()
        for seconds, size in ((1, status.st_size), (0, status.st_size - 1), (-100, status.st_size)):
            shutil.copy(path, data / "new")
            os.truncate(data / "new", size)
            os.utime(data / "new", ns=(0, status.st_mtime_ns + seconds * 10**9))
            os.replace(data / "new", path)
            for url, headers in urls:
                answer = front.get(url, {**headers, "Origin": ORIGIN})
                assert (answer.status, len(answer.body) < 1000) == (412, True)
                assert answer.headers["access-control-allow-origin"] == ORIGIN
        path.unlink()
        assert {front.get(url, headers).status for url, headers in urls} == {404}


class TestALinkInPlaceOfAFile:
    """Users who may write to the folder can create links; a link must not open a file outside it."""

    @pytest.mark.parametrize("name", ["exchanged", "exchanged folder/below"])
    def test_is_refused(self, front: Front, data: Path, name: str) -> None:
        url = front.url + signed(quote(f"/raw/lab/{name}.bam"), 4_000_000_000)
        path = data / f"{name}.bam"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"inside")
        assert front.get(url).body == b"inside"
        with fronts.open_folder() as outside:
            (outside / path.name).write_bytes(b"secret")
            replaced = path if path.parent == data else path.parent
            replaced.rename(replaced.with_name("aside"))
            replaced.symlink_to(outside / path.name if replaced == path else outside)
            answer = front.get(url)
        assert answer.status in (403, 404)
        assert b"secret" not in answer.body
        replaced.unlink()
        replaced.with_name("aside").rename(replaced)
        assert front.get(url).body == b"inside"


class TestNoSignatureIsInTheErrorLog:
    def test_when_the_file_cannot_be_read(self, front: Front, data: Path) -> None:
        (data / "closed.bam").touch(0)
        (data / "link.bam").symlink_to("big.bam")
        for name, statuses in (("none", {404}), ("link", {403}), ("closed", {403, 200}), ("big.bam/x", {404})):
            target = signed(f"/raw/lab/{name}.bam", 4_000_000_000)
            assert front.ask("GET", target).status in statuses
        assert front.ask("POST", target).status in (404, 405)
        assert "md5=" not in (front.folder / "errors").read_text()


class TestPagesOfOtherOrigins:
    def test_may_send_the_headers(self, front: Front) -> None:
        url, headers = direct_urls(front, "/reads/big")[0]
        names = ",".join(name.lower() for name in headers)
        assert names == "if-match,range"
        answer = front.ask(
            "OPTIONS",
            url,
            Origin=ORIGIN,
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers=names,
        )
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-headers"] == names
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-max-age"] == "2592000"

    def test_may_read_the_answers(self, front: Front) -> None:
        url, headers = direct_urls(front, "/reads/big")[0]
        for more, status in (({}, 206), ({"If-Match": '"other"'}, 412), ({"Range": "bytes=99999999-"}, 416)):
            answer = front.get(url, {**headers, **more, "Origin": ORIGIN})
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            exposed = answer.headers["access-control-expose-headers"].lower()
            assert {"content-range", "content-length", "accept-ranges", "etag"} <= set(exposed.split(", "))
            assert answer.headers["vary"] == "Origin"


class TestIgvReadsDirectUrls:
    PAGE = """<!doctype html><meta charset="utf-8"><title>Another site</title><link rel="icon" href="data:,">
<div id="igv"></div>
<script type="module">
  import igv from "./igv.esm.min.js";
  globalThis.igvBrowser = await igv.createBrowser(document.getElementById("igv"), %s);
</script>
"""

    def test_from_a_page_of_another_origin(self, front: Front, data: Path, tmp_path: Path) -> None:
        files_url = f"{front.url}/files/lab/demo.fa"
        track = {"name": "direct", "type": "alignment", "sourceType": "htsget", "format": "bam"}
        settings = {
            "loadDefaultGenomes": False,
            "search": False,
            "reference": {"id": "demo", "fastaURL": files_url, "indexURL": f"{files_url}.fai"},
            "locus": "chr1:30001-50000",
            "tracks": [{**track, "url": f"{front.url}/reads/NA00001"}],
        }
        shutil.copy(igv_js_file(), tmp_path)
        (tmp_path / "index.html").write_text(self.PAGE % json.dumps(settings), encoding="utf-8")
        with (
            chromium() as browser,
            static_site(tmp_path) as url,
            # The browser does not trust the certificate.
            visit(browser, f"{url}/", ignore_https_errors=True) as tab,
        ):
            drawn = tab.tracks("alignment")["direct"]
            assert tab.errors == tab.alerts() == []
            assert any("/raw/lab/NA00001.bam" in request for request in tab.requests)
        assert drawn["count"] == count_reads(data / "NA00001.bam", "chr1", drawn["start"], drawn["end"]) > 1000
        assert drawn["ink"] > 100
