"""What holds for all tests: they write to temporary folders only, and ask nothing of any network."""

import os
from collections.abc import Iterator

import pytest

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
            if name in _VARIABLES or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield
