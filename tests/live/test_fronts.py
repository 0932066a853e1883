"""nginx and Apache with the files of `config/` in front of gunicorn: clients get the answers of gunicorn alone."""

import json
import os
import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.support.client import Response, fetch, fetch_ticket
from tests.support.live import fronts
from tests.support.live.fronts import Front
from tests.support.live.regions import Region, overlapping
from tests.support.live.server import wait_until
from tests.support.live.tools import run
from tests.support.live.wire import ORIGIN, ask, error

pytestmark = pytest.mark.live

ODD = "sub folder/a $HOME `id` \"b\" 'c' #%41?&+ü;%2F x"
JSON = {"Content-Type": "application/json"}
ONLY_HTTPS = "max-age=31536000"


@pytest.fixture(scope="module")
def data(big_folder: Path, demo_folder: Path) -> Iterator[Path]:
    """A folder of files that web servers may read, with a link and an odd name."""
    with fronts.open_folder() as folder:
        for path in (*demo_folder.iterdir(), *big_folder.iterdir()):
            # Old enough that the date is a validator.
            shutil.copy(path, folder)
            os.utime(folder / path.name, (1_700_000_000, 1_700_000_000))
        (folder / ODD).parent.mkdir()
        for suffix in (".bam", ".bam.bai"):
            shutil.copy2(folder / f"NA00001{suffix}", folder / f"{ODD}{suffix}")
            (folder / f"linked{suffix}").symlink_to(f"big{suffix}")
        yield folder


@pytest.fixture(scope="module")
def nginx(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    config = write(folder, "x-accel", lab=data)
    with fronts.nginx(folder, config, {"lab": data}, level="warn") as front:
        yield front


@pytest.fixture(scope="module")
def apache(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("apache")
    config = write(folder, "x-sendfile", lab=data)
    with fronts.apache(folder, config, {"lab": data}) as front:
        yield front


@pytest.fixture(scope="module")
def outdated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx that serves another folder, as if files had been replaced after gunicorn checked them."""
    folder = tmp_path_factory.mktemp("other")
    with fronts.open_folder() as checked, fronts.open_folder() as replaced, fronts.open_folder() as outside:
        (checked / "data").mkdir()
        shutil.copy(data / "big.bam", checked / "missing.bam")
        for name in ("missing", "older", "shorter", "closed"):
            shutil.copy(data / "big.bam", checked / f"{name}.bam")
            if name != "missing":
                shutil.copy2(checked / f"{name}.bam", replaced)
        os.utime(replaced / "older.bam", (1_000_000_000, 1_000_000_000))
        status = os.stat(replaced / "shorter.bam")
        os.truncate(replaced / "shorter.bam", 5_000_000)
        os.utime(replaced / "shorter.bam", ns=(status.st_atime_ns, status.st_mtime_ns))
        (replaced / "closed.bam").chmod(0)
        (checked / "folder").mkdir()
        (replaced / "folder").symlink_to(outside)
        (replaced / "link.bam").symlink_to(outside / "secret.bam")
        for name in ("link.bam", "folder/secret.bam"):
            shutil.copy2(data / "big.bam", checked / name)
        # A file of the same version as those that gunicorn checked.
        (outside / "secret.bam").write_bytes(bytes(os.stat(data / "big.bam").st_size))
        shutil.copystat(data / "big.bam", outside / "secret.bam")
        config = write(folder, "x-accel", lab=checked)
        with fronts.nginx(folder, config, {"lab": replaced}) as front:
            yield front


@pytest.fixture(params=["nginx", "apache"])
def front(request: pytest.FixtureRequest) -> Front:
    """Each of the web servers."""
    front: Front = request.getfixturevalue(request.param)
    return front


def write(folder: Path, sendfile: str, **roots: Path) -> Path:
    """Write a configuration that serves all files of some storages; a storage's name is the prefix of its ids."""
    content = {
        "trusted_proxies": 1,
        "storages": {name: {"type": "local", "root": str(root), "sendfile": sendfile} for name, root in roots.items()},
        "datasets": [{"prefix": f"{name}/", "storage": name} for name in roots],
        "files": {"storages": list(roots)},
        "htsget": {"block_size": 4 << 20},
        "cache": {"folder": str(folder / "cache")},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def compare(front: Front, method: str, target: str, **headers: str) -> Response:
    """Send a request to the web server and to gunicorn itself; status, headers and body have to be equal."""
    backend = ask(front.backend, method, target, **headers)
    answer = front.ask(method, target, **headers)
    ignored = {"server", "date", "connection", "keep-alive", "strict-transport-security"}
    if answer.status == 206:
        # Status 206 implies that ranges are accepted.
        ignored.add("accept-ranges")
    assert answer.status == backend.status
    assert answer.headers["strict-transport-security"] == ONLY_HTTPS
    assert {name: value for name, value in answer.headers.items() if name not in ignored} == {
        name: value for name, value in backend.headers.items() if name not in ignored
    }
    # Compared outside the assertion: pytest would take minutes to print the difference.
    is_equal = answer.body == backend.body
    assert is_equal
    return answer


def block(front: Front, limit: int = 0) -> str:
    """The path of the first block URL in the large file's ticket with more than `limit` bytes."""
    for entry in fetch_ticket(front, "/reads/lab/big")["htsget"]["urls"]:
        if entry["url"].startswith("https:"):
            path = str(entry["url"]).removeprefix(front.url)
            if int(front.ask("HEAD", path).headers["content-length"]) > limit:
                return path
    raise AssertionError("no such block")


class TestTicketsPointToTheWebServer:
    def test_with_https_and_its_address(self, front: Front) -> None:
        for entry in fetch_ticket(front, "/reads/lab/big")["htsget"]["urls"]:
            assert entry["url"].startswith(("data:", f"{front.url}/blocks/"))

    def test_whatever_the_client_forwards(self, front: Front) -> None:
        answer = front.ask(
            "GET",
            "/reads/lab/big",
            X_Forwarded_Host="evil.example",
            X_Forwarded_Proto="http",
            X_Forwarded_Port="99",
            X_Forwarded_Prefix="/evil",
            X_Forwarded_For="1.2.3.4",
        )
        assert answer.body == front.ask("GET", "/reads/lab/big").body
        assert f"{front.url}/blocks/".encode() in answer.body and b"evil" not in answer.body

    def test_by_the_name_that_the_client_used(self, front: Front) -> None:
        answer = front.ask("GET", "/reads/lab/big", Host="data.example:8443")
        assert b"https://data.example:8443/blocks/" in answer.body


class TestClientsReadThroughIt:
    @pytest.mark.parametrize("format_", ["BAM", "CRAM"])
    def test_samtools(
        self, front: Front, data: Path, tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        front.trust(monkeypatch)
        whole = run("samtools", "view", data / f"NA00001.{format_.lower()}", "chr2", cwd=tmp_path)
        url = f"{front.url}/reads/lab/NA00001?format={format_}&referenceName=chr2"
        answer = run("samtools", "view", url, cwd=tmp_path)
        assert overlapping(Region("chr2"), answer.splitlines(), "reads") == whole.splitlines() != []

    def test_the_htsget_client(self, front: Front, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        front.trust(monkeypatch)
        run("htsget", f"{front.url}/reads/lab/big", "-O", "big.bam", cwd=tmp_path)
        is_equal = (tmp_path / "big.bam").read_bytes() == (data / "big.bam").read_bytes()
        assert is_equal

    def test_curl_with_http_2(self, nginx: Front, tmp_path: Path) -> None:
        options = ("--silent", "--fail", "--http2", "--cacert", nginx.certificate, "--write-out", "%{http_version}")
        path = block(nginx, 2 << 20)
        version = run("curl", *options, "--output", "block", f"{nginx.url}{path}", cwd=tmp_path)
        assert version == "2"
        is_equal = (tmp_path / "block").read_bytes() == ask(nginx.backend, "GET", path).body
        assert is_equal

    def test_samtools_reads_a_plain_file(
        self, front: Front, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        front.trust(monkeypatch)
        region = "chr1:100000000-101000000"
        whole = run("samtools", "view", data / "big.bam", region, cwd=tmp_path)
        assert run("samtools", "view", f"{front.url}/files/lab/big.bam", region, cwd=tmp_path) == whole != ""


class TestEveryAnswerEqualsThatOfGunicorn:
    FILES = ("big.bam", "linked.bam", "NA00001.bam.bai", quote(f"{ODD}.bam"))
    RANGES = (
        "bytes=0-0",
        "bytes=0-99999",
        "bytes=1-",
        "bytes=5000000-15000000",
        "bytes=-1",
        "bytes=-2000000",
        "bytes=100-99999999999",
        "bytes=-99999999999",
        "bytes=99999999999-",
        "bytes=-0",
        "bytes=0-200000,300000-600000",
        "bytes=200000-1",
        "bytes=x-1",
        "Bytes = 0-199999",
        "records=0-200000",
        "bytes=",
    )

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_whole_files(self, front: Front, name: str, method: str) -> None:
        assert compare(front, method, f"/files/lab/{name}", Origin=ORIGIN).status == 200
        compare(front, method, f"/files/lab/{name}")

    @pytest.mark.parametrize("value", RANGES)
    def test_ranges(self, front: Front, value: str) -> None:
        for path in ("/files/lab/big.bam", block(front, 2 << 20)):
            assert compare(front, "GET", path, Range=value, Origin=ORIGIN).status in (200, 206, 416)
            compare(front, "HEAD", path, Range=value)

    def test_preconditions(self, front: Front) -> None:
        for path in ("/files/lab/big.bam", block(front, 2 << 20)):
            head = front.ask("HEAD", path).headers
            etag, modified = head["etag"], head.get("last-modified", "Sun, 01 Jan 2040 00:00:00 GMT")
            statuses = [
                compare(front, "GET", path, Origin=ORIGIN, **fields).status
                for fields in (
                    {"If_None_Match": etag},
                    {"If_None_Match": '"other"'},
                    {"If_Match": etag},
                    {"If_Match": '"other"'},
                    {"If_Modified_Since": modified},
                    {"If_Unmodified_Since": "Sun, 01 Jan 2006 00:00:00 GMT"},
                    {"If_Range": etag, "Range": "bytes=1000000-1999999"},
                    {"If_Range": '"other"', "Range": "bytes=1000000-1999999"},
                    {"If_Range": modified, "Range": "bytes=1000000-1999999"},
                    {"If_None_Match": etag, "Range": "bytes=0-1"},
                )
            ]
            assert statuses[:4] == [304, 200, 200, 412]
            assert statuses[6:8] == [206, 200]

    def test_blocks(self, front: Front) -> None:
        for entry in fetch_ticket(front, "/reads/lab/big")["htsget"]["urls"]:
            if entry["url"].startswith("https:"):
                path = entry["url"].removeprefix(front.url)
                assert compare(front, "GET", path, Origin=ORIGIN).status == 200
                compare(front, "HEAD", path)

    def test_the_file_of_a_ticket(self, front: Front, data: Path) -> None:
        is_equal = fetch(front, "/reads/lab/big") == (data / "big.bam").read_bytes()
        assert is_equal

    @pytest.mark.parametrize(
        "target",
        [
            "/reads/none",
            "/nowhere",
            "/files/lab/none",
            "/files/other/big.bam",
            "/reads//lab/big",
            "/reads/lab%2Fbig?class=header",
            "/reads/lab/big%23",
            "/reads/lab/none%2F..%2Fbig",
            "/files/lab/..%2F..%2Fetc/passwd",
            "/files/lab//big.bam",
            "/_whole/lab/big.bam",
            "/health",
            "/reads/service-info",
            f"/reads/lab/{quote(ODD)}?class=header",
            f"/reads/lab/{quote(ODD, safe='')}?class=header",
            f"/reads/lab/big?referenceName={'x' * 8000}",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
    def test_other_paths(self, front: Front, method: str, target: str) -> None:
        preflight = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range,x-other"}
        host = {"Host": "data.example", "X_Forwarded_Proto": "https"}
        backend = ask(front.backend, method, target, Origin=ORIGIN, **preflight, **host)
        answer = front.ask(method, target, Origin=ORIGIN, **preflight, Host="data.example")
        assert (answer.status, answer.body) == (backend.status, backend.body)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        for name in backend.headers:
            if name.startswith("access-control") or name in ("vary", "allow", "content-type", "cache-control"):
                assert answer.headers[name] == backend.headers[name]


class TestWhichServerSendsTheBody:
    def test_whole_files_are_sent_by_the_web_server(self, front: Front) -> None:
        for headers in ({}, {"Range": "bytes=1000-999999"}, {"Origin": ORIGIN}):
            assert front.ask("GET", "/files/lab/big.bam", **headers).status in (200, 206)
            assert front.was_sent_by_front("/files/lab/big.bam")

    def test_but_not_conditional_or_small_answers(self, front: Front) -> None:
        for headers in (
            {"If_None_Match": '"other"'},
            {"Range": "bytes=0-99"},
            {"Range": "bytes=0-1000000,2000000-3000000"},
            {"Range": "bytes=0-1000000", "If_Range": "Sun, 01 Jan 2006 00:00:00 GMT"},
        ):
            assert front.ask("GET", "/files/lab/big.bam", **headers).status in (200, 206)
            assert not front.was_sent_by_front("/files/lab/big.bam")

    def test_data_blocks_are_sent_by_gunicorn(self, front: Front) -> None:
        path = block(front, 2 << 20)
        assert front.ask("GET", path).status == 200
        assert not front.was_sent_by_front(path)
        assert front.ask("GET", path, Range="bytes=100-2000000").status == 206
        assert not front.was_sent_by_front(path)

    def test_paths_are_reported_to_the_web_server_only(self, front: Front) -> None:
        answer = ask(front.backend, "GET", "/files/lab/big.bam", X_Sendfile_Type="X-Other")
        assert not any(name.startswith(("x-accel", "x-sendfile")) for name in answer.headers)
        answer = front.ask("GET", "/files/lab/big.bam", X_Sendfile_Type="X-Other")
        assert not any(name.startswith(("x-accel", "x-sendfile")) for name in answer.headers)
        assert front.was_sent_by_front("/files/lab/big.bam")

    def test_no_query_is_in_the_log(self, front: Front) -> None:
        for path in ("/files/lab/big.bam", "/health", "/raw/lab/big.bam"):
            front.ask("GET", f"{path}?expires=1&signature=none-of-your-business")

        def text() -> str:
            return (front.folder / "requests").read_text(encoding="utf-8")

        # A line is written after its answer is sent.
        assert wait_until(lambda: "/raw/lab/big.bam" in text(), seconds=5)
        assert '"GET /health" 200' in text()
        assert "signature" not in text() and "expires" not in text()

    def test_nginx_buffers_nothing_on_disk(self, nginx: Front) -> None:
        path = block(nginx, 2 << 20)
        connection = nginx.connect()
        try:
            connection.request("GET", path, headers={"Range": "bytes=1-"})
            response = connection.getresponse()
            assert len(response.read(1)) == 1
            assert list((nginx.folder / "proxy").rglob("*")) == []
            assert len(response.read()) > 2 << 20
        finally:
            connection.close()
        assert "buffered to a temporary file" not in (nginx.folder / "errors").read_text()


class TestTheAuditLog:
    @pytest.mark.parametrize("name", ["nginx", "apache"])
    def test_has_the_clients_address_and_the_request_id_of_the_web_servers_log(
        self, name: str, demo_folder: Path, tmp_path: Path
    ) -> None:
        with fronts.open_folder() as data:
            shutil.copy(demo_folder / "NA00001.bam", data)
            shutil.copy(demo_folder / "NA00001.bam.bai", data)
            config = write(tmp_path, {"nginx": "x-accel", "apache": "x-sendfile"}[name], lab=data)
            auth = {"secrets": ["a-secret-of-tests-0123456789"], "audit": str(tmp_path / "audit")}
            content = {**json.loads(config.read_text()), "auth": {**auth, "rules": [{"ids": ["*"], "public": True}]}}
            config.write_text(json.dumps({**content, "htsget": {"inline_limit": 0}}))
            with {"nginx": fronts.nginx, "apache": fronts.apache}[name](tmp_path, config, {"lab": data}) as front:
                forged = {"X-Request-ID": "mine", "X-Forwarded-For": "192.0.2.7"}
                ticket = json.loads(front.get("/reads/lab/NA00001", forged).body)["htsget"]
                for url in (ticket["urls"][-1]["url"], "/files/lab/NA00001.bam.bai"):
                    assert front.get(url, forged).status == 200
                lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
                assert [line["endpoint"] for line in lines] == ["reads", "blocks", "files"]
                assert {line["address"] for line in lines} == {"127.0.0.1"}
                ids = [line["request"] for line in lines]

                def logged() -> list[str]:
                    text = (tmp_path / "requests").read_text(encoding="utf-8")
                    return [line.rpartition(" ")[2] for line in text.splitlines() if '"GET /health"' not in line]

                # A line is written after its answer is sent.
                assert wait_until(lambda: logged() == ids, seconds=5), (logged(), ids)
                assert len(set(ids)) == 3


class TestLongRequests:
    def test_a_body_that_is_too_long_is_refused_by_gunicorn(self, front: Front) -> None:
        body = b'{"regions": [' + b" " * (2 << 20) + b"]}"
        answer = front.post("/reads/lab/big", body, {**JSON, "Origin": ORIGIN})
        assert (answer.status, error(answer)) == (413, "PayloadTooLarge")
        assert "1048576 bytes" in json.loads(answer.body)["htsget"]["message"]
        assert answer.headers["access-control-allow-origin"] == ORIGIN

    def test_a_longer_one_is_refused_by_nginx_with_the_same_error(self, nginx: Front) -> None:
        answer = nginx.post("/reads/lab/big", b" " * (9 << 20), {**JSON, "Origin": ORIGIN})
        assert answer.status == 413
        assert json.loads(answer.body)["htsget"]["error"] == "PayloadTooLarge"
        assert answer.headers["access-control-allow-origin"] == ORIGIN

    def test_a_long_body_is_accepted(self, front: Front) -> None:
        regions = [{"referenceName": "chr1", "start": 100 * n, "end": 100 * n + 50} for n in range(10_000)]
        body = json.dumps({"regions": regions}).encode()
        assert 500_000 < len(body) < 1 << 20
        answer = front.post("/reads/lab/NA00001", body, JSON)
        assert answer.status == 200


class TestGunicornSendsFilesThatNginxCannot:
    @pytest.mark.parametrize("name", ["missing", "older", "shorter", "closed", "link", "folder/secret"])
    def test_blocks(self, outdated: Front, name: str) -> None:
        if name == "closed" and os.geteuid() != 0:
            pytest.skip("nginx has other rights than gunicorn only if root starts it")
        blocks = 0
        for entry in fetch_ticket(outdated, f"/reads/lab/{name}")["htsget"]["urls"]:
            if entry["url"].startswith("https:"):
                path = entry["url"].removeprefix(outdated.url)
                compare(outdated, "GET", path, Origin=ORIGIN)
                blocks += 1
        assert blocks > 5

    @pytest.mark.parametrize("name", ["missing", "closed", "link", "folder/secret"])
    def test_whole_files(self, outdated: Front, name: str) -> None:
        if name == "closed" and os.geteuid() != 0:
            pytest.skip("nginx has other rights than gunicorn only if root starts it")
        compare(outdated, "GET", f"/files/lab/{name}.bam", Origin=ORIGIN)
        compare(outdated, "GET", f"/files/lab/{name}.bam", Range="bytes=1000000-3000000")

    @pytest.mark.parametrize("name", ["older", "shorter"])
    def test_another_version_has_other_validators(self, outdated: Front, name: str) -> None:
        path = f"/files/lab/{name}.bam"
        checked = ask(outdated.backend, "HEAD", path).headers
        for headers in ({}, {"Range": "bytes=1000000-3000000"}):
            answer = outdated.ask("GET", path, **headers)
            assert answer.headers["etag"] not in (checked["etag"], "")
            if name == "older":
                assert answer.headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
            assert len(answer.body) == int(answer.headers["content-length"])


class TestWhenGunicornIsDown:
    def test_nginx_reports_it(self, data: Path, tmp_path: Path) -> None:
        config = write(tmp_path, "x-accel", lab=data)
        with fronts.nginx(tmp_path, config, {"lab": data}) as front:
            front.backend.process.terminate()
            front.backend.process.wait(15)
            answer = front.ask("GET", "/reads/lab/big", Origin=ORIGIN)
            assert answer.status == 503
            assert json.loads(answer.body)["htsget"]["error"] == "ServiceUnavailable"
            assert (answer.headers["retry-after"], answer.headers["access-control-allow-origin"]) == ("5", ORIGIN)


class TestNoSignatureIsInTheErrorLog:
    """An error quotes the request, so a reader of the log could send it again."""

    SIGNED = "?expires=4000000000&signature=none-of-your-business"

    def errors(self, front: Front) -> str:
        """The error log, once it has the line of a request that is never signed."""
        assert front.ask("GET", "/reads/lab/last").status == 503
        log = front.folder / "errors"
        assert wait_until(lambda: "GET /reads/lab/last" in log.read_text(), seconds=5)
        return log.read_text()

    @pytest.mark.parametrize("is_socket_left", [False, True])
    def test_when_gunicorn_is_down(self, data: Path, tmp_path: Path, is_socket_left: bool) -> None:
        config = write(tmp_path, "x-accel", lab=data)
        with fronts.nginx(tmp_path, config, {"lab": data}) as front:
            front.backend.process.terminate()
            front.backend.process.wait(15)
            if is_socket_left:
                # As after SIGKILL: nginx logs a socket without a listener at another level.
                match = re.search(r"unix:(\S+/htsget);", (tmp_path / "site.conf").read_text())
                assert match is not None
                with socket.socket(socket.AF_UNIX) as unused:
                    unused.bind(match[1])
                os.chmod(match[1], 0o777)
            for path in ("/blocks/x/0-9/reads/BAM/lab/big", "/%62locks//x", "/files/lab/big.bam", "/page/sizes"):
                assert front.ask("GET", path + self.SIGNED).status == 503
            errors = self.errors(front)
        assert "none-of-your-business" not in errors

    def test_when_a_file_cannot_be_sent(self, data: Path, tmp_path: Path) -> None:
        config = write(tmp_path, "x-accel", lab=data)
        with fronts.open_folder() as empty, fronts.nginx(tmp_path, config, {"lab": empty}) as front:
            path = "/files/lab/big.bam"
            assert front.ask("GET", path + self.SIGNED).status == 200
            assert f"{path} /_whole/lab/big.bam" in (tmp_path / "access").read_text()
            front.backend.process.terminate()
            front.backend.process.wait(15)
            errors = self.errors(front)
        assert "none-of-your-business" not in errors


class TestTls:
    def test_supports_only_current_versions(self, front: Front) -> None:
        assert connects(front, ssl.TLSVersion.TLSv1_2) and connects(front, ssl.TLSVersion.TLSv1_3)
        with pytest.warns(DeprecationWarning):
            assert not connects(front, ssl.TLSVersion.TLSv1_1)

    def test_every_answer_requires_it(self, front: Front) -> None:
        preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
        answers = [
            front.ask(method, path) for method in ("GET", "HEAD", "DELETE") for path in ("/", "/nowhere", "/health")
        ]
        answers += [front.ask("GET", path) for path in ("/reads/lab/big", "/reads/lab/none", "/files/lab/big.bam")]
        answers += [
            front.get(path, preflight) for path in (block(front), block(front, 2 << 20), "/page/static/page.js")
        ]
        answers += [front.ask("GET", "/files/lab/big.bam", Range=value) for value in ("bytes=0-9", "bytes=99999999-")]
        answers += [
            front.ask("OPTIONS", "/reads/lab/big", **{key.replace("-", "_"): preflight[key] for key in preflight})
        ]
        answers += [front.post("/reads/lab/big", b" " * (9 << 20), JSON)]
        if front.has_direct_urls:
            answers += [front.ask(method, "/raw/lab/big.bam") for method in ("GET", "OPTIONS")]
        assert {answer.status for answer in answers} >= {200, 206, 404, 405, 413, 416}
        # `_read` checks that no answer has the header twice.
        assert {answer.headers.get("strict-transport-security") for answer in answers} == {ONLY_HTTPS}


def connects(front: Front, version: ssl.TLSVersion) -> bool:
    """Whether the web server supports a version of TLS, with any cipher."""
    context = ssl.create_default_context(cafile=str(front.certificate))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with closing(HTTPSConnection(urlsplit(front.url).netloc, timeout=10, context=context)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (ssl.SSLError, ConnectionError):
            return False


class TestPlainHttp:
    def test_is_redirected_to_https(self, nginx: Front, tmp_path: Path) -> None:
        url = f"http://127.0.0.1:{nginx.plain_port}/reads/lab%2Fbig?class=header"
        output = run(
            "curl",
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{redirect_url}",
            url,
            cwd=tmp_path,
        )
        assert output == "308 https://127.0.0.1/reads/lab%2Fbig?class=header"
