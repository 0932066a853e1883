"""Unit tests are pure; a test that starts a process or listens on a socket is marked `slow`."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent
_FORBIDDEN = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "socket.bind"})


class _Purity:
    """An audit hook. Python cannot remove one again, so it acts only while a pure test runs."""

    is_on = False

    def __call__(self, event: str, _: tuple[object, ...]) -> None:
        if self.is_on and event in _FORBIDDEN:
            raise AssertionError(f"{event} in a test that is not marked `slow`")


_PURITY = _Purity()
sys.addaudithook(_PURITY)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse processes and servers to unit tests and their fixtures where `slow` tests are deselected: `make unit`."""
    # pytest calls this for tests of other folders too.
    _PURITY.is_on = item.config.option.markexpr == "not slow" and item.path.is_relative_to(_FOLDER)
    try:
        return (yield)
    finally:
        _PURITY.is_on = False
