"""Clients, files and operators that act at the wrong moment, and requests that no honest client sends."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.live.conftest import Serve
from tests.support.client import Response, fetch
from tests.support.live.server import Server, serving, wait_until
from tests.support.live.wire import ORIGIN, ask, error, get, raw, read, send, urls

pytestmark = pytest.mark.live

TIMEOUT = 20.0
POST = b"POST /reads/big HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(serve: Serve, big_folder: Path) -> Server:
    """A server of the large file."""
    return serve(big_folder, "--origin", "*")


class Copy(NamedTuple):
    """A copy of the large file for a test to change, and the path of its ticket."""

    server: Server
    target: str
    path: Path

    def block_url(self) -> str:
        """The block URL for most of the file."""
        (url,) = urls(ask(self.server, "GET", self.target))
        return url


@pytest.fixture(scope="module")
def changing(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, Path]:
    """A server and its folder, whose files tests change."""
    folder = tmp_path_factory.mktemp("changing")
    return serve(folder, "--origin", ORIGIN), folder


@pytest.fixture
def copy(changing: tuple[Server, Path], big_folder: Path, request: pytest.FixtureRequest) -> Copy:
    """A copy of the large file for one test."""
    server, folder = changing
    name = request.node.name
    shutil.copytree(big_folder, folder / name)
    return Copy(server, f"/reads/{name}/big", folder / name / "big.bam")


@contextmanager
def download(url: str, *, reset: bool = False) -> Iterator[HTTPResponse]:
    """A download that has begun, with most of its bytes unsent; at the end the connection is closed, or reset."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.request("GET", urlsplit(url).path)
        response = connection.getresponse()
        assert response.status == 200
        assert len(response.read(1000)) == 1000
        yield response
        if reset:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        response.close()
    finally:
        connection.close()


def block_url(server: Server) -> str:
    """The block URL for most of the large file."""
    (url,) = urls(ask(server, "GET", "/reads/big"))
    return url


class TestAClientThatDisconnectsCostsNothing:
    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_no_descriptor_and_no_traceback(self, server: Server, big_folder: Path, reset: bool) -> None:
        url, log = block_url(server), server.log()
        # Both workers have opened the file before descriptors are counted.
        for _ in range(8):
            assert ask(server, "GET", url, Range="bytes=0-1").status == 206
        before = server.open_files()
        assert before["socket"] > 0
        for _ in range(12):
            with download(url, reset=reset):
                pass

        def is_free() -> bool:
            after = server.open_files()
            # One of the counted connections may have been about to close.
            return str(big_folder / "big.bam") not in after and after["socket"] <= before["socket"]

        assert wait_until(is_free), (before, server.open_files())
        assert server.log() == log
        assert server.is_healthy()

    def test_in_the_middle_of_a_request(self, server: Server) -> None:
        before = server.log()
        for fragment in (
            b"",
            b"GET /re",
            b"GET /reads/big HTTP/1.1\r\nHost: localhost\r\n",
            b"POST /reads/big HTTP/1.1\r\n",
        ):
            with socket.create_connection((server.host, server.port)) as connection:
                connection.sendall(fragment)
        body = POST + b"Content-Length: 99\r\n\r\n{"
        with socket.create_connection((server.host, server.port)) as connection:
            connection.sendall(body)
        assert wait_until(server.is_healthy)
        assert "Traceback" not in server.log().removeprefix(before)

    def test_slow_clients_delay_no_others(self, server: Server) -> None:
        url = block_url(server)
        with download(url), download(url), download(url), download(url):
            start = time.monotonic()
            assert ask(server, "GET", "/reads/big?referenceName=chr1&start=0&end=1").status == 200
            assert time.monotonic() - start < TIMEOUT


class TestAReplacedFileIsNeverMixed:
    def test_a_block_of_the_old_version_is_gone(self, copy: Copy) -> None:
        url = copy.block_url()
        whole = copy.path.read_bytes()
        other = copy.path.with_suffix(".new")
        # Of the same size, so that only the modification time differs.
        other.write_bytes(whole[:1000] + bytes(len(whole) - 1000))
        other.replace(copy.path)
        for fields in ({}, {"Range": "bytes=5000-5100"}, {"Range": "bytes=0-"}):
            answer = ask(copy.server, "GET", url, Origin=ORIGIN, **fields)
            assert (answer.status, error(answer)) == (410, "Gone")
            assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert ask(copy.server, "HEAD", url).status == 410

    def test_a_new_ticket_is_of_the_new_version(self, copy: Copy, demo_folder: Path, tmp_path: Path) -> None:
        assert fetch(copy.server.http, copy.target)
        for suffix in ("", ".bai"):
            shutil.copyfile(demo_folder / f"NA00001.bam{suffix}", tmp_path / "new")
            (tmp_path / "new").replace(f"{copy.path}{suffix}")
        expected = (demo_folder / "NA00001.bam").read_bytes()
        # For a second each worker may return tickets of the old version, whose blocks are gone, as above.
        time.sleep(1.2)
        is_equal = fetch(copy.server.http, copy.target) == expected
        assert is_equal

    def test_a_running_download_ends_with_the_old_bytes(self, copy: Copy) -> None:
        whole = copy.path.read_bytes()
        other = copy.path.with_suffix(".new")
        other.write_bytes(bytes(len(whole)))
        with download(copy.block_url()) as response:
            other.replace(copy.path)
            rest = response.read()
        is_part = rest in whole
        assert is_part
        assert len(rest) > 30_000_000

    def test_a_removed_file_is_not_found(self, copy: Copy) -> None:
        url = copy.block_url()
        copy.path.unlink()
        assert (ask(copy.server, "GET", url).status, error(ask(copy.server, "GET", url))) == (404, "NotFound")
        assert wait_until(lambda: ask(copy.server, "GET", copy.target).status == 404, seconds=TIMEOUT)

    def test_a_file_cut_while_it_is_sent_ends_the_connection(self, copy: Copy) -> None:
        with download(copy.block_url()) as response:
            os.truncate(copy.path, 20_000_000)
            with pytest.raises((IncompleteRead, ConnectionError)):
                response.read()


class TestTheServerShutsDownGracefully:
    def test_a_running_download_is_finished(self, big_folder: Path, tmp_path: Path) -> None:
        with serving(big_folder, folder=tmp_path) as server:
            with download(block_url(server)) as response:
                server.process.send_signal(signal.SIGTERM)
                with pytest.raises(subprocess.TimeoutExpired):
                    server.process.wait(1)
                rest = response.read()
            assert server.process.wait(TIMEOUT + 5) == 0
        is_part = rest in (big_folder / "big.bam").read_bytes()
        assert is_part
        assert len(rest) > 30_000_000

    def test_by_a_keyboard_interrupt(self, big_folder: Path, tmp_path: Path) -> None:
        with serving(big_folder, folder=tmp_path) as server:
            workers = server.workers()
            for worker in workers:
                os.kill(worker, signal.SIGINT)
            time.sleep(1)
            # The main process ends the workers; with two signals at once they would sometimes hang.
            assert server.workers() == workers
            # A terminal signals all processes.
            os.killpg(server.process.pid, signal.SIGINT)
            assert server.process.wait(TIMEOUT) == 0
        assert "SIGKILL" not in server.log()

    def test_no_file_is_left_in_its_folder(self, big_folder: Path, tmp_path: Path) -> None:
        names = sorted(os.listdir(big_folder))
        with serving(big_folder, folder=tmp_path) as server:
            assert fetch(server.http, "/reads/big", referenceName="chr1", start=0, end=1_000_000)
        assert sorted(os.listdir(tmp_path)) == ["stderr", "stdout"]
        assert sorted(os.listdir(big_folder)) == names


class TestAConnectionIsReused:
    def test_for_answers_of_all_kinds(self, server: Server) -> None:
        path = urlsplit(block_url(server)).path
        connection = HTTPConnection(server.host, server.port, timeout=TIMEOUT)
        try:
            assert send(connection, "GET", "/health").status == 200
            socket_ = connection.sock
            requests = [
                ("GET", "/reads/big", {}, 200),
                ("GET", "/reads/none", {}, 404),
                ("HEAD", path, {}, 200),
                ("GET", path, {"Range": "bytes=0-99999"}, 206),
                ("GET", path, {"Range": f"bytes={10**12}-"}, 416),
                ("GET", path, {"If_None_Match": "*"}, 304),
                ("HEAD", "/reads/none", {}, 404),
                ("PUT", "/reads/big", {}, 405),
                ("OPTIONS", "/reads/big", {}, 200),
                ("GET", path, {}, 200),
                ("GET", "/reads/big?class=header", {}, 200),
            ]
            for method, target, fields, status in requests:
                assert send(connection, method, target, **fields).status == status, (method, target)
                assert connection.sock is socket_ is not None, (method, target)
        finally:
            connection.close()

    def test_after_a_body_that_is_not_read(self, server: Server) -> None:
        connection = HTTPConnection(server.host, server.port, timeout=TIMEOUT)
        try:
            for _ in range(3):
                connection.request("POST", "/reads/big", b"x" * 50_000, {"Content-Type": "text/plain"})
                answer = read(connection)
                assert (answer.status, error(answer)) == (415, "InvalidInput")
                assert send(connection, "GET", "/reads/big?class=header").status == 200
        finally:
            connection.close()

    def test_after_a_chunked_body(self, server: Server) -> None:
        connection = HTTPConnection(server.host, server.port, timeout=TIMEOUT)
        try:
            for body, status in (([b'{"class": ', b'"header"}'], 200), ([b'{"class": ', b"}"], 400), ([], 400)):
                connection.request("POST", "/reads/big", iter(body), {"Content-Type": "application/json"})
                assert read(connection).status == status
        finally:
            connection.close()

    def test_except_by_clients_of_http_1_0(self, server: Server) -> None:
        answer = raw(server, b"GET /reads/big HTTP/1.0\r\n\r\n")
        assert (answer.status, answer.headers["connection"]) == (200, "close")


class TestABusyClientDelaysNoOther:
    def test_with_a_single_thread(self, serve: Serve, big_folder: Path) -> None:
        server = serve(big_folder, "--threads", 1)
        done = threading.Event()

        def work() -> int:
            """Send consecutive requests over one connection; the number of answers."""
            connection = HTTPConnection(server.host, server.port, timeout=TIMEOUT)
            count = 0
            try:
                while not done.is_set():
                    assert send(connection, "GET", "/health").status == 200
                    count += 1
            finally:
                connection.close()
            return count

        with ThreadPoolExecutor(6) as pool:
            busy = [pool.submit(work) for _ in range(6)]
            try:
                # More connections than threads, and new ones among them.
                for _ in range(20):
                    assert ask(server, "GET", "/health").status == 200
            finally:
                done.set()
            assert min(future.result() for future in busy) > 0


@pytest.fixture(scope="module")
def served(serve: Serve, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of one file, with misleading files and links in its folder and around it."""
    top = tmp_path_factory.mktemp("paths")
    folder = top / "served"
    folder.mkdir()
    for suffix in ("", ".bai"):
        shutil.copyfile(demo_folder / f"NA00001.bam{suffix}", folder / f"inside.bam{suffix}")
        shutil.copyfile(demo_folder / f"NA00001.bam{suffix}", top / f"outside.bam{suffix}")
        (folder / f"link.bam{suffix}").symlink_to(top / f"outside.bam{suffix}")
        (folder / f"friend.bam{suffix}").symlink_to(f"inside.bam{suffix}")
    (folder / "folder").symlink_to(top)
    (folder / "directory.bam").mkdir()
    os.mkfifo(folder / "pipe.bam")
    return serve(folder)


class TestNoPathLeadsOutOfTheFolder:
    TARGETS = (
        "/reads/../outside",
        "/reads/../../outside",
        "/reads/inside/../../outside",
        "/reads/%2e%2e/outside",
        "/reads/%2e%2e%2foutside",
        "/reads/..%2foutside",
        "/reads/inside%2f..%2f..%2foutside",
        "/reads/%252e%252e%252foutside",
        "/reads/..%5coutside",
        "/reads/../outside%00",
        "/reads/%00",
        "/reads/inside%00",
        "/reads/%2e%2e%00%2foutside",
        "/reads/link",
        "/reads/folder/outside",
        "/reads//outside",
        "//reads/outside",
        "//outside",
        "/reads//inside",
        "/reads/inside/",
        "/reads/./inside",
        "/reads/%2e/inside",
        "/reads/",
        "/reads",
        "/reads/.",
        "/reads/..",
        "/reads/%ff%fe",
        "/reads/%c0%ae%c0%ae%c0%afoutside",
        "/reads/pipe",
        "/reads/directory",
        "/..",
        "/../../../../../../etc/passwd",
        "/reads/" + "../" * 40 + "etc/passwd",
        "/static/outside.bam",
    )

    @pytest.mark.parametrize("target", TARGETS)
    def test_by_a_ticket(self, served: Server, target: str) -> None:
        answer = get(served, target, "Host: localhost")
        assert answer.status in (400, 404)
        assert error(answer) in ("InvalidInput", "NotFound")

    @pytest.mark.parametrize("target", ["../../etc/passwd", "etc/passwd", "*", "..", "\\..\\outside"])
    def test_by_a_target_that_is_not_a_path(self, served: Server, target: str) -> None:
        assert get(served, target, "Host: localhost").status == 400

    @pytest.mark.parametrize("target", [target for target in TARGETS if target.startswith("/reads/")])
    def test_by_a_block_url(self, served: Server, target: str) -> None:
        (url,) = urls(ask(served, "GET", "/reads/inside"))
        prefix, separator, _ = urlsplit(url).path.rpartition("/reads/BAM/")
        answer = get(served, prefix + separator + target.removeprefix("/reads/"), "Host: localhost")
        assert answer.status in (400, 404)
        assert error(answer) in ("InvalidInput", "NotFound")

    @pytest.mark.parametrize("dataset", ["inside", "friend"])
    def test_but_links_within_it_are_followed(self, served: Server, demo_folder: Path, dataset: str) -> None:
        is_equal = fetch(served.http, f"/reads/{dataset}") == (demo_folder / "NA00001.bam").read_bytes()
        assert is_equal


def assert_refused(answer: Response, status: int) -> None:
    """Check a refusal by the server itself: it has the application's error body and is readable for all origins."""
    assert (answer.status, error(answer)) == (status, "InvalidInput")
    assert answer.headers["access-control-allow-origin"] == "*"


class TestMalformedRequestsAreRefused:
    @pytest.mark.parametrize("length", [8_000, 8_190, 10_000, 100_000, 1_000_000])
    def test_long_ids(self, server: Server, length: int) -> None:
        with socket.create_connection((server.host, server.port), timeout=TIMEOUT) as connection:
            # The server may stop reading before the whole line is sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"GET /reads/" + b"a" * length + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            response = HTTPResponse(connection)
            response.begin()
            body = response.read()
        answer = Response(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        if length < 8_190 - len("GET /reads/ HTTP/1.1"):
            assert (answer.status, error(answer)) == (404, "NotFound")
        else:
            assert_refused(answer, 414)
        assert server.is_healthy()

    def test_long_headers(self, server: Server) -> None:
        assert_refused(get(server, "/reads/big", "Host: localhost", "X-Long: " + "a" * 9_000), 431)

    def test_too_many_headers(self, server: Server) -> None:
        assert_refused(get(server, "/reads/big", "Host: localhost", *(f"X-{number}: x" for number in range(500))), 431)

    @pytest.mark.parametrize("line", [b"GET /reads/\xff\x00\x01 HTTP/1.1", b"GET", b"GET / HTTP/9", b"g{t / HTTP/1.1"])
    def test_an_invalid_request_line(self, server: Server, line: bytes) -> None:
        assert_refused(raw(server, line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 400)

    def test_refusals_have_no_cors_headers_unless_all_origins_are_allowed(
        self, serve: Serve, big_folder: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "some.yaml"
        path.write_text(
            f"storages: {{a: {{type: local, root: {big_folder}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
            f"cors: {{origins: ['https://other.example']}}\n"
        )
        answer = get(serve("--config", path), "/reads/big", "Host: localhost", "X-Long: " + "a" * 9_000)
        assert (answer.status, error(answer)) == (431, "InvalidInput")
        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("chunks", [b"x\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}xx0\r\n\r\n"])
    def test_nonsense_chunks(self, server: Server, chunks: bytes) -> None:
        before = server.log()
        answer = raw(server, POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
        assert (answer.status, error(answer)) == (400, "InvalidInput")
        assert server.log() == before

    @pytest.mark.parametrize(
        "fragment",
        [b"Transfer-Encoding: chunked\r\n\r\n99\r\n{", b"Content-Length: 99\r\n\r\n{"],
        ids=["chunked", "plain"],
    )
    def test_a_body_that_ends_early(self, server: Server, fragment: bytes) -> None:
        before = server.log()
        with socket.create_connection((server.host, server.port), timeout=TIMEOUT) as connection:
            connection.sendall(POST + fragment)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                received = answer.read()
        assert received.startswith(b"HTTP/1.1 400 ") and b"ends early" in received
        assert server.log() == before

    @pytest.mark.parametrize("length", [1 << 20, (1 << 20) + 1, 3 << 20])
    def test_a_long_body_in_chunks(self, server: Server, length: int) -> None:
        connection = HTTPConnection(server.host, server.port, timeout=TIMEOUT)
        try:
            body = b'{"class": "header"}'.ljust(length)
            buffers = (body[start : start + 100_000] for start in range(0, length, 100_000))
            connection.request("POST", "/reads/big", buffers, {"Content-Type": "application/json"})
            answer = read(connection)
            if length <= 1 << 20:
                assert answer.status == 200
            else:
                assert (answer.status, error(answer)) == (413, "PayloadTooLarge")
            assert send(connection, "GET", "/reads/big?class=header").status == 200
        finally:
            connection.close()

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
    @pytest.mark.parametrize("target", ["/reads/big", "/health"])
    def test_other_methods(self, server: Server, method: str, target: str) -> None:
        answer = ask(server, method, target)
        assert (answer.status, error(answer)) == (405, "InvalidInput")
        assert {"GET", "HEAD", "OPTIONS"} <= {name.strip() for name in answer.headers["allow"].split(",")}

    def test_no_http_at_all(self, server: Server) -> None:
        assert raw(server, b"hello\r\n\r\n").status == 400

    @pytest.mark.parametrize("length", ["-1", "x", "1,2", "0x10"])
    def test_nonsense_lengths(self, server: Server, length: str) -> None:
        head = POST + f"Content-Length: {length}\r\n".encode()
        assert raw(server, head + b"Connection: close\r\n\r\n{}").status == 400

    @pytest.mark.parametrize(
        "block_name",
        [
            "0-0",
            "5-3",
            "0-99999999999",
            "0-9999999999999999999",
            "99999999999999999999-1",
            "-5",
            "5-",
            "x",
            "0.0",
            "%00",
            "0-5%0a",
            "0.5-3",
            "0.5-0.3",
            "0.5-0.5",
            "0.0-0.65536",
            "0.1-99999999.0",
            "99999999.0-99999999.5",
            "0.0-999999999999999.0",
            "0.0-99999999999999999999.0",
        ],
    )
    def test_block_urls_that_no_ticket_contains(self, server: Server, block_name: str) -> None:
        before = block_url(server).rpartition("/reads/BAM/")[0].rpartition("/")[0]
        answer = get(server, f"{urlsplit(before).path}/{block_name}/reads/BAM/big", "Host: localhost")
        assert (answer.status, error(answer)) == (404, "NotFound")

    @pytest.mark.parametrize("block_name", ["1.0-1.5", "0.0-0.65000", "0.1-3.0", "0.1-9.1"])
    def test_block_urls_that_only_a_wrong_index_causes(self, server: Server, block_name: str) -> None:
        before = block_url(server).rpartition("/reads/BAM/")[0].rpartition("/")[0]
        answer = get(server, f"{urlsplit(before).path}/{block_name}/reads/BAM/big", "Host: localhost")
        assert (answer.status, error(answer)) == (500, "InternalServerError")
        assert "big.bam: " in server.log()
