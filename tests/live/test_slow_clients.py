"""Clients that are idle or slow for as long as the server permits: it continues to answer all others."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.live.fronts import make_certificate
from tests.support.live.server import Server, configured
from tests.support.live.tools import write_config

pytestmark = pytest.mark.live

# More clients of each kind than the server handles at once.
THREADS, EACH = 2, 6
LIMITS = """
class ShortLimits(Worker):
    limits = Limits(headers=3, body=8, silence=3)

settings |= {"worker_class": ShortLimits, "threads": 2}
"""
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\n"
GET = HALF + b"\r\n"
POST = b"POST /reads/big HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
BIG = b"GET /files/here/big.bam HTTP/1.1\r\nHost: x\r\n%s\r\n"
BODY = b'{"class":"header"}  '


@pytest.fixture(scope="module")
def config(big_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a server of the large file."""
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    return write_config(path, big_folder, "files: {storages: [here]}")


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest, config: Path, tmp_path: Path) -> Iterator[Server]:
    """A server with short limits and few threads."""
    certificate = make_certificate(tmp_path) if request.param == "tls" else None
    with configured(LIMITS, config, folder=tmp_path, certificate=certificate) as server:
        yield server


def connected(server: Server, message: bytes) -> socket.socket:
    """A connection on which the client has sent a message, with a small receive buffer."""
    connection = server.connect(receive_buffer=1 << 16)
    connection.sendall(message)
    return connection


def connected_with_half(server: Server) -> socket.socket:
    """A connection with one answered request, and with half of another one sent."""
    connection = connected(server, GET)
    answer = b""
    while not answer.endswith(b"ok\n"):
        answer += connection.recv(1000)
    connection.sendall(HALF)
    return connection


def bare(server: Server) -> socket.socket:
    """A connection without any byte sent, not even those of TLS."""
    return socket.create_connection((server.host, server.port), timeout=30)


IDLE: dict[str, Callable[[Server], socket.socket]] = {
    "nothing": bare,
    "half of the headers": lambda server: connected(server, HALF),
    "half of the next headers": connected_with_half,
    "a byte of a body": lambda server: connected(server, POST % 1000 + b"{"),
    "an answer that is not read": lambda server: connected(server, BIG % b""),
}


def read_to_end(connection: socket.socket) -> bytes:
    """The bytes that arrive until the server closes or resets the connection."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


def is_reset(connection: socket.socket) -> bool:
    """Whether the server resets in time a connection from which the client reads nothing."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(30_000))


def drip(server: Server, length: int) -> bytes:
    """The answer to a body of `length` bytes that is sent byte by byte, four per second."""
    with connected(server, POST % length) as connection:
        connection.settimeout(0.25)
        for byte in BODY.ljust(length):
            connection.sendall(bytes([byte]))
            try:
                return connection.recv(1 << 16)
            except TimeoutError:
                continue
        connection.settimeout(30)
        return connection.recv(1 << 16)


def read_slowly(server: Server, length: int) -> bytes:
    """A range of the large file, read for longer than the server waits for a client that reads nothing."""
    received = bytearray()
    with connected(server, BIG % b"Range: bytes=1000-%d\r\nConnection: close\r\n" % (999 + length)) as connection:
        while data := connection.recv(1 << 16):
            received += data
            time.sleep(len(data) / 3_000_000)
    return bytes(received).partition(b"\r\n\r\n")[2]


class TestIdleClients:
    def test_the_server_answers_meanwhile_and_closes_them(self, server: Server, big_folder: Path) -> None:
        length = 16 << 20
        with ThreadPoolExecutor(4) as pool:
            slow_reader = pool.submit(read_slowly, server, length)
            slow_upload = pool.submit(drip, server, len(BODY))
            endless_upload = pool.submit(drip, server, 1000)
            idle = [(name, make(server)) for name, make in IDLE.items() for _ in range(EACH)]
            assert all(server.is_healthy() for _ in range(5))
            assert all(is_reset(connection) for name, connection in idle if name == "an answer that is not read")
            answers = {name: read_to_end(connection) for name, connection in idle}
            for _, connection in idle:
                connection.close()
            assert server.is_healthy()
            assert slow_upload.result().startswith(b"HTTP/1.1 200")
            assert endless_upload.result().startswith(b"HTTP/1.1 408")
            is_equal = slow_reader.result() == (big_folder / "big.bam").read_bytes()[1000 : 1000 + length]
            assert is_equal
        assert answers["nothing"] == answers["half of the headers"] == answers["half of the next headers"] == b""
        assert answers["a byte of a body"].startswith(b"HTTP/1.1 408")
        assert len(answers["an answer that is not read"]) < 40_000_000
        assert server.log() == ""

    def test_those_that_do_not_close_delay_no_others(self, server: Server) -> None:
        done = [connected(server, b"GET /health HTTP/1.0\r\n\r\n") for _ in range(30)]
        assert all(server.is_healthy() for _ in range(5))
        for connection in done:
            assert read_to_end(connection).startswith(b"HTTP/1.0 200")
            connection.close()


class TestMoreConnectionsThanAWorkerKeeps:
    @pytest.mark.parametrize("message", [GET, None], ids=["kept", "silent"])
    def test_new_ones_are_answered(self, config: Path, tmp_path: Path, message: bytes | None) -> None:
        few = 'settings |= {"worker_connections": 20, "threads": 4}'
        with configured(few, config, folder=tmp_path) as server:
            idle = [bare(server) if message is None else connected(server, message) for _ in range(40)]
            assert all(server.is_healthy() for _ in range(5))
            for connection in idle:
                connection.close()
