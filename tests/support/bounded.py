"""Work in a separate process with limited processor time and measured memory."""

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
    """The text of the work's result, or the message of its FormatError or FileFaultError.

    `mib`: the growth of the process's peak resident memory during the work, in MiB.
    """

    text: str
    mib: int


def outcome(work: Callable[[Path], object], path: Path, *, seconds: int = 20) -> Outcome:
    """The outcome of a module's function for a path; the process is killed after `seconds` of processor time."""
    command = [sys.executable, "-m", __name__, work.__module__, work.__name__, str(path), str(seconds)]
    process = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, (process.returncode, process.stderr[-2000:])
    text, _, mib = process.stdout.rpartition("\n")
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
