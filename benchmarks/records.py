"""The cost of records: exact regions against chunks of the index, CRAM as BAM, and windows that move over a bucket.

    python -m benchmarks.records [--quick]

The data are reads at 30x (reads.py). Answers are compared with the records that samtools prints.
"""

import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson
import pybase64

from benchmarks.answers import BAM, KB, Sample, deliver, prepare, target
from benchmarks.client import Connection, drive, get
from benchmarks.conversions import first_byte, tickets_meanwhile, whole_files
from benchmarks.reads import CONTIG
from benchmarks.report import Measure, Report, limited, median_of, say
from benchmarks.s3 import LATENCY, installed_kind
from benchmarks.servers import Process, flask_floor, htsget_server
from benchmarks.tickets import CONNECTIONS, Usage, floor_round, mean_cpu, timed
from tests.support.client import Region
from tests.support.faulty import faulty_proxy
from tests.support.s3 import serving_s3

REQUESTS = {1 * KB: 1, 5 * KB: 1, 30 * KB: 2}
"""The most requests for a window of a length, in bases."""
PAN = 10 * KB


@dataclass(frozen=True)
class Sizes:
    """How much is measured: bases of the reference, rounds, windows of a length in each, whole conversions, pans."""

    length: int
    rounds: int
    windows: int
    conversions: int
    pans: int


FULL = Sizes(2_400 * KB, 9, 200, 5, 200)
QUICK = Sizes(400 * KB, 2, 20, 1, 20)


def warm_up(sample: Sample, process: Process) -> Usage:
    """Request all positions once, so that the server knows all BGZF blocks; the cost of a ticket."""
    regions = [(CONTIG, start, start + KB) for start in range(0, sample.files.length, KB)]
    random.Random(0).shuffle(regions)
    return timed(process, [target(BAM, region) for region in regions])[0]


def bytes_and_requests(report: Report, sizes: Sizes, sample: Sample, process: Process) -> None:
    """The bytes of windows against those of the same records as samtools compresses them."""
    rng = random.Random(1)
    with Connection(process.port) as connection:
        for length, most in REQUESTS.items():
            regions = sample.windows(length, sizes.windows // 4, rng)
            deliveries = [deliver(connection, target(BAM, region)) for region in regions]
            for region, delivery in zip(regions, deliveries, strict=True):
                sample.check(delivery.body, BAM, region)
            size, name = sum(one.records_size for one in deliveries), f"{length // KB} kb at 30x"
            report.add(
                Measure(f"{name}: bytes / at level 1", size / sum(map(sample.encoded_size, regions)), at_most=1.1),
                Measure(f"{name}: most requests", max(one.requests for one in deliveries), at_most=most),
                Measure(f"{name}: received", sum(one.received for one in deliveries) / len(regions) / KB, "kB"),
            )


def tickets(report: Report, sizes: Sizes, sample: Sample, process: Process) -> None:
    """Tickets of regions that were not requested before, of known BGZF blocks, against the empty route."""
    rng = random.Random(2)
    with flask_floor(sample.folder) as floor, Connection(process.port) as connection:
        drive(floor.port, [get("/")] * 200, connections=CONNECTIONS)
        for length in REQUESTS:
            floors, ours = [], []
            for _ in range(sizes.rounds):
                floors.append(floor_round(floor, sizes.windows))
                regions = sample.windows(length, sizes.windows, rng)
                ours.append(timed(process, [target(BAM, region) for region in regions])[0])
                for region in regions[:3]:
                    sample.check(deliver(connection, target(BAM, region)).body, BAM, region)
            name = f"ticket, new region of {length // KB} kb"
            report.add(
                Measure(f"{name}: CPU", 1e6 * mean_cpu(ours), "us"),
                Measure(f"{name}: throughput / empty route", _share(floors, ours), at_least=0.5),
            )


def _share(floors: list[Usage], ours: list[Usage]) -> float:
    """The median over the rounds of the throughput in multiples of the empty route's."""
    return median_of([floor.seconds / usage.seconds for floor, usage in zip(floors, ours, strict=True)])


def against_chunks(report: Report, sizes: Sizes, sample: Sample, exact: Process, chunks: Process) -> None:
    """Tickets with all their data blocks, for new regions, in turns with a server that answers with whole chunks."""
    rng = random.Random(3)
    for length, (wall, cpu) in {KB: (1.0, None), 30 * KB: (None, 2.0)}.items():
        usages: dict[int, list[Usage]] = {exact.port: [], chunks.port: []}
        for number in range(sizes.rounds):
            regions = sample.windows(length, sizes.windows // 2, rng)
            for process in (exact, chunks) if number % 2 else (chunks, exact):
                usages[process.port].append(_delivered(process, regions))
        ours, theirs = usages.values()
        name = f"{length // KB} kb with all data blocks, exact / chunks"
        ratios = [one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True)]
        report.add(
            Measure(f"{name}: CPU", mean_cpu(ours) / mean_cpu(theirs), at_most=cpu),
            Measure(f"{name}: time", median_of(ratios), at_most=wall),
        )


def _delivered(process: Process, regions: list[Region]) -> Usage:
    """The cost of a region: its ticket and all its data blocks."""
    with Connection(process.port) as connection:
        before, started = process.cpu(), time.perf_counter()
        for region in regions:
            deliver(connection, target(BAM, region))
        seconds = time.perf_counter() - started
    return Usage(seconds / len(regions), (process.cpu() - before) / len(regions))


def pans(report: Report, sizes: Sizes, sample: Sample) -> None:
    """A window that moves over a file in a bucket, whose server takes 20 ms for each request.

    The time and the requests to S3 are those of the ticket and of the data blocks that this server sends; what clients
    fetch from S3 themselves is counted apart.
    """
    kind = installed_kind()
    say(f"starting {kind.name}")
    with ExitStack() as stack:
        (sample.folder / "s3").mkdir()
        server = stack.enter_context(serving_s3(kind, sample.folder / "s3"))
        proxy = stack.enter_context(faulty_proxy(server.endpoint))
        bucket = server.create_bucket()
        server.put_folder(bucket, sample.folder / "data")
        # Longer than this takes: whether a memory ends meanwhile is chance.
        storage = {"type": "s3", "bucket": bucket, "endpoint_url": proxy.url, "revalidate": 3600}
        configuration = sample.configuration("bucket", {**storage, "addressing_style": "path"})
        process = stack.enter_context(htsget_server(configuration, environment=server.environment()))
        connection = stack.enter_context(Connection(process.port))
        proxy.latency = LATENCY
        starts = range(30 * KB, 30 * KB + min(sizes.pans, sample.files.length // PAN - 4) * PAN, PAN)
        _pan(connection, target(BAM, (CONTIG, 0, PAN)))
        times, requests, fetched = [], 0, 0
        for start in starts:
            region = (CONTIG, start, start + PAN)
            proxy.clear()
            started = time.perf_counter()
            parts, signed = _pan(connection, target(BAM, region))
            times.append(1000 * (time.perf_counter() - started))
            requests, fetched = requests + len(proxy.requests), fetched + len(signed)
            for position, signed_request in signed.items():
                with Connection(urlsplit(proxy.url).port or 0) as to_bucket:
                    parts[position] = to_bucket.exchange(signed_request).body
            sample.check(b"".join(parts), BAM, region)
    name = f"{len(times)} pans of {PAN // KB} kb over a bucket"
    report.add(
        Measure(f"{name}: requests to S3 per pan", requests / len(times), at_most=0.3),
        Measure(f"{name}: time of a pan, mean", sum(times) / len(times), "ms", at_most=10),
        Measure(f"{name}: requests of the client to S3 per pan", fetched / len(times)),
    )


def _pan(connection: Connection, request: bytes) -> tuple[list[bytes], dict[int, bytes]]:
    """The parts of an answer that the server itself sends, and the requests to S3 for the others by their position."""
    parts, signed = [], {}
    for position, entry in enumerate(orjson.loads(connection.exchange(request).body)["htsget"]["urls"]):
        url, part = entry["url"], b""
        if url.startswith("data:"):
            part = pybase64.b64decode(url.partition(",")[2])
        elif "X-Amz-" in url:
            fields = [f"{name}: {value}" for name, value in entry["headers"].items()]
            signed[position] = get(url, fields=fields, host=urlsplit(url).netloc)
        else:
            part = connection.exchange(get(url)).body
        parts.append(part)
    return parts, signed


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes: shows that it works, not how fast.")
def main(quick: bool) -> None:
    """Measure the cost of records."""
    sizes, report = (QUICK if quick else FULL), Report("records")
    with limited(110 if quick else 480), tempfile.TemporaryDirectory(prefix="htsget-records-") as name:
        say("writing reads")
        sample = prepare(Path(name), sizes.length)
        chunked = sample.configuration("chunks", exact=False)
        with htsget_server(sample.configuration("exact")) as exact, htsget_server(chunked) as chunks:
            warm_up(sample, chunks)
            first = warm_up(sample, exact)
            report.add(Measure("ticket of 1 kb while the server gets to know the file: CPU", 1e6 * first.cpu, "us"))
            say("bytes and requests")
            bytes_and_requests(report, sizes, sample, exact)
            say("tickets against an empty Flask route")
            tickets(report, sizes, sample, exact)
            say("exact regions against chunks of the index")
            against_chunks(report, sizes, sample, exact, chunks)
            say("CRAM as BAM")
            first_byte(report, sizes.windows // 4, sample, exact)
            whole_files(report, sizes.conversions, sample, exact)
            tickets_meanwhile(report, sizes.conversions, sample, exact)
        say("windows that move over a bucket")
        pans(report, sizes, sample)
    sys.exit(report.finish(quick=quick))


if __name__ == "__main__":
    main()
