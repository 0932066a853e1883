"""CORS as browsers use it for requests of igv.js and JBrowse from other sites' pages, preflights included."""

from pathlib import Path

import pytest

from tests.live.conftest import Serve
from tests.support.client import Response
from tests.support.live.server import Server
from tests.support.live.tools import write_config
from tests.support.live.wire import ORIGIN, ask, urls

pytestmark = pytest.mark.live

EXPOSED = {"content-range", "content-length", "accept-ranges", "etag"}


@pytest.fixture(scope="module")
def block(demo_server: Server) -> str:
    """The path of a block URL."""
    (url,) = urls(ask(demo_server, "GET", "/reads/NA00001?referenceName=chr1&start=0&end=600000"))
    return url.removeprefix(demo_server.url)


@pytest.fixture(scope="module")
def restricted(serve: Serve, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that allows only the pages of some origins."""
    path = tmp_path_factory.mktemp("restricted") / "config.yaml"
    origins = f"cors: {{origins: ['{ORIGIN}', 'https://other.example']}}"
    return serve("--config", write_config(path, demo_folder, origins))


@pytest.fixture
def target(request: pytest.FixtureRequest, block: str) -> str:
    """A path to request; `{block}` stands for that of a block URL."""
    path: str = request.param
    return path.format(block=block)


def names(answer: Response, header: str) -> set[str]:
    """The names in a header's list."""
    return {name.strip().lower() for name in answer.headers[header].split(",")}


TARGETS = [
    "{block}",
    "/reads/NA00001",
    "/reads/NA00001?referenceName=chr1&start=0&end=1000",
    "/variants/cohort?class=header",
    "/reads/none",
    "/blocks/none/0-1/reads/BAM/NA00001",
    "/nowhere",
    "/reads/service-info",
    "/services",
]


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "/nowhere"], indirect=True)
class TestAPreflightAllowsTheRequestsOfIgv:
    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
    @pytest.mark.parametrize("fields", ["range", "authorization,cache-control", "x-anything,range,if-range"])
    def test_headers_and_methods(self, demo_server: Server, target: str, method: str, fields: str) -> None:
        answer = ask(
            demo_server,
            "OPTIONS",
            target,
            Origin=ORIGIN,
            Access_Control_Request_Method=method,
            Access_Control_Request_Headers=fields,
        )
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert names(answer, "access-control-allow-headers") >= set(fields.split(","))
        assert names(answer, "access-control-allow-methods") >= {"get", "post", "head", "options"}
        assert int(answer.headers["access-control-max-age"]) == 2_592_000
        assert "origin" in names(answer, "vary")


@pytest.mark.parametrize("target", TARGETS, indirect=True)
class TestEveryAnswerCanBeRead:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
    def test_by_the_requesting_page(self, demo_server: Server, target: str, method: str) -> None:
        answer = ask(demo_server, method, target, Origin=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert names(answer, "access-control-expose-headers") >= EXPOSED
        assert "origin" in names(answer, "vary")


class TestAPartOfABlockCanBeRead:
    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({}, 200),
            ({"Range": "bytes=0-99"}, 206),
            ({"Range": "bytes=0-99999"}, 206),
            ({"Range": "bytes=99999999-"}, 416),
            ({"If_None_Match": "*"}, 304),
            ({"If_Match": '"another"'}, 412),
        ],
    )
    def test_whatever_the_status(self, demo_server: Server, block: str, fields: dict[str, str], status: int) -> None:
        answer = ask(demo_server, "GET", block, Origin=ORIGIN, **fields)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert names(answer, "access-control-expose-headers") >= EXPOSED


class TestOnlyAllowedOriginsMayRead:
    TARGETS = ("/reads/NA00001", "/reads/none", "/blocks/none/0-1/reads/BAM/NA00001")
    OTHERS = ("https://evil.example", f"{ORIGIN}.evil.example", "http://igv.example", "https://xigv.example", "null")

    def test_tickets_and_errors(self, restricted: Server) -> None:
        for target in self.TARGETS:
            answer = ask(restricted, "GET", target, Origin=ORIGIN)
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert "origin" in names(answer, "vary")
            for origin in self.OTHERS:
                assert "access-control-allow-origin" not in ask(restricted, "GET", target, Origin=origin).headers


class TestVaryNamesTheOrigin:
    """Blocks are cached for an hour: the answer to a request without an origin must not serve one with an origin."""

    def test_if_all_origins_are_allowed(self, demo_server: Server, block: str) -> None:
        answer = ask(demo_server, "GET", block, Range="bytes=0-1")
        assert answer.status == 206
        assert "origin" in answer.headers.get("vary", "").lower()

    def test_if_some_origins_are_allowed(self, restricted: Server) -> None:
        (url,) = urls(ask(restricted, "GET", "/reads/NA00001"))
        for fields in ({}, {"Origin": "https://evil.example"}):
            answer = ask(restricted, "GET", url, Range="bytes=0-1", **fields)
            assert answer.status == 206
            assert "origin" in answer.headers.get("vary", "").lower()
