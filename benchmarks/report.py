"""The outcome of a benchmark: a table of measures with their bars, and the machine they were taken on."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from types import FrameType

import click

from benchmarks.servers import nginx_command


@dataclass(frozen=True)
class Measure:
    """A measured value; `at_least` and `at_most` are its bar, if it has one."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the value meets its bar."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def row(self) -> str:
        """The measure as a row of the table."""
        bar, met = "", ""
        if self.at_least is not None:
            bar = f">= {self.at_least:g}"
        elif self.at_most is not None:
            bar = f"<= {self.at_most:g}"
        if bar:
            bar, met = f"{bar} {self.unit}".rstrip(), "yes" if self.is_met else "NO"
        return f"| {self.name} | {_number(self.value)} {self.unit}".rstrip() + f" | {bar} | {met} |"


@dataclass
class Report:
    """Measures as they come; each is printed at once to show that the benchmark goes on."""

    measures: list[Measure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _started: tuple[float, float, float] = field(default_factory=lambda: (time.monotonic(), _busy(), _own()))

    def add(self, *measures: Measure) -> None:
        """Take in measures."""
        for measure in measures:
            self.measures.append(measure)
            print(f"  {measure.name}: {_number(measure.value)} {measure.unit}", file=sys.stderr, flush=True)

    def skip(self, what: str, reason: str) -> None:
        """Note what could not be measured, and why."""
        self.skipped.append(f"skipped: {what}: {reason}")

    def finish(self, *, quick: bool) -> int:
        """Print the table; the exit code: 1 when a bar was missed, unless sizes were too small to tell."""
        rows = ["| measure | value | bar | met |", "|---|---|---|---|", *(measure.row() for measure in self.measures)]
        print(
            "\n".join([*rows, "", *self.skipped, machine(), f"other processes: {self._foreign():.0%} of the machine"])
        )
        if quick:
            print("quick run: sizes are too small for the bars, missed ones do not count")
            return 0
        return 0 if all(measure.is_met for measure in self.measures) else 1

    def _foreign(self) -> float:
        """The share of the machine that other processes used meanwhile; all servers have to be ended."""
        started, busy, own = self._started
        seconds = time.monotonic() - started
        return max(0.0, (_busy() - busy) - (_own() - own)) / seconds / (os.cpu_count() or 1)


def _busy() -> float:
    """The seconds that all processors were busy since the machine started."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, *interrupts = map(int, file.readline().split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """The seconds of processor time of this process and of the ended ones that it started."""
    return sum(os.times()[:4])


def machine() -> str:
    """The machine and the versions that the numbers hold for."""
    return (
        f"machine: {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, gunicorn {version('gunicorn')}, Flask {version('Flask')}, "
        f"nginx {_nginx_version()}"
    )


def missing_peer(report: Report, what: str, reason: str) -> None:
    """Skip what has no peer to compare with; on CI, where it has to be there, fail."""
    if os.environ.get("CI") == "true":
        raise click.ClickException(f"{what}: {reason}")
    report.skip(what, reason)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Bound the time of a block; SIGTERM ends it too, in both cases with all its clean-up."""

    def expire(number: int, _: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds} seconds" if number == signal.SIGALRM else "terminated")

    previous = {number: signal.signal(number, expire) for number in (signal.SIGALRM, signal.SIGTERM)}
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in previous.items():
            signal.signal(number, handler)


def median_of(values: Sequence[float]) -> float:
    """The median; of an even number of values the upper one."""
    return sorted(values)[len(values) // 2]


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _nginx_version() -> str:
    command = nginx_command()
    if command is None:
        return "not installed"
    shown = subprocess.run([command, "-v"], capture_output=True, text=True, timeout=10, check=False)
    return (shown.stderr or shown.stdout).strip().rpartition("/")[2]
