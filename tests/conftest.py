"""Every test writes to temporary folders only and uses no network.

Nothing of the package is imported here: `make unit` pays for what each test imports.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each changes what the server under test, or a client of it, does.
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
    """Set the tests' own cache folder and home; no proxy, no AWS account, and no reference path for htslib."""
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
    """The example data, which all processes of a run share: no test may change it."""
    from htsget_flask.commands.demo import write_demo

    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours
    with (shared / "demo.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_demo(shared / "demo")
    return shared / "demo"
