"""The servers and files that live tests share."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pysam
import pytest

from tests.support import files
from tests.support.faulty import FaultyProxy, faulty_proxy
from tests.support.issuer import Issuer, serving_issuer
from tests.support.live.browser import chromium
from tests.support.live.server import Server, serving
from tests.support.live.wire import ORIGIN
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class Serve(Protocol):
    """Starts servers and stops them at the end of the module."""

    def __call__(self, *arguments: object, host: str = "127.0.0.1", bind: str | None = None) -> Server:
        """Start `htsget-flask serve` with these arguments."""
        ...


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts servers for one module."""
    servers: list[Server] = []
    with ExitStack() as stack:

        def start(*arguments: object, host: str = "127.0.0.1", bind: str | None = None) -> Server:
            folder = tmp_path_factory.mktemp("server")
            servers.append(stack.enter_context(serving(*arguments, folder=folder, host=host, bind=bind)))
            return servers[-1]

        yield start
        # All of them first, so that they exit in parallel.
        for server in servers:
            server.process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser; each test opens its own pages."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A token issuer with its HTTP server."""
    with serving_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def proxy(versitygw: S3Server) -> Iterator[FaultyProxy]:
    """A proxy in front of versitygw that counts requests and can inject faults."""
    with faulty_proxy(versitygw.endpoint) as proxy:
        yield proxy


@pytest.fixture
def _quiet_htslib() -> Iterator[None]:
    """No messages from pysam's htslib."""
    verbosity = pysam.set_verbosity(0)
    yield
    pysam.set_verbosity(verbosity)


@pytest.fixture(scope="session")
def demo_server(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the example data that allows the pages of one origin."""
    with serving(demo_folder, "--origin", ORIGIN, folder=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The paths of files of all layouts, by the names of the functions that write them."""
    folder = tmp_path_factory.mktemp("odd")
    return {name: make(folder) for name, make in files.GOOD.items()}


@pytest.fixture(scope="session")
def odd_server(odd_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of files of all layouts."""
    with serving(next(iter(odd_files.values())).parent, folder=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def big_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One BAM file, `big.bam`, of about 40 MB: far more than fits into the buffers of two sockets."""
    folder = tmp_path_factory.mktemp("big")
    path = folder / "big.bam"
    rng = random.Random("big")
    reference = files.Reference("chr1", 200_000_000)
    starts = range(0, reference.length - 20_000, 150_000)
    reads = (files.Read(f"r{start}", 0, 0, start, ((files.MATCH, 20_000),), 20_000) for start in starts)
    header = files.bam_header([reference])
    data = b"".join(files.bam_record(read, rng) for read in reads)
    files.write_bgzf(path, [header, *files.cut(data, files.MAX_BLOCK_DATA)], level=0)
    files.make_index(path)
    return folder
