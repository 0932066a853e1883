"""The cost of bytes: data blocks and ranges of plain files against nginx, which sends the same bytes of the same file.

    python -m benchmarks.blocks [--quick]

A separate pass compares every byte of every size with the file; in the timed passes each body overwrites the one
before, so that the client is not what is measured.
"""

import base64
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks.client import Connection, get
from benchmarks.data import HG38, Genome, whole_file
from benchmarks.fronts import configuration, direct_target, front
from benchmarks.report import Measure, Report, limited, median_of, missing_peer, say
from benchmarks.servers import Process, free_port, htsget_server, nginx, nginx_command, redirect_floor

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DOWNLOADS = 32
CLIENTS = 8


@dataclass(frozen=True)
class Sizes:
    """How much is measured: `blocks` in bytes; `volume` bytes, or `requests` of them, are sent in a round."""

    file: int
    blocks: tuple[int, ...]
    volume: int
    requests: int
    rounds: int
    download: int


FULL = Sizes(GIB, (64 * KIB, MIB, 16 * MIB, 64 * MIB, GIB), GIB, 400, 15, GIB)
QUICK = Sizes(80 * MIB, (64 * KIB, MIB, 16 * MIB, 64 * MIB), 128 * MIB, 50, 2, 32 * MIB)

# Bars: shares of nginx's throughput by size; multiples of its processor time.
_MIN_BLOCKS = {16 * MIB: 0.8, 64 * MIB: 0.9, GIB: 0.9}
_MIN_FILES = {MIB: 0.4, 64 * MIB: 0.9, GIB: 0.9}
# A share of nginx's throughput; a share of the same server's throughput without nginx in front, for parts of 1 MiB.
_MIN_DIRECT = 0.95
_MIN_HANDED_OVER = 0.9
_MAX_CPU = 1.3
_MAX_FAR = 1.2
_MAX_MEMORY = 8


class Span(NamedTuple):
    """Bytes of the file, half-open."""

    start: int
    end: int


class Usage(NamedTuple):
    """The average cost of a byte: seconds of wall time, and of the server's processor time."""

    seconds: float
    cpu: float


ToRequest = Callable[[Span], bytes]


@dataclass(frozen=True)
class Side:
    """A server: `request` makes the request for a span; `bars` are shares of the peer's throughput by size."""

    name: str
    process: Process
    request: ToRequest
    bars: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """The file and its content."""

    path: Path
    content: "np.ndarray[tuple[int], np.dtype[np.uint8]]"

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self.content)


def prepare(folder: Path, size: int) -> Sample:
    """Write the file and map it, which leaves it in the page cache."""
    path = folder / "data" / "sample.bam"
    path.parent.mkdir()
    whole_file(path, size, Genome(HG38))
    return Sample(path, np.memmap(path, np.uint8, "r"))


def block_request(server: Process, sample: Sample) -> ToRequest:
    """Requests for data blocks, as in a real ticket; the ticket is first followed and compared with the file."""
    with Connection(server.port) as connection:
        answer = connection.exchange(get("/reads/sample"))
        if answer.status != 200:
            raise AssertionError(f"no ticket: {answer.body!r}")
        urls = [entry["url"] for entry in json.loads(answer.body)["htsget"]["urls"]]
        position = 0
        for url in urls:
            inline = url.startswith("data:")
            buffers = [base64.b64decode(url.partition(",")[2])] if inline else connection.buffers(get(url))
            for buffer in buffers:
                _require_equal(buffer, sample, position)
                position += len(buffer)
        if position != sample.size:
            raise AssertionError(f"the whole file's ticket has {position} bytes of {sample.size}")
    ranged = next(url for url in urls if not url.startswith("data:"))
    base, _, tail = ranged.partition("/blocks/")
    etag, _, rest = tail.split("/", 2)
    return lambda span: get(f"{base}/blocks/{etag}/{span.start}-{span.end}/{rest}")


def range_request(target: str, fields: Sequence[str] = ()) -> ToRequest:
    """Requests for byte ranges of a plain file."""
    return lambda span: get(target, fields=[*fields, f"Range: bytes={span.start}-{span.end - 1}"])


def _require_equal(buffer: bytes, sample: Sample, position: int) -> None:
    if not np.array_equal(np.frombuffer(buffer, np.uint8), sample.content[position : position + len(buffer)]):
        raise AssertionError(f"bytes {position} to {position + len(buffer)} differ from the file")


def spans(sample: Sample, size: int, count: int) -> list[Span]:
    """`count` spans of `size` bytes, spread over the file, at odd offsets."""
    size = min(size, sample.size)
    last = sample.size - size
    step = last // max(1, count - 1)
    return [Span(min(last, number * step | 1), min(last, number * step | 1) + size) for number in range(count)]


def verify(side: Side, sample: Sample, parts: Sequence[Span]) -> None:
    """Compare every byte of these spans with the file."""
    with Connection(side.process.port) as connection:
        for span in parts:
            position = span.start
            for buffer in connection.buffers(side.request(span)):
                _require_equal(buffer, sample, position)
                position += len(buffer)
            if position != span.end:
                raise AssertionError(f"{side.name} sent {position - span.start} bytes of {span}")


def timed(side: Side, parts: Sequence[Span]) -> Usage:
    """Fetch the spans one after the other."""
    requests = [side.request(span) for span in parts]
    buffer = memoryview(bytearray(MIB))
    total = sum(span.end - span.start for span in parts)
    with Connection(side.process.port) as connection:
        connection.discard(requests[0], buffer)
        before = side.process.cpu()
        started = time.perf_counter()
        received = sum(connection.discard(request, buffer) for request in requests)
        seconds = time.perf_counter() - started
        cpu = side.process.cpu() - before
    if received != total:
        raise AssertionError(f"{side.name} sent {received} bytes instead of {total}")
    return Usage(seconds / total, cpu / total)


def compare_sizes(report: Report, sizes: Sizes, sample: Sample, sides: Sequence[Side], peer: Side | None) -> None:
    """Throughput and processor time by size of the part."""
    compared = list(sides) if peer is None else [*sides, peer]
    for size in sizes.blocks:
        count = max(1, min(sizes.requests, sizes.volume // size))
        parts = spans(sample, size, count)
        for side in compared:
            verify(side, sample, [parts[number] for number in {0, count // 2, count - 1}])
        rounds = [[timed(side, parts) for side in compared] for _ in range(sizes.rounds)]
        _report_size(report, size, compared, rounds)
        if peer is not None:
            _report_ratios(report, size, sides, rounds)


def _report_size(report: Report, size: int, sides: Sequence[Side], rounds: Sequence[Sequence[Usage]]) -> None:
    for index, side in enumerate(sides):
        name = f"{_size_name(size)}: {side.name}"
        report.add(
            Measure(name, 1e-6 / median_of([usages[index].seconds for usages in rounds]), "MB/s"),
            Measure(f"{name}, CPU", 1e9 * _cpu(rounds, index), "s/GB"),
        )


def _report_ratios(report: Report, size: int, sides: Sequence[Side], rounds: Sequence[Sequence[Usage]]) -> None:
    """Each side against the peer, which is the last of each round."""
    for index, side in enumerate(sides):
        name = f"{_size_name(size)}: {side.name}"
        report.add(
            Measure(
                f"{name}, throughput / nginx",
                median_of([usages[-1].seconds / usages[index].seconds for usages in rounds]),
                at_least=side.bars.get(size),
            ),
            Measure(
                f"{name}, CPU / nginx",
                _cpu(rounds, index) / max(_cpu(rounds, -1), 1e-15),
                at_most=_MAX_CPU if size >= 16 * MIB else None,
            ),
        )


def _cpu(rounds: Sequence[Sequence[Usage]], index: int) -> float:
    """The mean, as the kernel counts in hundredths of a second: too coarse for single rounds."""
    return sum(usages[index].cpu for usages in rounds) / len(rounds)


def compare_fronts(
    report: Report, sizes: Sizes, sample: Sample, alone: Sequence[Side], peer: Side, before: Process, empty: Process
) -> None:
    """Throughput of plain files by X-Accel-Redirect and of direct URLs, against the server alone and the peer.

    The spans are fetched one after the other, those of 1 MiB also by several clients at once. `empty` is nginx in front
    of an application that does nothing else: the least that X-Accel-Redirect costs.
    """
    target, fields = direct_target(alone[0].process)
    files = alone[-1]
    x_accel = Side(f"{files.name} by x-accel", before, files.request)
    floor = Side("an empty application by x-accel", empty, files.request)
    direct = Side("direct", before, range_request(target, fields))
    sides = [*alone, x_accel, floor, direct, peer]
    for size in [size for size in sizes.blocks if size != 16 * MIB]:
        count = max(1, min(sizes.requests, sizes.volume // size))
        parts = spans(sample, size, count)
        compared = [side for side in sides if side is not floor or size == MIB]
        for side in compared:
            verify(side, sample, [parts[number] for number in {0, count // 2, count - 1}])
        for clients, measure in {"": timed, f", {CLIENTS} clients": timed_together}.items():
            if clients and size != MIB:
                continue
            taken: dict[str, list[float]] = {side.name: [] for side in compared}
            for _ in range(max(2, sizes.rounds // 3)):
                for side in compared:
                    taken[side.name].append(measure(side, parts).seconds)
            for side in (*alone, x_accel, direct):
                share = _share(taken[peer.name], taken[side.name])
                name = f"{_size_name(size)}{clients}: {side.name}, throughput / nginx"
                report.add(Measure(name, share, at_least=_MIN_DIRECT if side is direct else None))
            for side in [x_accel, floor] if floor in compared else [x_accel]:
                share = _share(taken[files.name], taken[side.name])
                name = f"{_size_name(size)}{clients}: {side.name}, throughput / alone"
                is_ours = size == MIB and side is not floor
                report.add(Measure(name, share, at_least=_MIN_HANDED_OVER if is_ours else None))


def timed_together(side: Side, parts: Sequence[Span]) -> Usage:
    """Fetch the spans with several clients at once, each its share of them."""
    before = side.process.cpu()
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda number: timed(side, parts[number::CLIENTS]), range(CLIENTS)))
    # Each client fetches its first span twice.
    total = sum(span.end - span.start for span in (*parts, *parts[:CLIENTS]))
    return Usage((time.perf_counter() - started) / total, (side.process.cpu() - before) / total)


def _share(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of the others' speed in multiples of ours."""
    return median_of([one / other for one, other in zip(ours, others, strict=True)])


def far_parts(report: Report, sizes: Sizes, sample: Sample, side: Side) -> None:
    """The cost of a span at the end of the file against one at its start."""
    size = min(16 * MIB, sample.size // 4)
    count = max(4, min(sizes.requests, sizes.volume // size // 4))
    start, end = Span(0, size), Span(sample.size - size, sample.size)
    verify(side, sample, [start, end])
    rounds = [(timed(side, [start] * count), timed(side, [end] * count)) for _ in range(sizes.rounds)]
    report.add(
        Measure(
            f"{side.name}: {_size_name(size)} at the file's end / at its start",
            median_of([end.seconds / start.seconds for start, end in rounds]),
            at_most=_MAX_FAR,
        )
    )


def concurrent_memory(report: Report, sizes: Sizes, sample: Sample, side: Side) -> None:
    """The server's private memory while many clients download at once."""
    parts = spans(sample, sizes.download, DOWNLOADS)
    # Allocates each thread's own memory before the measurement.
    _download_all(side, [Span(span.start, span.start + MIB) for span in parts], lambda: None)
    before = side.process.memory().private
    samples: list[int] = []
    _download_all(side, parts, lambda: samples.append(side.process.memory().private))
    report.add(
        Measure(
            f"{side.name}: private memory, {DOWNLOADS} downloads of {_size_name(sizes.download)}",
            (max(samples) - before) / 1e6,
            "MB",
            at_most=_MAX_MEMORY,
        )
    )


def _download_all(side: Side, parts: Sequence[Span], sample_memory: Callable[[], None]) -> None:
    """Download all spans at once; none continues before all have started."""
    all_have_started = threading.Barrier(len(parts), timeout=60)

    def download(span: Span) -> int:
        received = 0
        with Connection(side.process.port) as connection:
            for number, data in enumerate(connection.buffers(side.request(span))):
                if number == 0:
                    all_have_started.wait()
                received += len(data)
        return received

    with ThreadPoolExecutor(len(parts)) as pool:
        futures = [pool.submit(download, span) for span in parts]
        while not all(future.done() for future in futures):
            sample_memory()
            wait(futures, 0.05)
    if [future.result() for future in futures] != [span.end - span.start for span in parts]:
        raise AssertionError("a download was not complete")


def _size_name(size: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def _roomy_folder(size: int) -> Path | None:
    """A file system in memory if it has room, so that no disk writes in the background; None: the usual one."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK):
        free = os.statvfs(shared)
        if free.f_bavail * free.f_frsize > 2 * size:
            return shared
    return None


def measure(report: Report, sizes: Sizes, folder: Path, peer: Process | None) -> None:
    """Measure everything, with or without nginx."""
    sample = prepare(folder, sizes.file)
    port = free_port()
    with htsget_server(configuration(folder, port)) as server:
        say("following a ticket of the whole file")
        blocks = Side("/blocks", server, block_request(server, sample), _MIN_BLOCKS)
        files = Side("/files", server, range_request("/files/data/sample.bam"), _MIN_FILES)
        other = Side("nginx", peer, range_request("/sample.bam")) if peer else None
        say("parts by size")
        compare_sizes(report, sizes, sample, [blocks, files], other)
        say("far parts")
        for side in (blocks, files):
            far_parts(report, sizes, sample, side)
        say("concurrent downloads")
        for side in (blocks, files):
            concurrent_memory(report, sizes, sample, side)
        if other is not None:
            say("nginx in front")
            with (
                front(folder, server, port) as before,
                redirect_floor(folder, "/_whole/data/sample.bam") as floor,
                front(folder, floor, free_port()) as empty,
            ):
                compare_fronts(report, sizes, sample, [blocks, files], other, before, empty)


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes: shows that it works, not how fast.")
def main(quick: bool) -> None:
    """Measure the cost of data blocks and byte ranges."""
    sizes, report = (QUICK if quick else FULL), Report("blocks")
    folder_in_memory = _roomy_folder(sizes.file)
    with (
        limited(110 if quick else 540),
        tempfile.TemporaryDirectory(prefix="htsget-blocks-", dir=folder_in_memory) as name,
    ):
        folder = Path(name)
        say("writing a file")
        if nginx_command() is None:
            missing_peer(report, "comparison with nginx", "nginx is not installed")
            measure(report, sizes, folder, None)
        else:
            with nginx(folder, folder / "data") as peer:
                measure(report, sizes, folder, peer)
    sys.exit(report.finish(quick=quick))


if __name__ == "__main__":
    main()
