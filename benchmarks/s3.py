"""The cost of tickets for a bucket: against a folder, with a cold cache, and for many objects at once.

    python -m benchmarks.s3 [--quick]

A proxy between the server and a real S3 server counts requests and delays each by 20 ms. The data are made in code
(data.py) and exist in a folder too: the blocks of every ticket are fetched and compared with those of the folder.
"""

import base64
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from botocore.credentials import Credentials

from benchmarks.check import check
from benchmarks.client import Connection, drive, get
from benchmarks.data import Genome, Region
from benchmarks.report import Measure, Report, limited, median_of, say
from benchmarks.servers import Process, htsget_server
from htsget_flask.ranges import ByteRange
from htsget_flask.storage.remote_file import EDGE
from htsget_flask.storage.s3.bucket import Bucket
from tests.support.faulty import FaultyProxy, Request, faulty_proxy
from tests.support.s3 import OWNER, RCLONE, VERSITYGW, Kind, S3Server, serving_s3

LATENCY = 0.02
WINDOW_LENGTH = 5_000
CONNECTIONS = 4
CLIENTS = 64
CONTIG = "chr1"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    warm_requests: int
    cold: int
    objects: int
    tickets: int


FULL = Sizes(15, 500, 20, 50, 1000)
QUICK = Sizes(2, 100, 3, 8, 100)


@dataclass(frozen=True)
class Setting:
    """The same files served by two servers of one worker: from a folder, and through the proxy from a bucket."""

    genome: Genome
    local: Process
    remote: Process
    proxy: FaultyProxy
    ids: list[str]
    s3: S3Server
    bucket: str

    def region(self, rng: random.Random) -> Region:
        """A region where there are reads."""
        windows = self.genome.contigs[CONTIG] * 2 // 5
        start = rng.randrange(windows + 40_000, self.genome.contigs[CONTIG] - 40_000)
        return Region(0, start, start + WINDOW_LENGTH)


def query(dataset_id: str, region: Region) -> bytes:
    """The request of a region's ticket."""
    return get(f"/reads/{dataset_id}?referenceName={CONTIG}&start={region.start}&end={region.end}")


@contextmanager
def serving(folder: Path, sizes: Sizes) -> Iterator[Setting]:
    """Write the data to the folder and the bucket, and start all servers."""
    genome = Genome({CONTIG: 500_000})
    data = folder / "data"
    data.mkdir()
    sample = data / "sample.bam"
    genome.write_bam(sample, range(genome.block_count))
    genome.write_bai(sample.with_suffix(".bam.bai"))
    ids = ["sample", *(f"object{number}" for number in range(sizes.cold + sizes.objects))]
    for dataset_id in ids[1:]:
        for suffix in (".bam", ".bam.bai"):
            os.link(data / f"sample{suffix}", data / f"{dataset_id}{suffix}")
    kind = installed_kind()
    say(f"starting {kind.name}")
    with ExitStack() as stack:
        (folder / "s3").mkdir()
        server = stack.enter_context(serving_s3(kind, folder / "s3"))
        proxy = stack.enter_context(faulty_proxy(server.endpoint))
        bucket = server.create_bucket()
        server.put_folder(bucket, data)
        proxy.latency = LATENCY
        local = {"type": "local", "root": str(data)}
        remote = {
            "type": "s3",
            "bucket": bucket,
            "endpoint_url": proxy.url,
            "addressing_style": "path",
            # Longer than this takes: whether a memory ends in the middle of a round is chance.
            "revalidate": 3600,
        }
        yield Setting(
            genome,
            stack.enter_context(_server(folder, "local", local, server)),
            stack.enter_context(_server(folder, "remote", remote, server)),
            proxy,
            ids,
            server,
            bucket,
        )


def installed_kind() -> Kind:
    """versitygw, or rclone where that is not installed."""
    is_installed = os.environ.get("VERSITYGW") or shutil.which(VERSITYGW.name)
    return VERSITYGW if is_installed else RCLONE


@contextmanager
def _server(folder: Path, name: str, storage: dict[str, Any], s3: S3Server) -> Iterator[Process]:
    content = {
        "storages": {"data": storage},
        "datasets": [{"prefix": "", "storage": "data"}],
        "cache": {"folder": str(folder / f"{name}-cache")},
        "htsget": {"exact": False},
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(content))
    with htsget_server(path, threads=CLIENTS, environment=s3.environment()) as process:
        yield process


def warm(report: Report, sizes: Sizes, setting: Setting) -> None:
    """Tickets with cached edge blocks, from both servers in turns."""
    rng = random.Random(1)
    regions = [setting.region(rng) for _ in range(50)]
    first = [query("sample", region) for region in regions]
    answers = [drive(server.port, first, connections=CONNECTIONS).bodies for server in (setting.local, setting.remote)]
    for region, local, remote in zip(regions, *answers, strict=True):
        _compare(setting, [region], local, remote)
    known = [dict(zip(regions, bodies, strict=True)) for bodies in answers]
    setting.proxy.clear()
    seconds: list[list[float]] = [[], []]
    singles: list[list[float]] = [[], []]
    for _ in range(sizes.rounds):
        requested = rng.choices(regions, k=sizes.warm_requests)
        requests = [query("sample", region) for region in requested]
        for number, server in enumerate((setting.local, setting.remote)):
            for connections, times in ((CONNECTIONS, seconds), (1, singles)):
                load = drive(server.port, requests, connections=connections)
                times[number].append(load.seconds / len(requests))
                if any(body != known[number][region] for region, body in zip(requested, load.bodies, strict=True)):
                    raise AssertionError("the same request got two different tickets")
    count = len(setting.proxy.requests)
    for name, (local, remote) in ((f"{CONNECTIONS} clients", seconds), ("1 client", singles)):
        report.add(
            Measure(f"warm ticket of a folder, {name}", 1e6 * median_of(local), "us"),
            Measure(f"warm ticket of a bucket, {name}", 1e6 * median_of(remote), "us"),
            Measure(
                f"warm ticket, bucket / folder, {name}",
                median_of([there / here for here, there in zip(local, remote, strict=True)]),
                at_most=1.3,
            ),
        )
    report.add(Measure("requests to S3 for all warm tickets", count, at_most=0))


def cold(report: Report, sizes: Sizes, setting: Setting) -> None:
    """First tickets of objects, one after the other."""
    rng = random.Random(2)
    times, requests, rounds = [], [], []
    for dataset_id in setting.ids[1 : 1 + sizes.cold]:
        region = setting.region(rng)
        setting.proxy.clear()
        load = drive(setting.remote.port, [query(dataset_id, region)], connections=1)
        times.append(1000 * load.seconds)
        seen = setting.proxy.requests
        requests.append(len(seen))
        rounds.append(_round_trips(seen))
        local = drive(setting.local.port, [query(dataset_id, region)], connections=1).bodies[0]
        _compare(setting, [region], local, load.bodies[0])
    report.add(
        Measure("cold ticket, median", median_of(times), "ms"),
        Measure("cold ticket, requests to S3, most", max(requests)),
        Measure("cold ticket, round trips one after the other, most", max(rounds), at_most=5),
    )


def _round_trips(requests: Sequence[Request]) -> int:
    """The number of requests that waited for the answer of another one."""
    count, answered = 0, 0.0
    for request in requests:
        if request.time >= answered:
            count, answered = count + 1, request.time + LATENCY
    return count


def many(report: Report, sizes: Sizes, setting: Setting) -> None:
    """First tickets of many objects, from many clients at once."""
    rng = random.Random(3)
    ids = setting.ids[1 + sizes.cold :]
    queries = [(rng.choice(ids), setting.region(rng)) for _ in range(sizes.tickets)]
    requests = [query(*one) for one in queries]
    setting.proxy.clear()
    load = drive(setting.remote.port, requests, connections=CLIENTS)
    count = len(setting.proxy.requests)
    setting.proxy.latency = 0
    expected = drive(setting.local.port, requests, connections=CONNECTIONS).bodies
    for (_, region), local, remote in zip(queries, expected, load.bodies, strict=True):
        _compare(setting, [region], local, remote)
    setting.proxy.latency = LATENCY
    name = f"{sizes.tickets} tickets of {len(ids)} objects from {CLIENTS} clients"
    report.add(
        Measure(f"{name}, all right", len(queries)),
        Measure(f"{name}: together", load.seconds, "s"),
        Measure(f"{name}: requests to S3 per ticket", count / len(queries)),
        Measure(f"{name}: slowest / mean", max(load.times) * len(load.times) / sum(load.times), at_most=10),
    )


def ranges(report: Report, sizes: Sizes, setting: Setting) -> None:
    """Ranges of an object as long as an edge block, in turns with boto3's `get_object`."""
    client, name, key = setting.s3.client(), setting.bucket, "sample.bam"
    credentials = Credentials(OWNER.access_key, OWNER.secret_key)
    bucket = Bucket(client, credentials, name, storage="data", max_attempts=1, revalidate=3600)
    version, span = bucket.head(key), ByteRange(1000, 1000 + EDGE)

    def read() -> bytes:
        return b"".join(bucket.stream(key, version, span, on_response=lambda _: None))

    def read_by_boto3() -> bytes:
        field = f"bytes={span.start}-{span.end - 1}"
        return client.get_object(Bucket=name, Key=key, Range=field, IfMatch=version.etag)["Body"].read()

    ratios = []
    for _ in range(sizes.rounds):
        times = [time.process_time()]
        for fetch in (read, read_by_boto3):
            answers = {fetch() for _ in range(sizes.warm_requests)}
            times.append(time.process_time())
            if answers != {read_by_boto3()}:
                raise AssertionError("a range has other bytes than boto3 reads")
        ratios.append((times[1] - times[0]) / (times[2] - times[1]))
    report.add(Measure("CPU of a range, own request / get_object of boto3", median_of(ratios), at_most=0.5))


def _compare(setting: Setting, regions: list[Region], local: bytes, remote: bytes) -> None:
    """AssertionError unless the ticket of the folder is right and that of the bucket delivers the same bytes."""
    ports = (setting.local.port, setting.remote.port, _port(setting.proxy.url))
    with ExitStack() as stack:
        connections = {port: stack.enter_context(Connection(port)) for port in ports}
        check(local, setting.genome, regions, lambda url: connections[setting.local.port].exchange(get(url)).body)
        if _joined(local, connections, setting.local.port) != _joined(remote, connections, setting.remote.port):
            raise AssertionError(f"tickets of the folder and of the bucket deliver different bytes for {regions}")


def _joined(ticket: bytes, connections: Mapping[int, Connection], port: int) -> bytes:
    """All bytes of a ticket; `port` is that of the server itself."""
    return b"".join(_content(entry, connections, port) for entry in json.loads(ticket)["htsget"]["urls"])


def _content(entry: dict[str, Any], connections: Mapping[int, Connection], port: int) -> bytes:
    url = entry["url"]
    if url.startswith("data:"):
        return base64.b64decode(url.partition(",")[2])
    if "X-Amz-" in url:
        port = _port(url)
    fields = [f"{name}: {value}" for name, value in entry.get("headers", {}).items()]
    answer = connections[port].exchange(get(url, fields=fields, host=urlsplit(url).netloc))
    if answer.status not in (200, 206):
        raise AssertionError(f"status {answer.status}: {answer.body[:500]!r}")
    return answer.body


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes: shows that it works, not how fast.")
def main(quick: bool) -> None:
    """Measure the cost of tickets for a bucket."""
    sizes, report = (QUICK if quick else FULL), Report("s3")
    with limited(110 if quick else 300), tempfile.TemporaryDirectory(prefix="htsget-s3-") as name:
        say("writing a genome")
        with serving(Path(name), sizes) as setting:
            say("warm tickets, in turns with a folder")
            warm(report, sizes, setting)
            say("cold tickets")
            cold(report, sizes, setting)
            say("many objects at once")
            many(report, sizes, setting)
            say("ranges of an object")
            ranges(report, sizes, setting)
    sys.exit(report.finish(quick=quick))


if __name__ == "__main__":
    main()
