"""The cost of tickets: against an empty Flask route, by number of regions, with a cold index, with many indexes open.

    python -m benchmarks.tickets [--quick]

The data is a genome at 30x made in code (data.py). Every timed ticket is checked afterwards.
"""

import base64
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pysam
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from benchmarks.check import check, check_positions
from benchmarks.client import Connection, drive, get, post
from benchmarks.data import (
    HG38,
    SMALL,
    WINDOW,
    Genome,
    Region,
    blocks_of,
    distinct_regions,
    edge_blocks,
    random_regions,
)
from benchmarks.report import Measure, Report, limited, median_of, say
from benchmarks.servers import Process, flask_floor, htsget_server
from htsget_flask.app import create_app
from htsget_flask.config import HtsgetConfig, read_config
from htsget_flask.formats.index_reader import read_index
from tests.support.htslib import HtslibIndex
from tests.support.issuer import AUDIENCE, Issuer, Key

WINDOW_LENGTH = 30_000
REGIONS = 100
CONNECTIONS = 4
# The last of this many rules is the one that matches.
RULES = 10


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    contigs: dict[str, int]
    rounds: int
    warm_requests: int
    new_requests: int
    posts: int
    first_tickets: int
    indexes: int
    queries: int


FULL = Sizes(HG38, 15, 500, 200, 15, 15, 300, 10_000)
QUICK = Sizes(SMALL, 2, 100, 50, 6, 3, 20, 500)


@dataclass(frozen=True)
class Sample:
    """The data on disk, below `folder / "data"`, and the regions where it has real blocks."""

    folder: Path
    genome: Genome
    warm: list[Region]
    new: list[Region]
    whole: list[Region]

    @property
    def path(self) -> Path:
        """The BAM."""
        return self.folder / "data" / "sample.bam"

    def query(self, region: Region, dataset_id: str = "sample", *, fields: Sequence[str] = ()) -> bytes:
        """The request of a region's ticket."""
        name = list(self.genome.contigs)[region.reference_id]
        target = f"/reads/{dataset_id}?referenceName={name}&start={region.start}&end={region.end}"
        return get(target, fields=fields)

    def query_all(self, regions: Sequence[Region]) -> bytes:
        """The request of one ticket for many regions."""
        names = list(self.genome.contigs)
        body = [{"referenceName": names[region[0]], "start": region[1], "end": region[2]} for region in regions]
        return post("/reads/sample", json.dumps({"regions": body}).encode())

    def copies(self, prefix: str, count: int) -> list[str]:
        """The ids of more datasets with the same content: hard links, which the server treats as separate files."""
        ids = [f"{prefix}{number}" for number in range(count)]
        for dataset_id in ids:
            for suffix in (".bam", ".bam.bai"):
                os.link(self.path.with_suffix(suffix), self.folder / "data" / f"{dataset_id}{suffix}")
        return ids

    def configuration(self, name: str, **settings: object) -> Path:
        """A configuration of the server, with a cache folder that is its own; regions are whole chunks of the index."""
        path = self.folder / f"{name}.yaml"
        content = {
            "storages": {"data": {"type": "local", "root": str(self.folder / "data")}},
            "datasets": [{"prefix": "", "storage": "data"}],
            "cache": {"folder": str(self.folder / f"{name}-cache")},
            "htsget": {"exact": False},
            **settings,
        }
        path.write_text(json.dumps(content))
        return path


class Usage(NamedTuple):
    """The average cost of a request: seconds of wall time, and of the server's processor time."""

    seconds: float
    cpu: float


def prepare(folder: Path, sizes: Sizes) -> Sample:
    """Write the data."""
    genome = Genome(sizes.contigs)
    count = max(64, REGIONS)
    new = sizes.rounds * sizes.new_requests
    regions = distinct_regions(
        genome,
        count + new + 4,
        length=WINDOW_LENGTH,
        seed=2,
        avoid=HtsgetConfig().block_size,
    )
    sample = Sample(folder, genome, regions[:count], regions[count:-4], regions[-4:])
    sample.path.parent.mkdir()
    blocks = blocks_of(regions, genome)
    for region in sample.whole:
        first, last = edge_blocks(genome, region)
        blocks += range(first, last + 1)
    genome.write_bam(sample.path, blocks)
    genome.write_bai(sample.path.with_suffix(".bam.bai"))
    return sample


def equal_to_htslib(report: Report, sizes: Sizes, folder: Path) -> None:
    """Whether index queries give htslib's own chunks."""
    dense, sparse = Genome(sizes.contigs), Genome(sizes.contigs, kept=0.3)
    for kind, write in (("bai", Genome.write_bai), ("csi", Genome.write_csi), ("tbi", Genome.write_tbi)):
        for name, genome in (("30x", dense), ("sparse", sparse)):
            path = folder / f"{name}.{kind}"
            write(genome, path)
            regions = random_regions(sizes.contigs, sizes.queries, seed=len(report.measures))
            equal = _equal_queries(path, regions)
            report.add(
                Measure(
                    f"{kind.upper()}, {name}: queries equal to htslib's, of {len(regions)}", equal, "", len(regions)
                )
            )


def _equal_queries(path: Path, regions: Sequence[Region]) -> int:
    index = read_index(path.read_bytes())
    with HtslibIndex(path.with_suffix(""), path) as oracle:
        return sum(list(index.chunks(*region)) == oracle.chunks(*region) for region in regions)


def throughput(report: Report, sizes: Sizes, sample: Sample) -> None:
    """Tickets against the empty route, with cached edge blocks and with new ones."""
    with flask_floor(sample.folder) as floor, htsget_server(sample.configuration("throughput")) as server:
        _check_whole(sample, server)
        rng = random.Random(3)
        warm_up = [sample.query(region) for region in sample.warm]
        tickets = drive(server.port, warm_up, connections=CONNECTIONS).bodies
        _check_all(sample, server, sample.warm, tickets)
        known = dict(zip(sample.warm, tickets, strict=True))
        drive(floor.port, [get("/")] * 200, connections=CONNECTIONS)

        floors, warm, new = [], [], []
        fresh = iter(sample.new)
        for _ in range(sizes.rounds):
            floors.append(floor_round(floor, sizes.warm_requests))
            bases = rng.choices(sample.warm, k=sizes.warm_requests)
            regions = [_moved(region, rng) for region in bases]
            usage, bodies = _ticket_round(sample, server, regions)
            differing = [number for number, base in enumerate(bases) if bodies[number] != known[base]]
            _check_all(
                sample, server, [regions[number] for number in differing], [bodies[number] for number in differing]
            )
            warm.append(usage)
            floors.append(floor_round(floor, sizes.warm_requests))
            regions = [next(fresh) for _ in range(sizes.new_requests)]
            usage, bodies = _ticket_round(sample, server, regions)
            _check_all(sample, server, regions, bodies)
            new.append(usage)
        _report_throughput(report, "windows requested before", floors[::2], warm, 0.75)
        _report_throughput(report, "new windows", floors[1::2], new, 0.5)
        _many_regions(report, sizes, sample, server)
        _delivered_bytes(report, sample, server, known)


def access_control(report: Report, sizes: Sizes, sample: Sample) -> None:
    """Tickets of a server with access control, for a token that it has verified, against one without."""
    issuer = Issuer(keys=[Key("one", "RS256")])
    keys = sample.folder / "jwks.json"
    keys.write_text(json.dumps(issuer.jwks))
    rules = [{"ids": [f"other{number}/*"], "scopes": ["read"]} for number in range(RULES - 1)]
    auth = {
        "secrets": ["a-secret-of-benchmarks-0123456789"],
        "audit": str(sample.folder / "audit.log"),
        "issuers": [{"issuer": issuer.url, "audience": AUDIENCE, "jwks": str(keys)}],
        "rules": [*rules, {"ids": ["sample"], "scopes": ["read"], "claims": {"groups": {"contains": "lab"}}}],
    }
    fields = [f"Authorization: Bearer {issuer.token(scope='read write', groups=['staff', 'lab'])}"]
    with (
        htsget_server(sample.configuration("open")) as server,
        htsget_server(sample.configuration("guarded", auth=auth)) as guarded,
    ):
        for process, headers in ((server, ()), (guarded, fields)):
            requests = [sample.query(region, fields=headers) for region in sample.warm]
            tickets = drive(process.port, requests, connections=CONNECTIONS).bodies
            _check_all(sample, process, sample.warm, tickets)
        rng = random.Random(5)
        open_usage, guarded_usage = [], []
        for _ in range(sizes.rounds):
            regions = [_moved(region, rng) for region in rng.choices(sample.warm, k=sizes.warm_requests)]
            usage, bodies = timed(server, [sample.query(region) for region in regions])
            open_usage.append(usage)
            _check_all(sample, server, regions[:10], bodies[:10])
            usage, bodies = timed(guarded, [sample.query(region, fields=fields) for region in regions])
            guarded_usage.append(usage)
            _check_all(sample, guarded, regions[:10], bodies[:10])
    lines = (sample.folder / "audit.log").read_bytes().count(b'"endpoint":"reads","id":"sample"')
    if lines < sizes.rounds * sizes.warm_requests:
        raise AssertionError(f"the audit log has {lines} lines")
    report.add(
        Measure(
            "ticket with access control: throughput / without",
            median_of([one.seconds / other.seconds for one, other in zip(open_usage, guarded_usage, strict=True)]),
            at_least=0.7,
        ),
        Measure("ticket with access control: CPU without / its own", mean_cpu(open_usage) / mean_cpu(guarded_usage)),
    )


def _moved(region: Region, rng: random.Random) -> Region:
    """Another region in the same windows: a new query whose edge blocks are cached."""
    first, last = region.start // WINDOW, (region.end - 1) // WINDOW
    return Region(region.reference_id, first * WINDOW + rng.randrange(WINDOW), last * WINDOW + rng.randint(1, WINDOW))


def floor_round(floor: Process, count: int) -> Usage:
    """The cost of the empty route."""
    usage, bodies = timed(floor, [get("/")] * count)
    if set(bodies) != {b'{"htsget":{"format":"BAM","urls":[]}}\n'}:
        raise AssertionError(f"the empty route answered {bodies[0]!r}")
    return usage


def _ticket_round(sample: Sample, server: Process, regions: Sequence[Region]) -> tuple[Usage, list[bytes]]:
    return timed(server, [sample.query(region) for region in regions])


def timed(server: Process, requests: Sequence[bytes]) -> tuple[Usage, list[bytes]]:
    """The cost of requests over a few connections, and the bodies of their answers."""
    before = server.cpu()
    load = drive(server.port, requests, connections=CONNECTIONS)
    return Usage(load.seconds / len(requests), (server.cpu() - before) / len(requests)), load.bodies


def _check_all(sample: Sample, server: Process, regions: Sequence[Region], tickets: Sequence[bytes]) -> None:
    with Connection(server.port) as connection:
        for region, ticket in zip(regions, tickets, strict=True):
            check(ticket, sample.genome, [region], _fetcher(connection))


def _fetcher(connection: Connection) -> Callable[[str], bytes]:
    return lambda url: connection.exchange(get(url)).body


def _report_throughput(
    report: Report, name: str, floors: Sequence[Usage], tickets: Sequence[Usage], bar: float
) -> None:
    pairs = list(zip(floors, tickets, strict=True))
    report.add(
        Measure(f"empty Flask route, requests ({name})", 1 / median_of([floor.seconds for floor in floors]), "/s"),
        Measure(f"empty Flask route, CPU ({name})", 1e6 * mean_cpu(floors), "us"),
        Measure(f"ticket, {name}: requests", 1 / median_of([ticket.seconds for ticket in tickets]), "/s"),
        Measure(f"ticket, {name}: CPU", 1e6 * mean_cpu(tickets), "us"),
        Measure(
            f"ticket, {name}: throughput / empty route",
            median_of([floor.seconds / ticket.seconds for floor, ticket in pairs]),
            at_least=bar,
        ),
        Measure(
            f"ticket, {name}: CPU of the empty route / its own",
            mean_cpu(floors) / mean_cpu(tickets),
        ),
    )


def mean_cpu(usages: Sequence[Usage]) -> float:
    """The mean, as the kernel counts in hundredths of a second: too coarse for single rounds."""
    return sum(usage.cpu for usage in usages) / len(usages)


def _many_regions(report: Report, sizes: Sizes, sample: Sample, server: Process) -> None:
    """One ticket for many regions against one ticket for one of them; both by POST, with cached edge blocks."""
    regions = sample.warm[:REGIONS]
    one, many = [sample.query_all([region]) for region in regions], sample.query_all(regions)
    with Connection(server.port) as connection:
        check(connection.exchange(many).body, sample.genome, regions, _fetcher(connection))
    singles, multiples = [], []
    for _ in range(sizes.rounds):
        usage, bodies = timed(server, one * (sizes.posts // 6))
        singles.append(usage)
        _check_all(sample, server, regions, bodies[: len(regions)])
        usage, bodies = timed(server, [many] * sizes.posts)
        multiples.append(usage)
        if len(set(bodies)) > 1:
            raise AssertionError("the same request received two different tickets")
    pairs = list(zip(singles, multiples, strict=True))
    report.add(
        Measure("POST with 1 region", 1e6 * median_of([usage.seconds for usage in singles]), "us"),
        Measure(f"POST with {REGIONS} regions", 1e6 * median_of([usage.seconds for usage in multiples]), "us"),
        Measure(
            f"POST with {REGIONS} regions / with 1",
            median_of([many.seconds / one.seconds for one, many in pairs]),
            at_most=8,
        ),
        Measure(
            f"POST with {REGIONS} regions / with 1, CPU",
            mean_cpu(multiples) / mean_cpu(singles),
        ),
    )


def _delivered_bytes(report: Report, sample: Sample, server: Process, tickets: dict[Region, bytes]) -> None:
    """The bytes delivered for a window, against the chunks that the index names for it."""
    shares = []
    index = sample.path.with_suffix(".bam.bai")
    with HtslibIndex(sample.path, index) as oracle, Connection(server.port) as connection:
        for region, ticket in tickets.items():
            chunks = oracle.chunks(*region)
            last = sample.genome.block_at(max(end for _, end in chunks) >> 16)
            span = sample.genome.coffset(last + 1) - (min(begin for begin, _ in chunks) >> 16)
            shares.append(check(ticket, sample.genome, [region], _fetcher(connection)).size / span)
    name = f"bytes of a {WINDOW_LENGTH // 1000} kb window / chunk span of the index"
    report.add(
        Measure(f"{name}, mean", sum(shares) / len(shares)), Measure(f"{name}, greatest", max(shares), at_most=1.05)
    )


def _check_whole(sample: Sample, server: Process) -> None:
    """Follow tickets to the end: the joined bytes are a BAM with exactly the right records."""
    names = list(sample.genome.contigs)
    for number, region in enumerate(sample.whole):
        with Connection(server.port) as connection:
            ticket = connection.exchange(sample.query(region)).body
            check(ticket, sample.genome, [region], _fetcher(connection))
            path = sample.folder / f"region-{number}.bam"
            with path.open("wb") as file:
                for entry in json.loads(ticket)["htsget"]["urls"]:
                    file.write(_content(connection, entry["url"]))
        with pysam.AlignmentFile(str(path)) as alignments:
            starts = [
                record.reference_start
                for record in alignments
                if record.reference_name == names[region.reference_id] and (record.reference_end or 0) > region.start
            ]
        positions = np.array([start for start in starts if start < region.end], np.int64)
        check_positions(positions, sample.genome, region)


def _content(connection: Connection, url: str) -> bytes:
    if url.startswith("data:"):
        return base64.b64decode(url.partition(",")[2])
    return connection.exchange(get(url)).body


def first_tickets(report: Report, sizes: Sizes, sample: Sample) -> None:
    """The first ticket on an index: new, and with the sidecar file that an earlier worker wrote."""
    ids = sample.copies("first", sizes.first_tickets)
    configuration = sample.configuration("first")
    for name, limit in (("new", 100), ("with its sidecar", 5)):
        with htsget_server(configuration) as server, Connection(server.port) as connection:
            region = sample.warm[0]
            # Excludes what is paid once per process.
            for _ in range(20):
                connection.exchange(sample.query(region))
            times, tickets, before = [], [], server.cpu()
            for dataset_id in ids:
                started = time.perf_counter()
                answer = connection.exchange(sample.query(region, dataset_id))
                times.append(1000 * (time.perf_counter() - started))
                tickets.append(answer.body)
            cpu = server.cpu() - before
            for ticket in tickets:
                check(ticket, sample.genome, [region], _fetcher(connection))
        report.add(
            Measure(f"first ticket, index {name}, median", median_of(times), "ms", at_most=limit),
            Measure(f"first ticket, index {name}, CPU", 1000 * cpu / len(times), "ms"),
            Measure(f"first ticket, index {name}, slowest of {len(times)}", max(times), "ms"),
        )


def shortcut(report: Report, sizes: Sizes, sample: Sample) -> None:
    """A warm ticket and a small range, in process: with the shortcut past Flask's contexts and through Flask."""
    app = create_app(read_config(sample.configuration("shortcut", files={"storages": ["data"]})))
    target = sample.query(sample.warm[0]).split()[1].decode()
    requests = {
        "ticket": EnvironBuilder(target).get_environ(),
        "64-byte range": EnvironBuilder("/files/data/sample.bam", headers=[("Range", "bytes=0-63")]).get_environ(),
    }
    ways: dict[str, Callable[..., Any]] = {
        "with the shortcut": app.wsgi_app,
        "through Flask": partial(Flask.wsgi_app, app),
    }
    for (request, environ), (way, application) in product(requests.items(), ways.items()):
        times = []
        for _ in range(sizes.rounds + 1):
            start = time.process_time()
            for _ in range(sizes.warm_requests):
                run_wsgi_app(application, environ.copy())
            times.append((time.process_time() - start) / sizes.warm_requests)
        report.add(Measure(f"{request} in process, {way}: CPU", 1e6 * median_of(times[1:]), "us"))


def many_indexes(report: Report, sizes: Sizes, sample: Sample) -> None:
    """The memory of one worker with many open indexes."""
    ids = sample.copies("many", sizes.indexes)
    with htsget_server(sample.configuration("many")) as server:
        region = sample.warm[0]
        expected = drive(server.port, [sample.query(region)] * 200, connections=CONNECTIONS).bodies[0]
        before = server.memory()
        bodies = drive(server.port, [sample.query(region, dataset_id) for dataset_id in ids], connections=1).bodies
        after = server.memory()
        for dataset_id, body in zip(ids, bodies, strict=True):
            if body.replace(b"/" + dataset_id.encode() + b'"', b'/sample"') != expected:
                raise AssertionError(f"the ticket of {dataset_id} differs from that of the same file under another id")
    size = sample.path.with_suffix(".bam.bai").stat().st_size
    name = f"for {len(ids)} more indexes"
    report.add(
        Measure("size of one index", size / 1e6, "MB"),
        # Pages of a mapped file count as private while only one process maps them, though they lie in the page cache.
        Measure(f"anonymous memory {name}", (after.anonymous - before.anonymous) / 1e6, "MB", at_most=50),
        Measure(f"private memory with mapped files {name}", (after.private - before.private) / 1e6, "MB"),
    )


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes: shows that it works, not how fast.")
def main(quick: bool) -> None:
    """Measure the cost of tickets."""
    sizes, report = (QUICK if quick else FULL), Report("tickets")
    with limited(110 if quick else 420), tempfile.TemporaryDirectory(prefix="htsget-tickets-") as name:
        folder = Path(name)
        say("index queries against htslib's own")
        equal_to_htslib(report, sizes, folder)
        say("writing a genome")
        sample = prepare(folder, sizes)
        say("tickets against an empty Flask route")
        throughput(report, sizes, sample)
        say("access control")
        access_control(report, sizes, sample)
        say("first tickets")
        first_tickets(report, sizes, sample)
        say("with and without the shortcut past Flask")
        shortcut(report, sizes, sample)
        say("many indexes")
        many_indexes(report, sizes, sample)
    sys.exit(report.finish(quick=quick))


if __name__ == "__main__":
    main()
