"""The cost of reference sequences: a store against nginx, a wrapped FASTA against pysam, slices, digests.

    python -m benchmarks.refget [--quick]

A separate pass compares every byte of every kind of answer with the sequence; each slice is compared where it is timed.
"""

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pysam

from benchmarks.blocks import Sample, Side, Sizes, Span, concurrent_memory, range_request, timed, verify
from benchmarks.client import drive, get
from benchmarks.report import Measure, Report, limited, median_of, missing_peer, say
from benchmarks.servers import Process, flask_floor, htsget_server, nginx, nginx_command
from htsget_flask.commands.refget import ingest_fasta
from htsget_flask.sequences.fasta_files import build_index
from htsget_flask.sequences.lookup import FastaFile
from htsget_flask.sequences.store import StoreWriter
from htsget_flask.storage.local import LocalStorage

CONNECTIONS = 4
SLICE = 1000
MB = 1_000_000
WIDTH = 60


class Scale(NamedTuple):
    """How much is measured: a sequence of `length` letters, ranges of `part` letters, `slices` slices in each round."""

    length: int
    part: int
    rounds: int
    slices: int
    download: int


FULL = Scale(250 * MB, 50 * MB, 7, 1000, 50 * MB)
QUICK = Scale(20 * MB, 5 * MB, 2, 100, 5 * MB)

_MIN_NGINX = 0.8
_MIN_FLOOR = 0.6
_MIN_PYSAM = 5
_MAX_DIGEST = 1.5


class Case(NamedTuple):
    """The sequence: alone in a file of the store, which is mapped, and in a FASTA file with lines of 60 letters."""

    folder: Path
    flat: Sample
    fasta: Path
    md5: str


def prepare(folder: Path, length: int) -> Case:
    """Write the sequence as FASTA, and add it to a store."""
    rng = np.random.default_rng(5)
    letters = np.frombuffer(b"ACGTacgt", np.uint8)[rng.integers(0, 8, length // WIDTH * WIDTH, np.uint8)]
    lines = np.full((len(letters) // WIDTH, WIDTH + 1), ord("\n"), np.uint8)
    lines[:, :WIDTH] = letters.reshape(-1, WIDTH)
    (folder / "data").mkdir()
    fasta = folder / "data" / "one.fa"
    fasta.write_bytes(b">one\n" + lines.tobytes())
    pysam.faidx(str(fasta))
    ingest_fasta(fasta, StoreWriter(folder / "store"), folder / "cache", _no_progress)
    md5 = hashlib.md5(letters.tobytes().upper(), usedforsecurity=False).hexdigest()
    path = folder / "store" / md5[:2] / md5[2:4] / md5[4:]
    return Case(folder, Sample(path, np.memmap(path, np.uint8, "r")), fasta, md5)


@contextmanager
def _no_progress(_: str, __: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def configuration(case: Case, source: str) -> Path:
    """The configuration of a server that takes the sequence from the store or from the FASTA file."""
    path = case.folder / f"{source}.yaml"
    refget = {"store": "store: {storage: store}", "fasta": "fastas: [{storage: data, key: one.fa}]"}[source]
    path.write_text(
        "storages: {data: {type: local, root: data}, store: {type: local, root: store}}\n"
        "datasets: [{prefix: '', storage: data}]\n"
        f"refget: {{{refget}}}\ncache: {{folder: cache}}\n"
    )
    return path


def digests(report: Report, scale: Scale, case: Case) -> None:
    """Processor time for the digests of all of a FASTA file."""
    storage = LocalStorage(case.fasta.parent)
    seconds = []
    for _ in range(scale.rounds):
        started = time.process_time()
        index = build_index(storage, "one.fa", storage.stat("one.fa"))
        seconds.append((time.process_time() - started) * 250 * MB / scale.length)
        if index.digests(0).md5.hex() != case.md5:
            raise AssertionError("the digest is not that of the sequence")
    report.add(Measure("digests of 250 Mb in FASTA, processor time", median_of(seconds), "s", at_most=_MAX_DIGEST))


def letters(report: Report, scale: Scale, case: Case) -> None:
    """The whole sequence of a FASTA file, within this process, as a server reads it and as pysam does."""
    storage = LocalStorage(case.fasta.parent)
    fasta = FastaFile(storage, "one.fa", storage.stat("one.fa"), build_index(storage, "one.fa", storage.stat("one.fa")))
    layout, length = fasta.index.layout(0), case.flat.size
    with fasta.open() as file, pysam.FastaFile(str(case.fasta)) as other:
        position = 0
        for buffer in fasta.read_letters(file, layout, 0, length):
            if not np.array_equal(
                np.frombuffer(buffer, np.uint8), case.flat.content[position : position + len(buffer)]
            ):
                raise AssertionError("the letters differ from the sequence")
            position += len(buffer)
        ratios = []
        for _ in range(scale.rounds):
            started = time.perf_counter()
            ours = sum(len(buffer) for buffer in fasta.read_letters(file, layout, 0, length))
            between = time.perf_counter()
            theirs = len(other.fetch("one"))
            ended = time.perf_counter()
            if not ours == theirs == length:
                raise AssertionError("not all letters were read")
            ratios.append((ended - between) / (between - started))
    report.add(Measure("wrapped FASTA, whole: speed / pysam's fetch", median_of(ratios), at_least=_MIN_PYSAM))


def whole_request(target: str) -> Callable[[Span], bytes]:
    """Requests for all of a resource."""
    return lambda _: get(target)


def against_nginx(report: Report, scale: Scale, case: Case, server: Process, peer: Process) -> None:
    """The store's whole sequence and a part of it, against nginx with the same file."""
    plain = f"/{case.flat.path.relative_to(case.folder / 'store')}"
    start = (case.flat.size - scale.part) // 2 | 1
    for name, span, ask in (
        ("whole", Span(0, case.flat.size), whole_request),
        (f"{scale.part // MB} Mb range", Span(start, start + scale.part), range_request),
    ):
        sides = [Side("store", server, ask(f"/sequence/{case.md5}")), Side("nginx", peer, ask(plain))]
        for side in sides:
            verify(side, case.flat, [span])
        count = max(2, case.flat.size // (span.end - span.start))
        rounds = [[timed(side, [span] * count) for side in sides] for _ in range(scale.rounds)]
        share = median_of([theirs.seconds / ours.seconds for ours, theirs in rounds])
        ours, theirs = (sum(usages[index].cpu for usages in rounds) for index in (0, 1))
        report.add(
            Measure(f"store, {name}: throughput / nginx", share, at_least=_MIN_NGINX),
            Measure(f"store, {name}: CPU / nginx", ours / max(theirs, 1e-15)),
        )


def slices(report: Report, scale: Scale, case: Case, server: Process, floor: Process, name: str) -> None:
    """Slices of 1 kb against the empty route."""
    rng = random.Random(7)
    ratios, rates = [], []
    for warm_up in [True, *(False for _ in range(scale.rounds))]:
        started = drive(floor.port, [get("/")] * scale.slices, connections=CONNECTIONS).seconds
        starts = [rng.randrange(case.flat.size - SLICE) for _ in range(scale.slices)]
        requests = [get(f"/sequence/{case.md5}?start={start}&end={start + SLICE}") for start in starts]
        seconds, bodies, _ = drive(server.port, requests, connections=CONNECTIONS)
        for start, body in zip(starts, bodies, strict=True):
            if body != case.flat.content[start : start + SLICE].tobytes():
                raise AssertionError(f"the slice at {start} differs from the sequence")
        if not warm_up:
            ratios.append(started / seconds)
            rates.append(scale.slices / seconds)
    report.add(
        Measure(f"{name}, 1 kb slices", median_of(rates), "/s"),
        Measure(f"{name}, 1 kb slices: throughput / empty route", median_of(ratios), at_least=_MIN_FLOOR),
    )


def downloads(report: Report, scale: Scale, case: Case, server: Process, name: str) -> None:
    """The rate of one download of the whole sequence, and the memory of many at once."""
    side = Side(name, server, range_request(f"/sequence/{case.md5}"))
    verify(side, case.flat, [Span(0, case.flat.size)])
    usage = [timed(side, [Span(0, case.flat.size)]) for _ in range(scale.rounds)]
    rate = 1e-6 / median_of([one.seconds for one in usage])
    report.add(Measure(f"{name}, whole over HTTP", rate, "MB/s"))
    concurrent_memory(report, Sizes(0, (), 0, 0, 0, scale.download), case.flat, side)


def measure(report: Report, scale: Scale, case: Case) -> None:
    """Measure everything, with or without nginx."""
    say("digests")
    digests(report, scale, case)
    say("letters of a FASTA file")
    letters(report, scale, case)
    with flask_floor(case.folder) as floor:
        for source, name in (("store", "store"), ("fasta", "wrapped FASTA")):
            with htsget_server(configuration(case, source)) as server:
                say(f"slices: {name}")
                slices(report, scale, case, server, floor, name)
                say(f"downloads: {name}")
                downloads(report, scale, case, server, name)
                if source == "store":
                    if nginx_command() is None:
                        missing_peer(report, "comparison with nginx", "nginx is not installed")
                        continue
                    say("nginx")
                    with nginx(case.folder, case.folder / "store") as peer:
                        against_nginx(report, scale, case, server, peer)


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes: shows that it works, not how fast.")
def main(quick: bool) -> None:
    """Measure the cost of reference sequences."""
    scale, report = (QUICK if quick else FULL), Report("refget")
    with limited(110 if quick else 540), tempfile.TemporaryDirectory(prefix="htsget-refget-") as name:
        say("writing a sequence")
        measure(report, scale, prepare(Path(name), scale.length))
    sys.exit(report.finish(quick=quick))


if __name__ == "__main__":
    main()
