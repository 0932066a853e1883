"""Requests to other services end in time."""

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from htsget_flask.auth.http_client import JsonClient, RefusedError, UpstreamError
from tests.support.hostile import HOSTILE, OK, flood, hostile_server, send


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The outcome of a call, which has to end in this time."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "no end"
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


@pytest.mark.slow
class TestAnAnswerEndsInTime:
    @pytest.mark.parametrize("name", sorted(HOSTILE))
    def test_whatever_a_service_does(self, name: str) -> None:
        with hostile_server(HOSTILE[name]) as url, pytest.raises(UpstreamError) as caught:
            within(20, lambda: JsonClient(0.3).fetch(f"{url}?secret"))
        assert "secret" not in str(caught.value) and url in str(caught.value)

    def test_the_next_request_has_its_own_time(self) -> None:
        client = JsonClient(0.3)
        with hostile_server(HOSTILE["a slow body"]) as url:
            for _ in range(2):
                with pytest.raises(UpstreamError):
                    within(20, lambda: client.fetch(url))
        with hostile_server(send(OK + b"Content-Length: 2\r\n\r\n{}")) as url:
            assert within(20, lambda: client.fetch(url)) == {}

    def test_a_refusal_with_an_endless_body(self) -> None:
        with hostile_server(HOSTILE["a refusal without an end"]) as url, pytest.raises(RefusedError):
            within(20, lambda: JsonClient(0.3).fetch(url))

    def test_without_much_memory(self) -> None:
        with hostile_server(flood(OK + b"\r\n", b" " * 65_536)) as url:
            tracemalloc.start()
            try:
                with pytest.raises(UpstreamError, match="more than 4194304 bytes"):
                    within(20, lambda: JsonClient(5).fetch(url))
                assert tracemalloc.get_traced_memory()[1] < 16 << 20
            finally:
                tracemalloc.stop()


@pytest.mark.slow
class TestConnectionsAreReused:
    def test_after_a_whole_body(self) -> None:
        connections = 0

        def behave(connection: Any, ended: threading.Event) -> None:
            nonlocal connections
            connections += 1
            for _ in range(3):
                connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
                if not connection.recv(65_536):
                    return

        client = JsonClient(5)
        with hostile_server(behave) as url:
            for _ in range(3):
                assert within(20, lambda: client.fetch(url)) == {}
        assert connections == 1
