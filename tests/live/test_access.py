"""Access control with real clients (samtools, bcftools, htsget, igv.js), a token issuer and a policy service."""

import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.live.conftest import Serve
from tests.support.hostile import HOSTILE, hostile_server
from tests.support.issuer import AUDIENCE, CLIENT, Issuer, unsigned
from tests.support.live import wire
from tests.support.live.browser import Visit, count_reads, igv_js_file, other_site, visit
from tests.support.live.fronts import make_certificate
from tests.support.live.regions import Region, overlapping
from tests.support.live.server import Server, begin, end, free_port, wait_until
from tests.support.live.tools import lines, run, tool, view
from tests.support.live.wire import get_as

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.live

SECRET = "a-secret-of-live-tests-0123456789"
NAME, START, END = "chr1", 20_000, 24_000
VISA = "https://data.example.org/datasets/demo"
RULES = [
    {"ids": ["NA00001", "cohort", "data/*"], "scopes": ["read"]},
    {"ids": ["NA00001"], "visas": [VISA]},
    {
        "ids": ["*"],
        "endpoints": ["reads", "variants"],
        "scopes": ["gene"],
        "regions": [{"reference": NAME, "start": START, "end": END}],
    },
]


def config(path: Path, folder: Path, issuer: Issuer, **changes: Any) -> Path:
    """Write a configuration with access control."""
    auth = {
        "secrets": [SECRET],
        "issuers": [
            {
                "issuer": issuer.url,
                "audience": AUDIENCE,
                "jwks": issuer.jwks_url,
                "userinfo": f"{issuer.url}/userinfo",
            }
        ],
        "introspection": {
            "url": f"{issuer.url}/introspect",
            "client_id": CLIENT[0],
            "client_secret": CLIENT[1],
            "audience": AUDIENCE,
        },
        "passports": {"visa_issuers": [{"issuer": issuer.url, "jwks": issuer.jwks_url}]},
        "rules": RULES,
        **changes,
    }
    content = {
        "storages": {"data": {"type": "local", "root": str(folder)}},
        "datasets": [{"prefix": "", "storage": "data"}],
        "files": {"storages": ["data"], "listing": True},
        "browser": {"igv_js": str(igv_js_file())},
        "htsget": {"inline_limit": 4096},
        "auth": {name: value for name, value in auth.items() if value is not None},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def server(serve: Serve, demo_folder: Path, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    path = config(tmp_path_factory.mktemp("access") / "config.yaml", demo_folder, issuer)
    return serve("--config", path)


@pytest.fixture(scope="module", autouse=True)
def _no_token_in_any_log(server: Server) -> Iterator[None]:
    """After all tests of this module: the server's output has none of their tokens and signed URLs."""
    yield
    check_no_secret(server)


def check_no_secret(server: Server) -> None:
    """Check that the server's output has no tokens, secrets and signed URLs."""
    log = server.log() + "\n".join(server.printed())
    for trace in ("eyJ", "signature=", "Bearer ", SECRET, CLIENT[1], "opaque-token"):
        assert trace not in log, trace


class TestHtslibReadsWithATokenFile:
    @pytest.fixture(autouse=True)
    def _over_http(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # htslib sends a token without TLS only with this variable.
        monkeypatch.setenv("HTS_ALLOW_UNENCRYPTED_AUTHORIZATION_HEADER", "I understand the risks")

    @pytest.mark.parametrize(
        ("dataset", "name"), [("reads/NA00001", "NA00001.bam"), ("variants/cohort", "cohort.vcf.gz")]
    )
    def test_and_fails_without(
        self,
        server: Server,
        issuer: Issuer,
        demo_folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        dataset: str,
        name: str,
    ) -> None:
        url = f"{server.url}/{dataset}"
        with pytest.raises(AssertionError):
            view(url, cwd=tmp_path)
        (tmp_path / "token").write_text(issuer.token(scope="read"))
        monkeypatch.setenv("HTS_AUTH_LOCATION", str(tmp_path / "token"))
        assert view(url, cwd=tmp_path) == view(demo_folder / name, cwd=tmp_path) != []
        (tmp_path / "token").write_text(issuer.token(scope="write"))
        with pytest.raises(AssertionError):
            view(url, cwd=tmp_path)

    def test_only_the_regions_of_a_grant(
        self, server: Server, issuer: Issuer, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "token").write_text(issuer.token(scope="gene"))
        monkeypatch.setenv("HTS_AUTH_LOCATION", str(tmp_path / "token"))
        for dataset, name, program in (
            ("reads/NA00001?format=BAM", "NA00001.bam", ("samtools", "view")),
            ("reads/NA00001?format=CRAM", "NA00001.cram", ("samtools", "view")),
            ("variants/cohort?format=VCF", "cohort.vcf.gz", ("bcftools", "view", "-H")),
            ("variants/cohort?format=BCF", "cohort.bcf", ("bcftools", "view", "-H")),
        ):
            expected = lines(*program, demo_folder / name, f"{NAME}:{START + 1}-{END}", cwd=tmp_path)
            assert view(f"{server.url}/{dataset}", cwd=tmp_path) == expected != []
        with pytest.raises(AssertionError):
            view(f"{server.url}/reads/NA00001?referenceName=chr2", cwd=tmp_path)


class TestTheHtsgetClientReadsWithItsBearerToken:
    def test_and_fails_without(self, server: Server, issuer: Issuer, demo_folder: Path, tmp_path: Path) -> None:
        url = f"{server.url}/reads/NA00001"
        bounds = ("--reference-name", NAME, "--start", START, "--end", END, "-O", "out.bam", "-M", 0)
        run("htsget", url, "-b", issuer.token("ES256", scope="read"), *bounds, cwd=tmp_path)
        expected = lines("samtools", "view", demo_folder / "NA00001.bam", f"{NAME}:{START + 1}-{END}", cwd=tmp_path)
        records = overlapping(Region(NAME, START, END), view(tmp_path / "out.bam", cwd=tmp_path), "reads")
        assert records == expected != []
        for token in ([], ["-b", issuer.token(scope="write")], ["-b", unsigned(issuer.claims(), {"alg": "none"})]):
            with pytest.raises(AssertionError):
                run("htsget", url, *token, *bounds, cwd=tmp_path)


class TestIgvReadsWithAToken:
    def settings(self, server: Server, **track: object) -> dict[str, Any]:
        reference = {"id": "demo", "fastaURL": "demo.fa", "indexURL": "demo.fa.fai"}
        entry = {
            "name": "BAM",
            "type": "alignment",
            "sourceType": "htsget",
            "format": "bam",
            "url": f"{server.url}/reads/NA00001",
            **track,
        }
        return {"reference": reference, "locus": f"{NAME}:{START + 1}-{END}", "tracks": [entry]}

    def site(self, demo_folder: Path, tmp_path: Path) -> Path:
        for name in ("demo.fa", "demo.fa.fai"):
            shutil.copy(demo_folder / name, tmp_path)
        return tmp_path

    def test_of_the_track(
        self, browser: "Browser", server: Server, issuer: Issuer, demo_folder: Path, tmp_path: Path
    ) -> None:
        settings = self.settings(server, oauthToken=issuer.token(scope="read"))
        with other_site(browser, self.site(demo_folder, tmp_path), settings) as tab:
            track = tab.tracks("alignment")["BAM"]
            assert (tab.errors, tab.alerts()) == ([], [])
        count = count_reads(demo_folder / "NA00001.bam", track["chr"], track["start"], track["end"])
        assert track["count"] == count > 100

    def test_set_for_the_host(
        self, browser: "Browser", server: Server, issuer: Issuer, demo_folder: Path, tmp_path: Path
    ) -> None:
        settings = {**self.settings(server), "tracks": []}
        with other_site(browser, self.site(demo_folder, tmp_path), settings) as tab:
            tab.page.wait_for_function("() => globalThis.igvBrowser")
            arguments = {"token": issuer.token(scope="read"), "host": "127.0.0.1*", **self.settings(server)}
            tab.page.evaluate(
                """async ({token, host, tracks}) => {
                  const {default: igv} = await import(new URL("igv.esm.min.js", location.href).href);
                  igv.setOauthToken(token, host);
                  await igvBrowser.loadTrack(tracks[0]);
                }""",
                arguments,
            )
            track = tab.tracks("alignment")["BAM"]
            assert (tab.errors, tab.alerts()) == ([], [])
        count = count_reads(demo_folder / "NA00001.bam", track["chr"], track["start"], track["end"])
        assert track["count"] == count > 100

    def test_and_fails_without(self, browser: "Browser", server: Server, demo_folder: Path, tmp_path: Path) -> None:
        with other_site(browser, self.site(demo_folder, tmp_path), self.settings(server)) as tab:
            tab.page.wait_for_function("() => globalThis.igvBrowser")
            assert wait_until(lambda: any("401" in error for error in tab.errors))


class TestThePageTakesAToken:
    def test_and_shows_the_granted_datasets(
        self, browser: "Browser", server: Server, issuer: Issuer, demo_folder: Path
    ) -> None:
        with visit(browser, f"{server.url}/") as tab:
            page = tab.page
            page.locator("#found", has_text="There are no datasets").wait_for()
            page.fill("#token", issuer.token(scope="read"))
            page.click("#access button")
            page.locator("#datasets a", has_text="NA00001").click()
            tracks = tab.tracks("alignment")
            tab.screenshot("access")
            (track,) = (track for name, track in tracks.items() if "BAM" in name)
            assert (tab.errors, tab.alerts()) == ([], [])
            assert "eyJ" not in page.url + page.locator("#commands").inner_text()
            assert not any("eyJ" in url for url in tab.requests)
            assert "HTS_AUTH_LOCATION" in page.locator("#commands").inner_text()
        expected = count_reads(demo_folder / "NA00001.bam", track["chr"], track["start"], track["end"])
        assert track["count"] == expected > 100


class TestThePageUnderAGrantOfRegions:
    """igv.js shows more than the granted regions; unless they are marked, the others would look like missing data."""

    def test_marks_the_granted_regions(
        self, browser: "Browser", server: Server, issuer: Issuer, demo_folder: Path
    ) -> None:
        locus = f"{NAME}:{END - 1500 + 1}-{END + 1500}"
        with self.visiting(browser, server, issuer, locus) as tab:
            tracks = tab.tracks("annotation", "alignment")
            tab.screenshot("access-regions")
            # Here the page has the references' lengths, but no sequences.
            assert all(error.startswith("No sequence for: ") for error in tab.errors)
            assert tab.alerts() == []
            assert tracks["Access"]["ink"] > 1000
            features = tab.page.evaluate(
                "() => igvBrowser.trackViews.find((view) => view.track.name === 'Access').viewports[0]"
                ".featureCache.features.map((one) => [one.name, one.start, one.end])"
            )
        assert ["granted", START, END] in features
        assert [name for name, _, _ in features].count("granted") == 1
        (track,) = (track for name, track in tracks.items() if "BAM" in name)
        expected = count_reads(demo_folder / "NA00001.bam", NAME, track["start"], END)
        assert track["count"] == expected > 50

    def test_other_regions_are_denied(self, browser: "Browser", server: Server, issuer: Issuer) -> None:
        with self.visiting(browser, server, issuer, f"{NAME}:{END + 5001}-{END + 8000}") as tab:
            assert wait_until(lambda: bool(tab.alerts()), seconds=15)
            tab.screenshot("access-outside-denied")

    def test_other_regions_are_empty(
        self, browser: "Browser", serve: Serve, issuer: Issuer, demo_folder: Path, tmp_path: Path
    ) -> None:
        server = serve("--config", config(tmp_path / "config.yaml", demo_folder, issuer, outside="empty"))
        with self.visiting(browser, server, issuer, f"{NAME}:{END + 5001}-{END + 8000}") as tab:
            tracks = tab.tracks("annotation", "alignment")
            tab.screenshot("access-outside-empty")
            assert (tab.errors, tab.alerts()) == ([], [])
        (track,) = (track for name, track in tracks.items() if "BAM" in name)
        assert track["count"] == 0
        assert tracks["Access"]["ink"] > 1000

    @contextmanager
    def visiting(self, browser: "Browser", server: Server, issuer: Issuer, locus: str) -> Iterator[Visit]:
        with visit(browser, f"{server.url}/") as tab:
            tab.page.locator("#found", has_text="There are no datasets").wait_for()
            tab.page.fill("#token", issuer.token(scope="gene"))
            tab.page.click("#access button")
            tab.page.locator("#datasets a", has_text="NA00001").wait_for()
            # The token lasts as long as the window is open.
            tab.page.goto(f"{server.url}/?dataset=NA00001&formats=BAM&locus={locus}")
            yield tab


class TestTokensOfAllKinds:
    def test_an_opaque_one(self, server: Server, issuer: Issuer) -> None:
        issuer.opaque["opaque-token"] = {"active": True, "aud": AUDIENCE, "sub": "bob", "scope": "read"}
        assert get_as(server, "/reads/NA00001", "opaque-token").status == 200
        assert get_as(server, "/reads/NA00001", "opaque-token-2").status == 401

    def test_a_passport_of_the_broker(self, server: Server, issuer: Issuer) -> None:
        issuer.passports["carla"] = [issuer.visa(VISA, sub="carla at the visa issuer")]
        assert get_as(server, "/reads/NA00001", issuer.token(sub="carla")).status == 200
        assert get_as(server, "/variants/cohort", issuer.token(sub="carla")).status == 403
        assert get_as(server, "/reads/NA00001", issuer.token(sub="dora")).status == 403

    def test_forged_ones(self, server: Server, issuer: Issuer) -> None:
        claims = issuer.claims(scope="read")
        key = issuer.keys[0]
        for token in (
            unsigned(claims, {"alg": "none"}),
            unsigned(claims, {"alg": "HS256", "kid": key.key_id}, key.public_pem[:32]),
            issuer.token(scope="read", exp=int(time.time()) - 120),
            issuer.token(scope="read", aud="another"),
            Issuer(url=issuer.url).token(scope="read"),
        ):
            answer = get_as(server, "/reads/NA00001", token)
            assert answer.status == 401
            assert json.loads(answer.body)["htsget"]["error"] == "InvalidAuthentication"

    def test_unknown_keys_cause_one_fetch_in_each_worker(self, server: Server, issuer: Issuer) -> None:
        tokens = [issuer.token("EdDSA", headers={"kid": f"none {number}"}) for number in range(300)]
        before = issuer.requested_paths.count("/jwks")
        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(lambda token: get_as(server, "/reads/NA00001", token).status, tokens))
        assert answers == {401}
        assert issuer.requested_paths.count("/jwks") - before <= len(server.workers())


class TestTheLog:
    def test_has_all_decisions_and_no_secret(self, server: Server, issuer: Issuer) -> None:
        token = issuer.token(scope="read", ga4gh_passport_v1=[issuer.visa(VISA)])
        before = len(server.log())
        ticket = json.loads(get_as(server, "/variants/cohort", token, {"X-Request-ID": "of-the-client"}).body)
        urls = [entry["url"] for entry in ticket["htsget"]["urls"] if not entry["url"].startswith("data:")]
        assert urls
        for url in urls:
            assert get_as(server, url, None).status == 200
            assert get_as(server, url + "x", None).status == 403
        for bad_token in (None, "x", "opaque-token-3", issuer.token(scope="write"), issuer.token(exp=1)):
            assert get_as(server, "/reads/NA00001", bad_token).status in (401, 403)
        assert get_as(server, "/files/data/none", token).status == 404
        assert get_as(server, f"/reads/NA00001?access_token={token}", None).status == 401
        lines = [json.loads(line) for line in server.log()[before:].splitlines() if line.startswith('{"time"')]
        assert {line["decision"] for line in lines} >= {"allowed", "denied"}
        # No proxy is trusted here.
        assert "of-the-client" not in {line["request"] for line in lines}
        assert {line["address"] for line in lines} == {"127.0.0.1"}
        line = lines[0]
        assert (line["subject"], line["endpoint"], line["id"]) == ("ada", "variants", "cohort")
        assert sum(line["endpoint"] == "blocks" for line in lines) >= 2 * len(urls)
        check_no_secret(server)

    def test_has_no_secret_of_malformed_requests(self, server: Server, issuer: Issuer) -> None:
        token, host = issuer.token(scope="read"), f"Host: {server.host}"
        for request_lines in (
            ["GET /reads/NA00001 HTTP/1.1", host, f"Authorization Bearer {token}"],
            ["GET /reads/NA00001 HTTP/1.1", host, f"Authorization: Bearer {token[:40]}", token[40:]],
            ["GET /blocks/a b?expires=1&signature=abc HTTP/1.1", host],
        ):
            answer = wire.raw(server, "\r\n".join([*request_lines, "Connection: close", "", ""]).encode())
            assert (answer.status, wire.error(answer)) == (400, "InvalidInput")
        assert server.log().count("a request was refused with status 400") >= 3
        assert token[40:100] not in server.log()
        check_no_secret(server)


class TestAPolicyServiceDecides:
    def test_and_requests_fail_without_it(
        self, serve: Serve, issuer: Issuer, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("policy")
        policy = {"url": f"{issuer.url}/v1/data/htsget", "cache": 0, "timeout": 1}
        path = config(folder / "config.yaml", demo_folder, issuer, rules=None, policy=policy)
        server = serve("--config", path)
        region = {"referenceName": NAME, "start": START, "end": END}
        issuer.decide = lambda request: {
            "result": {"allow": request["id"] == "NA00001" and request["claims"]["sub"] == "ada", "regions": [region]}
        }
        token = issuer.token()
        assert get_as(server, f"/reads/NA00001?referenceName={NAME}&start={START}&end={END}", token).status == 200
        assert get_as(server, "/reads/NA00001?referenceName=chr2", token).status == 403
        assert get_as(server, "/variants/cohort", token).status == 403
        assert get_as(server, "/reads/NA00001", issuer.token(sub="bob")).status == 403
        issuer.is_broken = True
        try:
            assert get_as(server, "/reads/NA00001", token).status == 503
        finally:
            issuer.is_broken = False


class TestServicesThatAnswerSlowly:
    """More requests with tokens than threads, while the issuer's answer arrives byte by byte."""

    @pytest.mark.parametrize("name", ["a slow body"])
    def test_delay_requests_by_some_seconds(
        self, serve: Serve, issuer: Issuer, demo_folder: Path, tmp_path: Path, name: str
    ) -> None:
        with hostile_server(HOSTILE[name]) as url:
            trusted = {"issuer": issuer.url, "audience": AUDIENCE, "jwks": url, "refresh_interval": 1}
            path = config(
                tmp_path / "config.yaml",
                demo_folder,
                issuer,
                issuers=[trusted],
                rules=[{"ids": ["open", "NA00001"], "public": True}],
            )
            server = serve("--config", path, "--threads", 2)
            token = issuer.token()
            with ThreadPoolExecutor(16) as pool:
                answers = [pool.submit(get_as, server, "/reads/NA00001?class=header", token) for _ in range(12)]
                for _ in range(3):
                    assert server.http.get("/health").status == 200
                    assert get_as(server, "/reads/NA00001?class=header", None).status == 200
                assert {answer.result(60).status for answer in answers} == {503}
            assert server.is_healthy()


def fetch_by_tls(port: int, context: ssl.SSLContext, path: str, headers: str = "") -> bytes:
    """The whole answer of a server on the loopback interface."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n"
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


class TestTls:
    def test_serve_with_a_certificate(self, issuer: Issuer, demo_folder: Path, tmp_path: Path) -> None:
        certificate, key = make_certificate(tmp_path)
        path = config(tmp_path / "config.yaml", demo_folder, issuer)
        port = free_port()
        command = [tool("htsget-flask"), "serve", "--config", path, "--port", port, "--workers", 1]
        command += ["--certfile", certificate, "--keyfile", key]
        fetch = partial(fetch_by_tls, port, ssl.create_default_context(cafile=str(certificate)))

        def answers() -> bool:
            try:
                return fetch("/health").startswith(b"HTTP/1.1 200")
            except OSError:
                return False

        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            process = begin(command, cwd=tmp_path, stdout=out, stderr=err)
        try:
            assert wait_until(answers, seconds=30), (tmp_path / "err").read_text()
            page = fetch("/").partition(b"\r\n\r\n")[0].lower()
            assert b"content-security-policy: " in page
            targets = ("/", "/reads/NA00001", "/blocks/x/0-9/reads/BAM/NA00001", "/nowhere", "/page/static/page.js")
            for target in targets:
                assert fetch(target).lower().count(b"\r\nstrict-transport-security: max-age=31536000\r\n") == 1
            answer = fetch("/nowhere", "no field\r\n")
            assert answer.startswith(b"HTTP/1.1 400") and b"\r\nStrict-Transport-Security: max-age=" in answer
            header = f"Authorization: Bearer {issuer.token(scope='read')}\r\n"
            ticket = fetch("/reads/NA00001", header)
            url = next(
                entry["url"]
                for entry in json.loads(ticket.partition(b"\r\n\r\n")[2])["htsget"]["urls"]
                if entry["url"].startswith("https:")
            )
            data = fetch(url.partition(str(port))[2])
            assert data.startswith(b"HTTP/1.1 200") and b"\r\nStrict-Transport-Security: max-age=" in data
            whole = fetch("/files/data/NA00001.bam", header).partition(b"\r\n\r\n")[2]
            assert whole == (demo_folder / "NA00001.bam").read_bytes()
            old_tls = ssl.create_default_context(cafile=str(certificate))
            with pytest.warns(DeprecationWarning):
                old_tls.minimum_version = ssl.TLSVersion.TLSv1
                old_tls.maximum_version = ssl.TLSVersion.TLSv1_1
            old_tls.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises(OSError):
                fetch_by_tls(port, old_tls, "/health")
            assert f"https://127.0.0.1:{port}/" in (tmp_path / "out").read_text()
        finally:
            end(process)
