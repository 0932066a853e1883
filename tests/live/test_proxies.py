"""Servers with a proxy in front: which forwarded headers they trust, and nginx."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import Serve
from tests.support.client import fetch
from tests.support.live.fronts import plain_nginx
from tests.support.live.regions import Region, overlapping
from tests.support.live.server import Server
from tests.support.live.tools import lines, view, write_config
from tests.support.live.wire import ask, error, get, urls

pytestmark = pytest.mark.live

HEADER_SETS = [
    ("X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Forwarded-Port: 99", "X-Forwarded-Prefix: /evil"),
    ("X-Forwarded-Proto: https",),
    ("X-Forwarded-Protocol: ssl",),
    ("X-Forwarded-Ssl: on",),
    ("X-Scheme: https",),
    ("Forwarded: for=1.2.3.4;host=evil.example;proto=https",),
    ("X-Forwarded-Server: evil.example", "X-Host: evil.example", "X-Original-URL: /evil"),
    ("Script-Name: /evil",),
    ("SCRIPT_NAME: /evil",),
    ("Path-Info: /evil", "PATH_INFO: /evil"),
    ("X-Forwarded-For: 1.2.3.4", "X-Real-IP: 1.2.3.4"),
]


def block_url(server: Server, *fields: str) -> str:
    """The block URL of a ticket that is requested with these header lines."""
    (url,) = urls(get(server, "/reads/NA00001", *fields))
    return url


@pytest.fixture(scope="module")
def open_server(serve: Serve, demo_folder: Path) -> Server:
    """A server that other machines may reach, by any host name."""
    return serve(demo_folder, bind="0.0.0.0")


class TestForwardedHeadersOfClientsAreIgnored:
    @pytest.mark.parametrize("fields", HEADER_SETS, ids=lambda fields: fields[0].partition(":")[0])
    def test_by_default(self, open_server: Server, fields: tuple[str, ...]) -> None:
        url = block_url(open_server, "Host: data.example:8080", *fields)
        assert url.startswith("http://data.example:8080/blocks/")

    def test_where_the_url_is_configured(self, serve: Serve, demo_folder: Path, tmp_path: Path) -> None:
        path = write_config(tmp_path / "config.yaml", demo_folder, "public_url: https://data.example/htsget")
        server = serve("--config", path)
        for fields in HEADER_SETS:
            assert block_url(server, "Host: x", *fields).startswith("https://data.example/htsget/blocks/")

    @pytest.mark.parametrize(
        "host",
        ["", " ", "a b", 'a"b', "a/b", "a?b", "a#b", "u:p@a", "a.example:99999", "a:x", "<a>", "a,b", "["],
    )
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_an_invalid_host_gets_no_ticket_or_one_with_another_host(
        self, open_server: Server, host: str, version: str
    ) -> None:
        answer = get(open_server, "/reads/NA00001", f"Host: {host}", version=version)
        if answer.status == 200:
            (url,) = urls(answer)
            assert url.startswith(open_server.url)
        else:
            assert (answer.status, error(answer)) == (400, "InvalidInput")

    def test_two_hosts_are_refused(self, open_server: Server) -> None:
        assert get(open_server, "/reads/NA00001", "Host: a.example", "Host: b.example").status == 400


@pytest.fixture(scope="module")
def trusting(serve: Serve, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that trusts one proxy."""
    path = tmp_path_factory.mktemp("trusting") / "config.yaml"
    return serve("--config", write_config(path, demo_folder, "trusted_proxies: 1"))


class TestForwardedHeadersOfATrustedProxyAreUsed:
    @pytest.mark.parametrize(
        ("fields", "base"),
        [
            ((), "http://inside"),
            (("X-Forwarded-Proto: https",), "https://inside"),
            (("X-Forwarded-Proto: https", "X-Forwarded-Host: data.example"), "https://data.example"),
            (("X-Forwarded-Proto: https", "X-Forwarded-Host: data.example:8443"), "https://data.example:8443"),
            (("X-Forwarded-Host: data.example", "X-Forwarded-Port: 8080"), "http://data.example:8080"),
            (("X-Forwarded-Host: data.example", "X-Forwarded-Prefix: /genomes"), "http://data.example/genomes"),
            # The proxy itself added the last value of a list.
            (
                ("X-Forwarded-Host: evil.example, data.example", "X-Forwarded-Proto: http, https"),
                "https://data.example",
            ),
            (("X-Forwarded-Host: evil.example", "X-Forwarded-Host: data.example"), "http://data.example"),
            (("Forwarded: host=evil.example", "X-Scheme: https", "Script-Name: /evil"), "http://inside"),
        ],
    )
    def test_in_tickets(self, trusting: Server, fields: tuple[str, ...], base: str) -> None:
        assert block_url(trusting, "Host: inside", *fields).startswith(f"{base}/blocks/")


@pytest.fixture(scope="module")
def nginx(trusting: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """nginx in front of a server, with two locations: the root and `/genomes/`."""
    forwarded = f"""
            proxy_pass {trusting.url}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
    """
    locations = f"""
        location / {{{forwarded}}}
        location /genomes/ {{{forwarded}
            proxy_set_header X-Forwarded-Prefix /genomes;
        }}
    """
    with plain_nginx(tmp_path_factory.mktemp("nginx"), locations) as server:
        yield server


@pytest.mark.parametrize("prefix", ["", "/genomes"])
class TestNginxInFront:
    def test_tickets_point_to_it(self, nginx: Server, prefix: str) -> None:
        (url,) = urls(ask(nginx, "GET", f"{prefix}/reads/NA00001"))
        assert url.startswith(f"{nginx.url}{prefix}/blocks/")

    def test_samtools_reads_through_it(self, nginx: Server, demo_folder: Path, tmp_path: Path, prefix: str) -> None:
        for format_ in ("BAM", "CRAM"):
            path = demo_folder / f"NA00001.{format_.lower()}"
            whole = lines("samtools", "view", path, "chr2", cwd=tmp_path)
            answer = view(f"{nginx.url}{prefix}/reads/NA00001?format={format_}&referenceName=chr2", cwd=tmp_path)
            assert overlapping(Region("chr2"), answer, "reads") == whole != []

    def test_the_bytes_are_those_of_the_file(self, nginx: Server, demo_folder: Path, prefix: str) -> None:
        is_equal = fetch(nginx.http, f"{prefix}/reads/NA00001") == (demo_folder / "NA00001.bam").read_bytes()
        assert is_equal

    def test_ranges_pass_through_it(self, nginx: Server, prefix: str) -> None:
        (url,) = urls(ask(nginx, "GET", f"{prefix}/reads/NA00001"))
        whole = ask(nginx, "GET", url)
        part = ask(nginx, "GET", url, Range="bytes=1000000-1999999", If_Range=whole.headers["etag"])
        assert (part.status, part.body) == (206, whole.body[1_000_000:2_000_000])
        assert ask(nginx, "GET", url, Range="bytes=99999999-").status == 416

    def test_service_info_names_it(self, nginx: Server, tmp_path: Path, prefix: str) -> None:
        (body,) = lines("curl", "--silent", "--fail", f"{nginx.url}{prefix}/services", cwd=tmp_path)
        assert f'"{nginx.url}{prefix}/reads"' in body
