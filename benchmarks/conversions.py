"""The cost of CRAM as BAM: against samtools, with few fields, until the first byte, and for tickets meanwhile."""

import json
import random
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.answers import BAM, CRAM, KB, Delivery, Sample, deliver, target
from benchmarks.client import Connection, drive, get
from benchmarks.report import Measure, Report, median_of, missing_peer
from benchmarks.servers import Process
from tests.support.client import Region
from tests.support.selections import Selection

FIRST_BYTE_WINDOW = 40 * KB
MINIMAL = Selection(("FLAG", "RNAME", "POS", "MAPQ", "CIGAR"), ())
CONVERSIONS = 2
"""At the same time."""
TICKETS = 200


def whole_files(report: Report, rounds: int, sample: Sample, process: Process) -> None:
    """Records per second of processor time against samtools, and the share of it that few fields take."""
    samtools = shutil.which("samtools")
    minimal = "".join(f"&{name}={value}" for name, value in MINIMAL.query().items())
    expected = sample.expected(CRAM, None)
    ours, theirs, few, shares = 0.0, 0.0, 0.0, []
    with Connection(process.port) as connection:
        for number in range(rounds):
            seconds, whole = _timed(process, connection, target(CRAM))
            ours += seconds
            seconds, part = _timed(process, connection, target(CRAM, more=minimal))
            few += seconds
            shares.append(part.records_size / whole.records_size)
            if samtools is not None:
                theirs += _samtools_seconds(samtools, sample)
            if number == 0 and (
                sample.printed(whole.body) != expected
                or sample.printed(part.body) != [MINIMAL.apply(line) for line in expected]
            ):
                raise AssertionError("the converted file does not have the records of the CRAM file")
    count = rounds * len(expected)
    report.add(
        Measure("CRAM as BAM, records per second of CPU", count / ours, "/s"),
        Measure("five fields without tags: bytes / of all", max(shares), at_most=0.25),
        Measure("five fields without tags: CPU / of all", few / ours, at_most=0.6),
    )
    if samtools is None:
        missing_peer(report, "CRAM as BAM against samtools", "samtools is not installed")
        return
    report.add(
        Measure("samtools view -b, records per second of CPU", count / theirs, "/s"),
        Measure("CRAM as BAM: records per second of CPU / samtools view -b", theirs / ours, at_least=0.5),
    )


def _timed(process: Process, connection: Connection, request: bytes) -> tuple[float, Delivery]:
    """The seconds of processor time that an answer takes, and the answer."""
    before = process.cpu()
    delivery = deliver(connection, request)
    return process.cpu() - before, delivery


def _samtools_seconds(samtools: str, sample: Sample) -> float:
    """The seconds of processor time that samtools takes, with one thread and at level 1."""
    output = sample.folder / "converted.bam"
    command = [samtools, "view", "-b", "--output-fmt-option", "level=1", "-T", sample.files.fasta, "-o", output]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*map(str, command), str(sample.files.cram)], check=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_byte(report: Report, count: int, sample: Sample, process: Process) -> None:
    """How long a client waits for the first byte of records, ticket included."""
    regions = sample.windows(FIRST_BYTE_WINDOW, count, random.Random(4))
    with Connection(process.port) as connection:
        times = [_first_byte(connection, region) for region in regions]
        for region in regions:
            sample.check(deliver(connection, target(CRAM, region)).body, CRAM, region)
    name = f"CRAM as BAM, first byte of {FIRST_BYTE_WINDOW // KB} kb at 30x"
    report.add(
        Measure(f"{name}, median", median_of(times), "ms", at_most=100),
        Measure(f"{name}, slowest of {count}", max(times), "ms"),
    )


def _first_byte(connection: Connection, region: Region) -> float:
    started = time.perf_counter()
    ticket = json.loads(connection.exchange(target(CRAM, region)).body)
    url = ticket["htsget"]["urls"][1]["url"]
    if url.startswith("data:"):
        return 1000 * (time.perf_counter() - started)
    buffers = connection.buffers(get(url))
    while not next(buffers):
        pass
    milliseconds = 1000 * (time.perf_counter() - started)
    for _ in buffers:
        pass
    return milliseconds


def tickets_meanwhile(report: Report, rounds: int, sample: Sample, process: Process) -> None:
    """Warm tickets while the same worker converts files for other clients, against those without."""
    requests = [target(BAM, region) for region in sample.windows(KB, TICKETS, random.Random(5))]
    known = drive(process.port, requests, connections=1).bodies
    alone, meanwhile = [], []
    for _ in range(rounds):
        alone.append(_median(process, requests, known))
        with _conversions(process):
            meanwhile.append(_median(process, requests, known))
    report.add(
        Measure("warm ticket, median", 1e6 * median_of(alone), "us"),
        Measure(f"warm ticket during {CONVERSIONS} conversions, median", 1e6 * median_of(meanwhile), "us"),
        Measure(
            f"warm ticket, median: during {CONVERSIONS} conversions / without",
            median_of([one / other for one, other in zip(meanwhile, alone, strict=True)]),
            at_most=3,
        ),
    )


def _median(process: Process, requests: list[bytes], known: list[bytes]) -> float:
    load = drive(process.port, requests, connections=1)
    if load.bodies != known:
        raise AssertionError("the same request received two different tickets")
    return median_of(load.times)


@contextmanager
def _conversions(process: Process) -> Iterator[None]:
    """Whole files are converted, over and over, until the end of the block."""
    has_ended, converting = threading.Event(), threading.Barrier(CONVERSIONS + 1, timeout=60)

    def convert() -> None:
        with Connection(process.port) as connection:
            urls = json.loads(connection.exchange(target(CRAM)).body)["htsget"]["urls"]
            blocks = [entry["url"] for entry in urls if not entry["url"].startswith("data:")]
            converting.wait()
            while not has_ended.is_set():
                for url in blocks:
                    if not has_ended.is_set() and connection.exchange(get(url)).status != 200:
                        raise AssertionError("a conversion failed")

    with ThreadPoolExecutor(CONVERSIONS) as pool:
        futures = [pool.submit(convert) for _ in range(CONVERSIONS)]
        converting.wait()
        try:
            yield
        finally:
            has_ended.set()
        for future in futures:
            future.result()
