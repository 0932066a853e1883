"""The hosts that a request may name, and the origins that may read: a folder on loopback is for this machine only."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NoReturn

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from htsget_flask.app import create_app
from htsget_flask.config import ConfigError, folder_config
from htsget_flask.storage.local import LocalStorage
from tests.support.app import http_for
from tests.support.client import FlaskHttp, Response, fetch_ticket
from tests.support.files.bam import bam_normal
from tests.support.live.wire import error
from tests.support.sequences import expected, fasta

TARGETS = (
    "/reads/bam_normal",
    "/files/data/bam_normal.bam",
    "/files/data/",
    "/",
    "/page/datasets",
    "/nowhere",
    "/health",
)
PUBLIC = ("0.0.0.0", "::", "192.0.2.1", "htsget.example.org", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hosts") / "data"
    path.mkdir()
    bam_normal(path).rename(path / "bam_normal.bam")
    return path


def served(folder: Path, address: str | None, *origins: str) -> FlaskHttp:
    """A client of the application that `serve` runs on an address."""
    return FlaskHttp(create_app(folder_config(folder, address=address, origins=origins)).test_client())


def ask(http: FlaskHttp, method: str, target: str, headers: Mapping[str, str]) -> Response:
    """The answer to a request with any Host; some versions of Flask's client parse it and fail at a malformed one."""
    environ = EnvironBuilder(target, method=method, headers=[*headers.items()]).get_environ()
    body, status, fields = run_wsgi_app(http.client.application, environ, buffered=True)
    return Response(int(status[:3]), {name.lower(): value for name, value in fields.items()}, b"".join(body))


def allowed_origin(answer: Response) -> str | None:
    return answer.headers.get("access-control-allow-origin")


class TestAFolderOnTheLoopbackInterface:
    @pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
    def test_answers_requests_to_local_names(self, folder: Path, address: str) -> None:
        http = served(folder, address)
        host_in_url = f"[{address}]" if ":" in address else address
        for host in (
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            f"{host_in_url}:1",
        ):
            for target in ("/reads/bam_normal", "/files/data/", "/"):
                assert http.get(target, {"Host": host}).status == 200

    OTHERS = (
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "xlocalhost",
        "127.0.0.2",
        "127.0.0.11",
        "localhost:80:80",
        "localhost:x",
        "localhost, evil.example",
        "evil.example@localhost",
        "localhost@evil.example",
        "[::1",
        "[::1].evil.example",
        "0.0.0.0",
        " ",
        "\x00",
    )

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
    def test_reads_no_file_for_another_host(self, folder: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        http = served(folder, "127.0.0.1", "*")

        def fail(*_: object, **__: object) -> NoReturn:
            raise AssertionError("a file was read")

        for name in ("stat", "open", "entries"):
            monkeypatch.setattr(LocalStorage, name, fail)
        for host, target in product(self.OTHERS, TARGETS):
            for headers in ({}, {"Origin": "http://evil.example:8080"}):
                answer = ask(http, method, target, {"Host": host, **headers})
                assert (answer.status, allowed_origin(answer)) == (421, None), (host, target)
                if method != "HEAD":
                    assert error(answer) == "InvalidInput"
                    assert b"localhost, 127.0.0.1, [::1]" in answer.body

    @pytest.mark.parametrize(
        "origin",
        ["http://localhost:5173", "http://localhost", "https://127.0.0.1:8443", "http://[::1]:8000", "https://igv.org"],
    )
    def test_allows_local_and_configured_origins(self, folder: Path, origin: str) -> None:
        http = served(folder, "127.0.0.1", "https://igv.org", "https://other.example:*")
        for target in TARGETS:
            assert allowed_origin(http.get(target, {"Origin": origin})) == origin
        preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        assert allowed_origin(http.request("OPTIONS", TARGETS[0], preflight)) == origin
        assert allowed_origin(http.get(TARGETS[0], {"Origin": "https://other.example:1"})) is not None

    STRANGERS = (
        "null",
        "http://evil.example",
        "http://localhost.evil.example",
        "http://localhost:80.evil.example",
        "http://localhost:",
        "http://localhost:x",
        "http://localhost:*",
        "http://xlocalhost",
        "http://evil.example/http://localhost:80",
        "ftp://localhost",
        "http://127.0.0.2",
        "http://igv.org",
        "https://igv.org:8443",
    )

    def test_allows_no_other_origin(self, folder: Path) -> None:
        http = served(folder, "127.0.0.1", "https://igv.org")
        for origin, target in product(self.STRANGERS, TARGETS):
            assert allowed_origin(http.get(target, {"Origin": origin})) is None, (origin, target)
            preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            assert allowed_origin(http.request("OPTIONS", target, preflight)) is None, (origin, target)


class TestAFolderOnAnotherAddress:
    @pytest.mark.parametrize("address", PUBLIC)
    def test_answers_all_hosts_and_origins(self, folder: Path, address: str | None) -> None:
        headers = {"Host": "data.example", "Origin": "https://any.example"}
        answer = served(folder, address).get("/reads/bam_normal", headers)
        assert (answer.status, allowed_origin(answer)) == (200, "https://any.example")

    def test_allows_configured_and_local_origins(self, folder: Path) -> None:
        http = served(folder, "0.0.0.0", "https://igv.org")
        for origin in ("https://igv.org", "http://localhost:8000"):
            assert allowed_origin(http.get("/reads/bam_normal", {"Origin": origin})) == origin
        assert allowed_origin(http.get("/reads/bam_normal", {"Origin": "https://any.example"})) is None


class TestConfiguredHosts:
    def test_are_compared_with_the_forwarded_host(self, folder: Path) -> None:
        http = http_for(folder, hosts=["Data.example", "[0::1]"], trusted_proxies=1)
        for host, forwarded, status in (
            ("data.example:8443", None, 200),
            ("[::1]:80", None, 200),
            ("inside", "data.example", 200),
            ("data.example", "evil.example", 421),
            ("inside", "data.example, evil.example", 421),
            ("inside", None, 421),
        ):
            headers = {"Host": host} | ({} if forwarded is None else {"X-Forwarded-Host": forwarded})
            for target in ("/reads/bam_normal", "/nowhere"):
                expected = 404 if (target, status) == ("/nowhere", 200) else status
                assert http.get(target, headers).status == expected

    def test_ignore_the_forwarded_host_without_a_proxy(self, folder: Path) -> None:
        http = http_for(folder, hosts=["data.example"])
        assert http.get("/reads/bam_normal", {"Host": "evil.example", "X-Forwarded-Host": "data.example"}).status == 421

    def test_default_to_all(self, folder: Path) -> None:
        assert http_for(folder).get("/reads/bam_normal", {"Host": "evil.example"}).status == 200

    @pytest.mark.parametrize("host", ["a:80", "a/b", "http://a", "a b", "", "::1", "*", "*.example", "u@a"])
    def test_other_than_names_and_addresses_are_refused(self, folder: Path, host: str) -> None:
        with pytest.raises(ConfigError, match=r"hosts\[1\]: .* must be a host's name or address without a port"):
            http_for(folder, hosts=["a", host])

    def test_that_are_empty_are_refused(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="hosts: "):
            http_for(folder, hosts=[])


class TestStrictTransportSecurity:
    @pytest.mark.parametrize(
        ("proxies", "forwarded", "is_https"),
        [
            (0, "https", False),
            (1, "https", True),
            (1, "http, https", True),
            (1, "https, http", False),
            (1, "", False),
            (2, "https", False),
            (2, "https , http", True),
        ],
    )
    def test_is_in_every_answer_over_https(self, tmp_path: Path, proxies: int, forwarded: str, is_https: bool) -> None:
        (folder := tmp_path / "data").mkdir()
        bam_normal(folder).rename(folder / "bam_normal.bam")
        (folder / "a.fa").write_bytes(fasta({"one": b"ACGT"}))
        http = http_for(
            folder,
            trusted_proxies=proxies,
            files={"storages": ["data"], "listing": True},
            refget={"fastas": [{"storage": "data", "key": "a.fa"}]},
            htsget={"never_inline": True},
        )
        ticket = fetch_ticket(http, "/reads/bam_normal")
        blocks = [url["url"].removeprefix("http://localhost") for url in ticket["htsget"]["urls"]]
        sequence = f"/sequence/{expected(b'ACGT').md5}"
        answers = [
            http.get(target, {"X-Forwarded-Proto": forwarded})
            for target in (*blocks, f"{blocks[0]}0", "/files/data/a.fa", "/files/data/b", "/files/data/", sequence)
        ]
        answers += [http.get(target, {"X-Forwarded-Proto": forwarded}) for target in (f"{sequence}0", "/", "/nowhere")]
        assert {answer.status for answer in answers} == {200, 404}
        values = {answer.headers.get("strict-transport-security") for answer in answers}
        assert values == {"max-age=31536000" if is_https else None}
