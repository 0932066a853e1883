"""The reads of reads.py as datasets, and answers followed to their end and compared with what samtools prints."""

import base64
import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pysam.samtools

from benchmarks import reads
from benchmarks.client import Connection, get
from benchmarks.reads import CONTIG
from tests.support.client import Region
from tests.support.view import view

KB = 1_000
BAM, CRAM = "bam", "cram"
"""The datasets, which have no other format."""


@dataclass(frozen=True)
class Sample:
    """The files, copied into `folder`/data."""

    folder: Path
    files: reads.Files

    def configuration(self, name: str, storage: Mapping[str, Any] | None = None, **htsget: object) -> Path:
        """A configuration of the server with these settings of its section `htsget`, and a separate cache folder."""
        path = self.folder / f"{name}.yaml"
        content = {
            "storages": {
                "data": storage or {"type": "local", "root": str(self.folder / "data")},
                "reference": {"type": "local", "root": str(self.files.fasta.parent)},
            },
            "datasets": [{"prefix": "", "storage": "data"}],
            "refget": {"fastas": [{"storage": "reference", "key": self.files.fasta.name}]},
            "cache": {"folder": str(self.folder / f"{name}-cache")},
            "htsget": htsget,
        }
        path.write_text(json.dumps(content))
        return path

    def windows(self, length: int, count: int, rng: random.Random) -> list[Region]:
        """Regions anywhere but at the ends of the reference."""
        starts = (rng.randrange(KB, self.files.length - length - KB) for _ in range(count))
        return [(CONTIG, start, start + length) for start in starts]

    def expected(self, dataset_id: str, region: Region | None) -> list[str]:
        """The records of a region as samtools prints them, with MD and NM as it makes them."""
        if dataset_id == BAM:
            return view(self.files.bam, "BAM", region)
        return view(self.files.cram, "CRAM", region, reference=self.files.fasta)

    def check(self, body: bytes, dataset_id: str, region: Region | None) -> None:
        """AssertionError unless an answer has exactly the records of a region."""
        if self.printed(body) != self.expected(dataset_id, region):
            raise AssertionError(f"the answer for {region} does not have the records of the file")

    def printed(self, body: bytes) -> list[str]:
        """The records of an answer as samtools prints them."""
        path = self.folder / "answer.bam"
        path.write_bytes(body)
        return view(path, "BAM")

    def encoded_size(self, region: Region) -> int:
        """The bytes of a region's records as samtools compresses them at level 1, without header and end of file."""
        name, start, end = region
        return self._encoded_size(f"{name}:{(start or 0) + 1}-{end}") - self._header_size

    @cached_property
    def _header_size(self) -> int:
        return self._encoded_size("-H")

    def _encoded_size(self, selection: str) -> int:
        path = self.folder / "encoded.bam"
        options = ("--no-PG", "-b", "--output-fmt-option", "level=1", "-o", str(path), str(self.files.bam))
        pysam.samtools.view(*options, selection, catch_stdout=False)
        return path.stat().st_size


def prepare(folder: Path, length: int) -> Sample:
    """Copy the data into the folder."""
    files = reads.prepare(length)
    (folder / "data").mkdir()
    for path, dataset_id in ((files.bam, BAM), (files.cram, CRAM)):
        for source in path.parent.glob(f"{path.name}*"):
            shutil.copy2(source, folder / "data" / f"{dataset_id}{source.name.removeprefix(path.stem)}")
    return Sample(folder, files)


def target(dataset_id: str, region: Region | None = None, more: str = "") -> bytes:
    """The request of a ticket for BAM; `more`: further parameters, each after an ampersand."""
    bounds = "" if region is None else "&referenceName={}&start={}&end={}".format(*region)
    return get(f"/reads/{dataset_id}?format=BAM{bounds}{more}")


class Delivery(NamedTuple):
    """The parts of an answer in order, with header and end of file; the requests and bytes that it took."""

    parts: list[bytes]
    requests: int
    received: int

    @property
    def body(self) -> bytes:
        """All bytes of the answer."""
        return b"".join(self.parts)

    @property
    def records_size(self) -> int:
        """The bytes of the records, compressed: without header and end of file."""
        return sum(map(len, self.parts[1:-1]))


def deliver(connection: Connection, request: bytes) -> Delivery:
    """Request a ticket, and fetch its data blocks one after the other."""
    ticket = connection.exchange(request)
    parts, requests, received = [], 1, len(ticket.body)
    for entry in json.loads(_success(ticket.status, ticket.body))["htsget"]["urls"]:
        if entry["url"].startswith("data:"):
            parts.append(base64.b64decode(entry["url"].partition(",")[2]))
            continue
        answer = connection.exchange(get(entry["url"]))
        parts.append(_success(answer.status, answer.body))
        requests, received = requests + 1, received + len(answer.body)
    return Delivery(parts, requests, received)


def _success(status: int, body: bytes) -> bytes:
    if status != 200:
        raise AssertionError(f"status {status}: {body[:500]!r}")
    return body
