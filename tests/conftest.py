"""What holds for all tests: they write to temporary folders only, and ask nothing of any network."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from htsget_flask.commands.demo import write_demo
from tests.support.s3 import KINDS, S3Server, serving_s3

# Each would change what the server under test, or a client of it, does.
_VARIABLES = (
    "HTSGET_FLASK_CONFIG",
    "GUNICORN_CMD_ARGS",
    "FORWARDED_ALLOW_IPS",
    "WEB_CONCURRENCY",
    "SCRIPT_NAME",
    "SENDFILE",
    "HTS_AUTH_LOCATION",
)


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder and a home of the tests' own, no proxy, and no place where htslib looks for references."""
    folder = tmp_path_factory.mktemp("surroundings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("HOME", str(folder))
        patch.setenv("REF_PATH", os.devnull)
        patch.setenv("REF_CACHE", os.devnull)
        for name in list(os.environ):
            if name in _VARIABLES or name.startswith("AWS_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example data, which no test may change; all processes of a run share it."""
    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours
    with (shared / "demo.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_demo(shared / "demo")
    return shared / "demo"


@pytest.fixture(scope="session")
def _start_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """How to get the S3 server of a kind, which is started once."""
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
    """The S3 server that is nearest to AWS."""
    return _start_s3("versitygw")
