"""CRAM under grants of regions, with real clients: samtools reads the answer without a reference."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support import referenced
from tests.support.guarded import SECRET, auth
from tests.support.issuer import Issuer, Key
from tests.support.live.server import Server, serving, wait_until
from tests.support.live.tools import lines, view
from tests.support.live.wire import get_as
from tests.support.processes import children, has_ended, memory

pytestmark = pytest.mark.live

NAMES = ("version_2_1", "version_3_0", "version_3_1", "several_references")
NAME, START, END = "chr1", 20_000, 60_000
# A dataset with more pairs.
MANY = "many"


class Served(NamedTuple):
    """A server of CRAM files, the paths of the files and their reference, and a token that grants regions of them."""

    server: Server
    folder: Path
    reference: Path
    temporary: Path
    token: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a grant of a region of each file."""
    top = tmp_path_factory.mktemp("grants")
    folder, temporary = top / "data", top / "temporary"
    folder.mkdir()
    temporary.mkdir()
    reference = referenced.write_reference(folder / "reference.fa")
    for name in NAMES:
        referenced.write_cram(name, folder / f"{name}.cram", reference)
    referenced.write_cram("version_3_0", folder / f"{MANY}.cram", reference, times=40)
    issuer = Issuer(keys=[Key("one", "ES256")])
    rules = [
        {"ids": [*NAMES], "regions": [{"reference": NAME, "start": START, "end": END}]},
        {"ids": [MANY], "regions": [{"reference": NAME}]},
    ]
    content = {
        "storages": {"data": {"type": "local", "root": str(folder)}},
        "datasets": [{"prefix": "", "storage": "data"}],
        "refget": {"fastas": [{"storage": "data", "prefix": ""}]},
        "auth": auth(folder, issuer, rules),
    }
    path = top / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    environment = {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(top / "cache")}
    with serving("--config", path, folder=top, environment=environment) as server:
        yield Served(server, folder, reference, temporary, issuer.token("ES256"))


class TestSamtools:
    @pytest.mark.parametrize("name", NAMES)
    def test_reads_the_records_of_the_region_unchanged(
        self, served: Served, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = served.folder / f"{name}.cram"
        region = f"{NAME}:{START + 1}-{END}"
        expected = lines("samtools", "view", "-T", served.reference, path, region, cwd=tmp_path)
        monkeypatch.setenv("HTS_ALLOW_UNENCRYPTED_AUTHORIZATION_HEADER", "I understand the risks")
        monkeypatch.setenv("HTS_AUTH_LOCATION", str(tmp_path / "token"))
        (tmp_path / "token").write_text(served.token)
        monkeypatch.setenv("REF_PATH", os.devnull)
        monkeypatch.setenv("REF_CACHE", os.devnull)
        url = f"{served.server.url}/reads/{name}"
        assert view(url, cwd=tmp_path) == expected != []
        inner = view(f"{url}?referenceName={NAME}&start={START + 5000}&end={START + 6000}", cwd=tmp_path)
        narrow = f"{NAME}:{START + 5001}-{START + 6000}"
        assert inner == lines("samtools", "view", "-T", served.reference, path, narrow, cwd=tmp_path) != []


def temporary_files(served: Served) -> list[str]:
    """The server's open temporary files."""
    return sorted(name for name in served.server.open_files() if str(served.temporary) in name)


class TestAClientThatDisconnects:
    def test_leaves_nothing_open(self, served: Served) -> None:
        path, target = str(served.folder / f"{MANY}.cram"), records_url(served, MANY)
        # gunicorn has temporary files too.
        before = temporary_files(served)
        stopped = [process for process in decoders(served) if not has_ended(process)]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        with served.server.connect(receive_buffer=4096) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert wait_until(lambda: path in served.server.open_files() and temporary_files(served) != before)
        for process in stopped:
            os.kill(process, signal.SIGCONT)
        assert wait_until(lambda: path not in served.server.open_files() and temporary_files(served) == before)
        assert wait_until(lambda: list(served.temporary.iterdir()) == [])


def records_url(served: Served, name: str) -> str:
    """The path and query of the data block with the records of a CRAM file."""
    ticket = json.loads(get_as(served.server, f"/reads/{name}", served.token).body)
    (url,) = [entry["url"] for entry in ticket["htsget"]["urls"] if "/records-" in entry["url"]]
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def decoders(served: Served) -> set[int]:
    """The workers' processes that decode CRAM."""
    return set().union(*map(children, served.server.workers()))


@pytest.fixture
def connection(served: Served) -> Iterator[HTTPConnection]:
    """A connection: one worker answers all of its requests."""
    with closing(HTTPConnection(served.server.host, served.server.port, timeout=60)) as connection:
        yield connection


def get(connection: HTTPConnection, path: str) -> tuple[int, bytes]:
    """Status and body of an answer."""
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


class TestTheDecoder:
    def test_fails_only_one_request_when_it_crashes(self, served: Served, connection: HTTPConnection) -> None:
        path = records_url(served, "version_3_0")
        earlier = decoders(served)
        for process in earlier:
            os.kill(process, signal.SIGKILL)
        assert wait_until(lambda: not decoders(served) & earlier or all(map(has_ended, earlier)))
        status, expected = get(connection, path)
        assert status == 200
        # A decoder may end before it receives the file: then the next one decodes it, and the request succeeds.
        for _ in range(10):
            (decoder,) = {process for process in decoders(served) if not has_ended(process)}
            log = served.server.log()
            status, body = crash(served, connection, decoder, path)
            if status != 200:
                break
            assert body == expected
        assert status == 500
        assert b"SIGSEGV" in body and str(served.folder).encode() not in body
        assert get(connection, path) == (200, expected)
        (line,) = served.server.log().removeprefix(log).splitlines()
        assert str(served.folder / "version_3_0.cram") in line and "SIGSEGV" in line

    @pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of processes, as only root may")
    def test_has_no_secret(self, served: Served, connection: HTTPConnection) -> None:
        assert get(connection, records_url(served, "version_3_0"))[0] == 200
        (decoder, *_) = {process for process in decoders(served) if not has_ended(process)}
        (worker,) = {worker for worker in served.server.workers() if decoder in children(worker)}
        assert SECRET.encode() in memory(worker)
        assert SECRET.encode() not in memory(decoder)
        assert served.token.encode() not in memory(decoder)
        names = sorted(os.readlink(link).partition(":")[0] for link in Path(f"/proc/{decoder}/fd").iterdir())
        assert names == ["/dev/null", "/dev/null", "socket"]
        environment = Path(f"/proc/{decoder}/environ").read_text(encoding="utf-8").split("\0")
        variables = {entry.partition("=")[0] for entry in environment if entry}
        assert variables - {"LD_LIBRARY_PATH"} == {"OPENBLAS_NUM_THREADS", "REF_PATH", "REF_CACHE"}


def crash(served: Served, connection: HTTPConnection, decoder: int, path: str) -> tuple[int, bytes]:
    """The answer to a request whose decoder crashes; another request is answered meanwhile."""
    os.kill(decoder, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        before = len(temporary_files(served))
        answer = pool.submit(get, connection, path)
        is_waiting = wait_until(lambda: len(temporary_files(served)) > before)
        time.sleep(0.2)
        assert served.server.is_healthy()
        os.kill(decoder, signal.SIGSEGV)
        os.kill(decoder, signal.SIGCONT)
        assert is_waiting
        return answer.result(60)
