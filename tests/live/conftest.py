"""The servers and files that live tests share."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pysam
import pytest

from tests.support import files, referenced
from tests.support.faulty import FaultyProxy, faulty_proxy
from tests.support.files.bam import MATCH, Read, Reference, bam_header, bam_record
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf
from tests.support.files.indexes import make_index
from tests.support.issuer import Issuer, serving_issuer
from tests.support.live.browser import chromium
from tests.support.live.server import Server, serving
from tests.support.live.tools import write_config
from tests.support.live.wire import ORIGIN
from tests.support.s3 import KINDS, S3Server, serving_s3

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


class Alone(NamedTuple):
    """A server of datasets with one format each: CRAM, or BCF.

    `NA00001` and `cohort` are those of the example data, `referenced` is a CRAM file that needs `reference`.
    """

    server: Server
    folder: Path
    reference: Path


@pytest.fixture(scope="session")
def alone(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """Datasets whose other formats the server makes."""
    top = tmp_path_factory.mktemp("alone")
    folder = top / "data"
    folder.mkdir()
    for name in ("NA00001.cram", "NA00001.cram.crai", "cohort.bcf", "cohort.bcf.csi", "demo.fa", "demo.fa.fai"):
        shutil.copy2(demo_folder / name, folder)
    reference = referenced.write_reference(folder / "reference.fa")
    referenced.write_cram("version_3_0", folder / "referenced.cram", reference)
    config = write_config(top / "config.yaml", folder, "refget: {fastas: [{storage: here, prefix: ''}]}")
    environment = {"XDG_CACHE_HOME": str(top / "cache")}
    with serving("--config", config, folder=top, environment=environment) as server:
        yield Alone(server, folder, reference)


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
    reference = Reference("chr1", 200_000_000)
    starts = range(0, reference.length - 20_000, 150_000)
    reads = (Read(f"r{start}", 0, 0, start, ((MATCH, 20_000),), 20_000) for start in starts)
    header = bam_header([reference])
    data = b"".join(bam_record(read, rng) for read in reads)
    write_bgzf(path, [header, *cut(data, MAX_BLOCK_DATA)], level=0)
    make_index(path)
    return folder


@pytest.fixture(scope="session")
def _start_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Start the S3 server of a kind, once for all tests of this process."""
    servers: dict[str, S3Server] = {}
    with ExitStack() as stack:

        def start(name: str) -> S3Server:
            if name not in servers:
                servers[name] = stack.enter_context(serving_s3(KINDS[name], tmp_path_factory.mktemp(name)))
            return servers[name]

        yield start


@pytest.fixture(scope="session", params=KINDS)
def s3_server(request: pytest.FixtureRequest, _start_s3: Callable[[str], S3Server]) -> S3Server:
    """A real S3 server: one of each kind, or those that a test names.

    To name them: `@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)`.
    """
    return _start_s3(request.param)


@pytest.fixture(scope="session")
def versitygw(_start_s3: Callable[[str], S3Server]) -> S3Server:
    """The S3 server that is closest to AWS."""
    return _start_s3("versitygw")
