"""Work in a process of its own whose processor time is limited and whose memory is measured."""

import importlib
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from htsget_flask.errors import FileFaultError, FormatError

_ROOT = Path(__file__).parents[2]
_KIB = 1 << 10


class Outcome(NamedTuple):
    """What the work returned, or the message of the FormatError or FileFaultError that it raised.

    `mib`: how much the process's largest resident memory grew by the work.
    """

    text: str
    mib: int


def outcome(work: Callable[[Path], object], path: Path, *, seconds: int = 20) -> Outcome:
    """The outcome of a function of a module on a path; the process is killed after `seconds` of processor time."""
    command = [sys.executable, "-m", __name__, work.__module__, work.__name__, str(path), str(seconds)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    text, _, mib = done.stdout.rpartition("\n")
    return Outcome(text, int(mib))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB


def _main(module: str, name: str, path: str, seconds: str) -> None:
    work = getattr(importlib.import_module(module), name)
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + int(seconds), used + int(seconds)))
    before = _peak()
    try:
        text = str(work(Path(path)))
    except (FormatError, FileFaultError) as error:
        text = str(error)
    sys.stdout.write(f"{text}\n{_peak() - before}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
