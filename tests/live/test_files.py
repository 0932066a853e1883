"""Plain files from gunicorn: nginx, which serves the same folder, has to answer the same requests alike."""

import json
import os
import random
import shutil
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.live.conftest import Serve
from tests.support.client import Response
from tests.support.live.fronts import plain_nginx
from tests.support.live.server import Server, wait_until
from tests.support.live.tools import write_config
from tests.support.live.wire import ORIGIN, ask, error, get, send

pytestmark = pytest.mark.live

SIZE = 300_000
MODIFIED = 1_600_000_000
LAST_MODIFIED = "Sun, 13 Sep 2020 12:26:40 GMT"
BEFORE, AFTER = "Sun, 13 Sep 2020 12:26:39 GMT", "Sun, 13 Sep 2020 12:26:41 GMT"
FILES = {
    "sample.bam": SIZE,
    "small.bam.bai": 1_000,
    "empty": 0,
    "one": 1,
    "a b#c?d%e.bam": 5_000,
    "trio/größe/名前+&=;,.cram": 5_000,
    "trio/r.fa.fai": 500,
    "x.html": 100,
    "x.vcf.gz": 100,
}


class Pair(NamedTuple):
    """A connection to this server, nginx (which closes connections after 412), and each one's ETag of the sample."""

    ours: HTTPConnection
    peer: Server
    our_tag: str
    peer_tag: str

    def ask(self, method: str, target: str, fields: dict[str, str]) -> tuple[Response, Response]:
        """Both answers to a request; `{tag}` in its fields stands for the ETag of each server."""
        ours = {name: value.format(tag=self.our_tag) for name, value in fields.items()}
        peer = {name: value.format(tag=self.peer_tag) for name, value in fields.items()}
        return send(self.ours, method, target, **ours), ask(self.peer, method, target, **peer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of random bytes, modified long ago."""
    folder = tmp_path_factory.mktemp("files")
    for key, size in FILES.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(key).randbytes(size))
        os.utime(path, (MODIFIED, MODIFIED))
    return folder


@pytest.fixture(scope="module")
def server(serve: Serve, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of the folder."""
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    return serve("--config", write_config(path, folder, "files: {storages: [here], listing: true}"))


@pytest.fixture(scope="module")
def nginx(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """nginx, which serves the folder at the same path.

    Two of its settings are not its defaults: it answers several ranges with the whole file, not with a multipart body,
    which no client of genomic files requests; and it compares If-Modified-Since as RFC 9110 demands, not for equality.
    """
    settings = "types {} default_type application/octet-stream; max_ranges 1; if_modified_since before;"
    locations = f"location = /health {{ return 200; }} location /files/here/ {{ alias {folder}/; }}"
    with plain_nginx(tmp_path_factory.mktemp("nginx"), locations, settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def pair(server: Server, nginx: Server) -> Iterator[Pair]:
    """Both servers; the connection has to stay open."""
    connection = HTTPConnection(server.host, server.port, timeout=30)
    try:
        tag = send(connection, "HEAD", url("sample.bam")).headers["etag"]
        socket_ = connection.sock
        yield Pair(connection, nginx, tag, ask(nginx, "HEAD", url("sample.bam")).headers["etag"])
        assert connection.sock is socket_ is not None
    finally:
        connection.close()


def url(key: str) -> str:
    """The target of a file on both servers."""
    return f"/files/here/{quote(key)}"


def check_equal(ours: Response, peer: Response) -> None:
    """Check that two answers are equal apart from the values of their ETags and the texts of errors."""
    assert ours.status == peer.status
    for name in ("content-range", "content-encoding"):
        assert (name, ours.headers.get(name)) == (name, peer.headers.get(name))
    if peer.status in (200, 206):
        assert ours.body == peer.body
        for name in ("content-length", "last-modified"):
            assert (name, ours.headers.get(name)) == (name, peer.headers.get(name))
    if peer.status in (200, 206, 304):
        # nginx's ETags are strong too.
        assert ours.headers["etag"][0] == peer.headers["etag"][0] == '"'
    if peer.status == 304:
        assert ours.body == peer.body == b""


CONDITIONS: list[dict[str, str]] = [
    {},
    {"If_Match": "{tag}"},
    {"If_Match": "*"},
    {"If_Match": '"x", {tag}'},
    {"If_Match": '"x"'},
    {"If_Match": "W/{tag}"},
    {"If_Unmodified_Since": LAST_MODIFIED},
    {"If_Unmodified_Since": BEFORE},
    {"If_Unmodified_Since": AFTER},
    {"If_None_Match": "{tag}"},
    {"If_None_Match": "W/{tag}"},
    {"If_None_Match": '"x",{tag}'},
    {"If_None_Match": "*"},
    {"If_None_Match": '"x"'},
    {"If_Modified_Since": LAST_MODIFIED},
    {"If_Modified_Since": BEFORE},
    {"If_Modified_Since": AFTER},
    {"If_Modified_Since": "Sunday, 13-Sep-20 12:26:40 GMT"},
    {"If_Modified_Since": "Sun Sep 13 12:26:40 2020"},
    {"If_Modified_Since": "nonsense"},
    {"If_None_Match": '"x"', "If_Modified_Since": AFTER},
    {"If_Match": "{tag}", "If_None_Match": "{tag}"},
    {"If_Match": '"x"', "If_None_Match": "{tag}"},
    {"If_Range": "{tag}"},
    {"If_Range": '"x"'},
    {"If_Range": "W/{tag}"},
    {"If_Range": LAST_MODIFIED},
    {"If_Range": BEFORE},
    {"If_Range": AFTER},
    {"If_Range": "nonsense"},
    {"If_Range": "{tag}", "If_Match": "{tag}", "If_Modified_Since": BEFORE},
]
RANGES = [
    None,
    "bytes=0-0",
    "bytes=0-99",
    "bytes=100-",
    f"bytes={SIZE - 1}-",
    "bytes=-1",
    f"bytes=-{SIZE}",
    f"bytes=-{SIZE + 1}",
    f"bytes={SIZE - 5}-{SIZE + 5}",
    f"bytes=0-{10**18}",
    f"bytes={SIZE}-",
    f"bytes={10**18}-",
    "bytes=-0",
    "bytes=0-1,5-6",
    "bytes=0-1,-5",
    "records=0-1",
    "bytes",
    "BYTES=5-9",
]


class TestTheAnswersAreThoseOfNginx:
    @pytest.mark.parametrize(
        "conditions", CONDITIONS, ids=lambda fields: " ".join(f"{k}:{v}" for k, v in fields.items())
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_to_all_conditions_with_and_without_range(
        self, pair: Pair, method: str, conditions: dict[str, str]
    ) -> None:
        for value in RANGES:
            if value is None:
                check_equal(*pair.ask(method, url("sample.bam"), conditions))
            # nginx honours Range in HEAD, which RFC 9110 14.2 forbids.
            elif method == "GET":
                check_equal(*pair.ask(method, url("sample.bam"), {**conditions, "Range": value}))

    @pytest.mark.parametrize("key", FILES)
    def test_for_files_of_any_name_and_size(self, pair: Pair, key: str) -> None:
        for target in (url(key), f"/files/here/{quote(key, safe='')}"):
            for fields in ({}, {"Range": "bytes=0-0"}, {"Range": "bytes=5-"}, {"Range": "bytes=-3"}):
                # nginx answers the last bytes of an empty file with 416; a shorter file satisfies a suffix
                # (RFC 9110 14.1.2), but an empty one has no part.
                if key != "empty" or not fields:
                    check_equal(*pair.ask("GET", target, fields))

    @pytest.mark.parametrize("target", ["none", "trio/none", "sample.bam/x", "trio%2fnone", "SAMPLE.bam", "%2e%2e/x"])
    def test_for_absent_files(self, pair: Pair, target: str) -> None:
        for method in ("GET", "HEAD"):
            ours, peer = pair.ask(method, f"/files/here/{target}", {"Range": "bytes=0-1", "If_None_Match": "*"})
            assert ours.status == peer.status == 404

    @settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.sampled_from(["sample.bam", "small.bam.bai", "one"]),
        st.one_of(
            st.integers(0, SIZE + 10).map(lambda first: f"{first}-"),
            st.integers(0, SIZE * 2).map(lambda length: f"-{length}"),
            st.tuples(st.integers(0, SIZE + 10), st.integers(0, SIZE)).map(lambda pair: f"{pair[0]}-{sum(pair)}"),
            st.tuples(st.integers(0, 1500), st.integers(0, 3)).map(lambda pair: f"{pair[0]}-{sum(pair)}"),
        ),
        st.sampled_from(["{}", " {}", "{} ", "0{}", "00{}"]),
    )
    def test_to_any_range(self, pair: Pair, key: str, value: str, template: str) -> None:
        check_equal(*pair.ask("GET", url(key), {"Range": f"bytes={template.format(value)}"}))


class TestWhereNginxDiffers:
    """Malformed ranges are ignored, as RFC 9110 14.2 permits; nginx refuses them."""

    @pytest.mark.parametrize(
        "value", ["bytes=5-4", "bytes=x-", "bytes=", "bytes=-", "bytes=1", "bytes=--5", "bytes=0x1-"]
    )
    def test_an_invalid_range_is_ignored(self, server: Server, folder: Path, value: str) -> None:
        answer = ask(server, "GET", url("sample.bam"), Range=value)
        assert (answer.status, answer.body) == (200, (folder / "sample.bam").read_bytes())

    def test_an_invalid_date_is_ignored(self, server: Server) -> None:
        # RFC 9110 13.1.4 demands it.
        assert ask(server, "HEAD", url("sample.bam"), If_Unmodified_Since="nonsense").status == 200

    def test_errors_have_a_body_with_their_type(self, server: Server) -> None:
        for status, name, fields in (
            (412, "InvalidInput", {"If_Match": '"x"'}),
            (416, "InvalidRange", {"Range": f"bytes={SIZE}-"}),
        ):
            answer = ask(server, "GET", url("sample.bam"), Origin=ORIGIN, **fields)
            assert (answer.status, error(answer)) == (status, name)
            assert answer.headers["access-control-allow-origin"] == ORIGIN


class TestNoPathLeadsToAnotherFile:
    @pytest.mark.parametrize(
        "target",
        [
            "/files/here/../here/sample.bam",
            "/files/here/./sample.bam",
            "/files/here//sample.bam",
            "/files//here/sample.bam",
            "/files/here/trio/../sample.bam",
            "/files/here/%2e%2e/files/sample.bam",
            "/files/here/..%2f..%2fetc%2fpasswd",
            "/files/here/%2fetc%2fpasswd",
            "/files/here//etc/passwd",
            "/files/here/sample.bam%00",
            "/files/here/trio/sample.bam/",
            "/files/here/trio//",
            "/files/here//trio/",
            "/files/here/trio/../",
            "/files/here/none/",
            "/files/../etc/passwd",
            "/files/",
            "/files",
            "/files/data/sample.bam",
            "/files/HERE/sample.bam",
            "/files/%00/x",
        ],
    )
    def test_not_found(self, server: Server, target: str) -> None:
        answer = get(server, target, "Host: localhost", f"Origin: {ORIGIN}")
        assert (answer.status, error(answer)) == (404, "NotFound")
        assert answer.headers["access-control-allow-origin"] == ORIGIN


class TestBrowsersMayReadFiles:
    @pytest.mark.parametrize("headers", ["range", "range, if-range", "authorization,cache-control", "if-match,x-other"])
    @pytest.mark.parametrize("target", ["sample.bam", "none", ""])
    def test_after_a_preflight(self, server: Server, target: str, headers: str) -> None:
        answer = ask(
            server,
            "OPTIONS",
            url(target),
            Origin=ORIGIN,
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers=headers,
        )
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        allowed = answer.headers["access-control-allow-headers"].lower().replace(" ", "")
        assert sorted(allowed.split(",")) == sorted(headers.replace(" ", "").split(","))
        assert {"GET", "HEAD"} <= set(answer.headers["access-control-allow-methods"].replace(" ", "").split(","))
        assert answer.headers["access-control-max-age"] == "2592000"

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({}, 200),
            ({"Range": "bytes=0-99"}, 206),
            ({"Range": "bytes=0-99999"}, 206),
            ({"Range": f"bytes={SIZE}-"}, 416),
            ({"If_None_Match": "*"}, 304),
            ({"If_Match": '"another"'}, 412),
        ],
    )
    def test_whatever_the_status(self, server: Server, fields: dict[str, str], status: int) -> None:
        answer = ask(server, "GET", url("sample.bam"), Origin=ORIGIN, **fields)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"Content-Range", "Content-Length", "Accept-Ranges", "ETag"} <= exposed
        # Vary is there without an Origin too, for caches.
        assert "origin" in ask(server, "GET", url("sample.bam")).headers["vary"].lower()


def disconnect(server: Server, target: str, *, reset: bool) -> bytes:
    """Request a file, receive its first bytes, and close or reset the connection; the start of the status line."""
    with server.connect(receive_buffer=1 << 16) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status = client.recv(12)
        assert client.recv(4096)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return status


class TestClientsThatDisconnectCostNothing:
    def test_two_hundred_of_them(self, serve: Serve, big_folder: Path) -> None:
        server = serve(big_folder)
        for _ in range(8):
            assert ask(server, "GET", "/files/data/big.bam", Range="bytes=0-1").status == 206
        before, log = server.open_files(), server.log()
        with ThreadPoolExecutor(50) as pool:
            target = "/files/data/big.bam"
            statuses = pool.map(lambda number: disconnect(server, target, reset=number % 2 == 0), range(200))
            assert set(statuses) == {b"HTTP/1.1 200"}

        def is_free() -> bool:
            after = server.open_files()
            return str(big_folder / "big.bam") not in after and after["socket"] <= before["socket"]

        assert wait_until(is_free, seconds=20), (before, server.open_files())
        assert server.log() == log
        assert server.is_healthy()


class TestAFileThatChangesWhileItIsSent:
    @pytest.fixture
    def path(self, big_folder: Path, tmp_path: Path) -> Path:
        """A copy of the large file."""
        (tmp_path / "served").mkdir()
        return Path(shutil.copy(big_folder / "big.bam", tmp_path / "served"))

    @pytest.mark.parametrize("how", ["cut", "replaced"])
    def test_is_neither_mixed_nor_padded(self, serve: Serve, path: Path, how: str) -> None:
        server, whole = serve(path.parent), path.read_bytes()
        connection = HTTPConnection(server.host, server.port, timeout=30)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.request("GET", "/files/data/big.bam")
            with connection.getresponse() as response:
                first = response.read(1000)
                if how == "cut":
                    os.truncate(path, 20_000_000)
                    with pytest.raises((IncompleteRead, ConnectionError)):
                        response.read()
                else:
                    other = path.with_suffix(".new")
                    other.write_bytes(bytes(len(whole)))
                    other.replace(path)
                    is_equal = first + response.read() == whole
                    assert is_equal
        finally:
            connection.close()


class TestTheListing:
    def test_holds_every_file(self, server: Server, folder: Path) -> None:
        page = json.loads(ask(server, "GET", "/files/here/?limit=1000").body)
        assert {file["key"]: file["size"] for file in page["files"]} == FILES
        for file in page["files"]:
            assert ask(server, "GET", file["url"]).body == (folder / file["key"]).read_bytes()
