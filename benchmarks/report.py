"""The outcome of a benchmark: measures with their bars, and the machine they were taken on."""

import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import click

from benchmarks.servers import nginx_command

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Measure:
    """A measured value; `at_least` and `at_most` are its bar, if it has one."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def has_bar(self) -> bool:
        """Whether it has a bar."""
        return self.at_least is not None or self.at_most is not None

    @property
    def is_met(self) -> bool:
        """Whether the value meets its bar."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def row(self) -> str:
        """The measure as a row of a table: name, value, bar, whether it is met."""
        bar, met = "", ""
        if self.has_bar:
            sign, value = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
            bar, met = f"{sign} {value:g} {self.unit}".rstrip(), "yes" if self.is_met else "NO"
        return f"| {self.name} | {self.text()} | {bar} | {met} |"

    def text(self) -> str:
        """The value with its unit, to three digits."""
        return f"{_number(self.value)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Result:
    """A benchmark's outcome, as benchmarks/results holds it.

    `other_processes`: the share of the machine's processor time that other processes used during the run.
    """

    date: str
    machine: str
    other_processes: float
    measures: list[Measure]
    skipped: list[str]

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Result":
        """The result in a file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "measures": [Measure(**measure) for measure in content["measures"]]})

    def footer(self) -> list[str]:
        """Lines for below the table: what was skipped, the machine, and how busy it was."""
        return [
            *self.skipped,
            f"{self.date}; {self.machine}; other processes used {self.other_processes:.0%} of the machine",
        ]


@dataclass
class Report:
    """Collects the measures of the benchmark `name`; each is printed at once, to show progress."""

    name: str
    measures: list[Measure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _started: tuple[float, float, float] = field(default_factory=lambda: (time.monotonic(), _busy(), _own()))

    def add(self, *measures: Measure) -> None:
        """Add measures."""
        for measure in measures:
            self.measures.append(measure)
            say(f"  {measure.name}: {measure.text()}")

    def skip(self, what: str, reason: str) -> None:
        """Note what could not be measured, and why."""
        self.skipped.append(f"skipped: {what}: {reason}")

    def finish(self, *, quick: bool) -> int:
        """Print the table, and write the result of a full run to benchmarks/results; all servers must have ended.

        Returns:
            The exit code: 1 if a bar was missed in a full run. The sizes of a quick run are too small for the bars.
        """
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        result = Result(date, machine(), self._other_processes(), self.measures, self.skipped)
        rows = ["| measure | value | bar | met |", "|---|---|---|---|", *(measure.row() for measure in self.measures)]
        print("\n".join([*rows, "", *result.footer()]))
        if quick:
            print("quick run: the sizes are too small for the bars, missed ones do not count")
            return 0
        result.write(RESULTS / f"{self.name}.json")
        return 0 if all(measure.is_met for measure in self.measures) else 1

    def _other_processes(self) -> float:
        """The share of the machine that other processes used meanwhile."""
        started, busy, own = self._started
        seconds = time.monotonic() - started
        return max(0.0, (_busy() - busy) - (_own() - own)) / seconds / (os.cpu_count() or 1)


def _busy() -> float:
    """The seconds of processor time that the machine has used since it started."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, *interrupts = map(int, file.readline().split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """The seconds of processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def machine() -> str:
    """The machine and the versions that the numbers hold for."""
    return (
        f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {'.'.join(platform.release().split('.')[:2])}, "
        f"Python {platform.python_version()}, gunicorn {version('gunicorn')}, Flask {version('Flask')}, "
        f"nginx {_nginx_version()}"
    )


def missing_peer(report: Report, what: str, reason: str) -> None:
    """Skip a comparison whose peer is not installed; fail on CI, where every peer must be installed."""
    if os.environ.get("CI") == "true":
        raise click.ClickException(f"{what}: {reason}")
    report.skip(what, reason)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Bound the time of a block; the limit and SIGTERM end it with all its clean-up."""

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
    """The median; the upper one for an even number of values."""
    return sorted(values)[len(values) // 2]


def say(text: str) -> None:
    """Show progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _nginx_version() -> str:
    command = nginx_command()
    if command is None:
        return "not installed"
    shown = subprocess.run([command, "-v"], capture_output=True, text=True, timeout=10, check=False)
    return (shown.stderr or shown.stdout).strip().rpartition("/")[2]
