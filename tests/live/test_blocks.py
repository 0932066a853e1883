"""Data blocks that gunicorn delivers: ranges, preconditions, and bytes that the kernel sends."""

import concurrent.futures
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.live.conftest import Serve
from tests.support.client import BGZF_EOF, Response, fetch, fetch_ticket
from tests.support.live.server import Server
from tests.support.live.tools import run, write_config
from tests.support.live.wire import ask, error, send, urls

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(serve: Serve, big_folder: Path) -> Server:
    """A server of the large file."""
    return serve(big_folder)


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """A block URL for most of the large file."""
    (url,) = urls(ask(server, "GET", "/reads/big"))
    return url


@pytest.fixture(scope="module")
def block(server: Server, url: str, big_folder: Path) -> bytes:
    """The content of the block, which has to be a part of the file."""
    answer = ask(server, "GET", url)
    assert answer.status == 200
    assert len(answer.body) > 30_000_000
    # The file without its header.
    is_end = (big_folder / "big.bam").read_bytes().endswith(answer.body + BGZF_EOF)
    assert is_end
    return answer.body


@pytest.fixture(scope="module")
def etag(server: Server, url: str) -> str:
    """The block's validator."""
    return ask(server, "HEAD", url).headers["etag"]


class TestARangeReturnsExactlyItsBytes:
    @pytest.mark.parametrize(
        ("first", "last"),
        [
            (0, 0),
            (0, 1),
            (0, 99_999),
            (1, 65_536),
            (1, 65_537),
            (12_345_678, 12_345_678),
            (12_345_678, 12_400_000),
            (20_000_000, 29_999_999),
        ],
    )
    def test_from_start_to_end(self, server: Server, url: str, block: bytes, first: int, last: int) -> None:
        answer = ask(server, "GET", url, Range=f"bytes={first}-{last}")
        check_part(answer, block, first, last + 1)

    @pytest.mark.parametrize("length", [1, 28, 65_536, 65_537, 10_000_000])
    def test_the_last_bytes(self, server: Server, url: str, block: bytes, length: int) -> None:
        start = len(block) - length
        check_part(ask(server, "GET", url, Range=f"bytes=-{length}"), block, start, len(block))
        check_part(ask(server, "GET", url, Range=f"bytes={start}-"), block, start, len(block))
        check_part(ask(server, "GET", url, Range=f"bytes={start}-{len(block) + 10}"), block, start, len(block))

    def test_more_than_there_is(self, server: Server, url: str, block: bytes) -> None:
        check_part(ask(server, "GET", url, Range="bytes=0-"), block, 0, len(block))
        check_part(ask(server, "GET", url, Range="bytes=-99999999999"), block, 0, len(block))

    def test_one_connection_for_many_ranges(self, server: Server, url: str, block: bytes) -> None:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
        try:
            send(connection, "HEAD", urlsplit(url).path)
            socket = connection.sock
            for start in range(0, len(block), 7_000_000):
                answer = send(connection, "GET", urlsplit(url).path, Range=f"bytes={start}-{start + 99_999}")
                check_part(answer, block, start, min(start + 100_000, len(block)))
            assert connection.sock is socket is not None
        finally:
            connection.close()

    def test_many_clients_at_once(self, server: Server, url: str, block: bytes) -> None:
        starts = range(0, len(block), 2_000_000)
        with concurrent.futures.ThreadPoolExecutor(len(starts)) as pool:
            answers = pool.map(
                lambda start: ask(server, "GET", url, Range=f"bytes={start}-{start + 3_000_000}"), starts
            )
            for start, answer in zip(starts, answers, strict=True):
                check_part(answer, block, start, min(start + 3_000_001, len(block)))

    def test_as_curl_resumes(self, server: Server, url: str, block: bytes, tmp_path: Path) -> None:
        (tmp_path / "part").write_bytes(block[:20_000_000])
        run("curl", "--silent", "--show-error", "--fail", "--continue-at", "-", "--output", "part", url, cwd=tmp_path)
        assert (tmp_path / "part").read_bytes() == block


def check_part(answer: Response, block: bytes, start: int, end: int) -> None:
    """Check that an answer is a part of the block, with status 206 and its Content-Range."""
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(block)}"
    assert answer.headers["content-length"] == str(end - start)
    assert "content-encoding" not in answer.headers
    # Compared outside the assertion: pytest would take minutes to print the difference.
    is_equal = answer.body == block[start:end]
    assert is_equal


def check_whole(answer: Response, block: bytes) -> None:
    """Check that an answer is the whole block."""
    assert answer.status == 200
    assert "content-range" not in answer.headers
    assert answer.headers["accept-ranges"] == "bytes"
    is_equal = answer.body == block
    assert is_equal


class TestAnIgnoredRangeReturnsTheWholeBlock:
    @pytest.mark.parametrize(
        "value", ["bytes=0-1,5-6", "records=0-1", "bytes=x-1", "bytes=5-1", "bytes=", "bytes", "bytes=-", "bytes=1"]
    )
    def test_several_parts_another_unit_or_malformed(self, server: Server, url: str, block: bytes, value: str) -> None:
        check_whole(ask(server, "GET", url, Range=value), block)

    @pytest.mark.parametrize("value", ['"another"', 'W/"x"', "Sun, 01 Jan 2040 00:00:00 GMT", ""])
    def test_of_another_version(self, server: Server, url: str, block: bytes, value: str) -> None:
        check_whole(ask(server, "GET", url, Range="bytes=0-1", If_Range=value), block)

    def test_the_weak_validator(self, server: Server, url: str, block: bytes, etag: str) -> None:
        check_whole(ask(server, "GET", url, Range="bytes=0-1", If_Range=f"W/{etag}"), block)

    def test_but_a_range_of_this_version_is_honoured(self, server: Server, url: str, block: bytes, etag: str) -> None:
        check_part(ask(server, "GET", url, Range="bytes=0-1", If_Range=etag), block, 0, 2)


class TestARangePastTheEndIsRefused:
    @pytest.mark.parametrize("beyond", [0, 1, 10**12])
    def test_with_the_length(self, server: Server, url: str, block: bytes, beyond: int) -> None:
        answer = ask(server, "GET", url, Range=f"bytes={len(block) + beyond}-")
        assert (answer.status, error(answer)) == (416, "InvalidRange")
        assert answer.headers["content-range"] == f"bytes */{len(block)}"

    def test_also_the_last_no_bytes(self, server: Server, url: str, block: bytes) -> None:
        # RFC 9110 14.1.2: a suffix of length 0 is unsatisfiable.
        answer = ask(server, "GET", url, Range="bytes=-0")
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(block)}")


class TestPreconditionsComeFirst:
    def test_not_modified(self, server: Server, url: str, etag: str) -> None:
        for fields in ({"If_None_Match": etag}, {"If_None_Match": f'"x", W/{etag}'}, {"If_None_Match": "*"}):
            for more in ({}, {"Range": "bytes=0-1"}):
                answer = ask(server, "GET", url, **fields, **more)
                assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)

    def test_failed(self, server: Server, url: str) -> None:
        answer = ask(server, "GET", url, If_Match='"another"', Range="bytes=0-1")
        assert (answer.status, error(answer)) == (412, "InvalidInput")

    def test_held(self, server: Server, url: str, block: bytes, etag: str) -> None:
        check_part(ask(server, "GET", url, If_Match=etag, Range="bytes=5-6"), block, 5, 7)
        check_whole(ask(server, "GET", url, If_None_Match='"another"'), block)


class TestHeadReportsWhatGetWouldSend:
    def test_of_a_block(self, server: Server, url: str, block: bytes) -> None:
        answer = ask(server, "HEAD", url)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == str(len(block))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "application/octet-stream"

    def test_of_a_ticket(self, server: Server) -> None:
        head, get = (ask(server, method, "/reads/big") for method in ("HEAD", "GET"))
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(get.body))
        assert head.headers["content-type"] == get.headers["content-type"]

    def test_of_an_unknown_id(self, server: Server) -> None:
        answer = ask(server, "HEAD", "/reads/none")
        assert (answer.status, answer.body) == (404, b"")


class TestAFileIsDeliveredToTheByte:
    def test_in_one_block(self, server: Server, big_folder: Path) -> None:
        is_equal = fetch(server.http, "/reads/big") == (big_folder / "big.bam").read_bytes()
        assert is_equal

    @pytest.mark.parametrize("never_inline", [False, True])
    def test_in_many_blocks(self, serve: Serve, big_folder: Path, tmp_path: Path, never_inline: bool) -> None:
        settings = f"htsget: {{block_size: {1 << 20}, never_inline: {str(never_inline).lower()}}}"
        path = write_config(tmp_path / "config.yaml", big_folder, settings)
        server = serve("--config", path)
        ticket = fetch_ticket(server.http, "/reads/big")
        inline = [entry["url"].startswith("data:") for entry in ticket["htsget"]["urls"]]
        assert len(inline) > 30
        assert any(inline) != never_inline
        is_equal = fetch(server.http, "/reads/big") == (big_folder / "big.bam").read_bytes()
        assert is_equal
