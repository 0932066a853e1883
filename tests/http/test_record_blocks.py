"""Data blocks of records, cut, filtered or converted: HTTP, the same bytes everywhere, and faults."""

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from htsget_flask.htsget import block_bytes
from tests.support.client import FlaskHttp, Ticket, fetch, fetch_ticket, join, records, scan, truth
from tests.support.files.bam import MATCH, Read, Reference, bam_data
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf
from tests.support.files.indexes import make_index
from tests.support.guarded import Caller, guarded
from tests.support.issuer import Issuer
from tests.support.range_cases import CASES, MIN_SIZE, check_case
from tests.support.served import ServedFile
from tests.support.view import view

REGION = {"referenceName": "chr1", "start": 1_000, "end": 2_900_000}
FIELDS = {"fields": "POS,CIGAR,SEQ", "tags": "NM"}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a region of BAM": ("bam_straddling", REGION),
    "a region of VCF": ("vcf_mid_line_blocks", REGION),
    "a region of BCF": ("bcf_straddling", REGION),
    "fields of BAM": ("bam_all_placed", FIELDS),
    "fields of a region of BAM": ("bam_normal", {**REGION, **FIELDS}),
    "CRAM as BAM": ("cram_no_eof", {"format": "BAM"}),
    "a region of CRAM as BAM": ("cram_multi_slice", {"format": "BAM", **REGION}),
    "fields of CRAM as BAM": ("version_3_0", {"format": "BAM", "referenceName": "chr1", **FIELDS}),
    "BCF as VCF": ("bcf_no_eof", {"format": "VCF"}),
    "BCF as text": ("bcf_normal", {"format": "VCFTEXT", **REGION}),
    "VCF as text": ("vcf_tiny_blocks", {"format": "VCFTEXT"}),
}


class Sample:
    """A dataset and a request for records of it."""

    def __init__(self, kind: str, folder: Path) -> None:
        maker, self.parameters = KINDS[kind]
        self.file = ServedFile(maker, folder)
        self.parameters = {"format": self.file.format, **self.parameters}
        self.http = self.file.serve()

    def ticket(self, http: FlaskHttp | Caller | None = None) -> Ticket:
        """The ticket, with nothing inline."""
        return fetch_ticket(http or self.http, self.file.ticket_path, inline="false", **self.parameters)

    def block(self, http: FlaskHttp | Caller | None = None) -> str:
        """The URL of the longest data block of records."""
        client = http or self.http
        urls: list[str] = [entry["url"] for entry in self.ticket(client)["htsget"]["urls"] if entry["class"] == "body"]
        return max(urls, key=lambda url: len(client.get(url).body))


@pytest.fixture(scope="module", params=KINDS)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A dataset and a request of a kind."""
    return Sample(request.param, tmp_path_factory.mktemp("records"))


class TestABlockIsAResource:
    def test_ranges_and_preconditions(self, sample: Sample) -> None:
        url = sample.block()
        whole = sample.http.get(url)
        assert len(whole.body) >= MIN_SIZE
        for case in CASES:
            check_case(case, sample.http, url, whole.body, etag=whole.headers["etag"], last_modified=None)

    def test_head(self, sample: Sample) -> None:
        url = sample.block()
        whole = sample.http.get(url)
        answer = sample.http.request("HEAD", url)
        assert (answer.status, answer.body) == (200, b"")
        for name in ("content-length", "etag", "accept-ranges", "content-type", "cache-control"):
            assert answer.headers[name] == whole.headers[name]
        assert whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-length"] == str(len(whole.body))
        assert whole.headers["x-content-type-options"] == "nosniff"

    def test_a_download_that_is_resumed(self, sample: Sample) -> None:
        """By another application, as after a restart."""
        url = sample.block()
        whole = sample.http.get(url)
        middle = len(whole.body) // 2
        other = sample.file.serve(cache={"folder": str(sample.file.folder / "other")})
        rest = other.get(url, {"Range": f"bytes={middle}-", "If-Range": whole.headers["etag"]})
        assert rest.status == 206
        is_equal = whole.body[:middle] + rest.body == whole.body
        assert is_equal

    @pytest.mark.parametrize("kind", ["a region of CRAM as BAM", "fields of a region of BAM"])
    def test_not_if_it_is_longer_than_those_of_tickets(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = Sample(kind, tmp_path)
        url = sample.block()
        monkeypatch.setattr(block_bytes, "_MAX_SPAN", 20_000)
        assert sample.http.get(url).status == 404


class TestTheBytesAreTheSame:
    def test_in_every_application_in_any_order(self, sample: Sample) -> None:
        ticket = sample.ticket()
        urls = [entry["url"] for entry in ticket["htsget"]["urls"]]
        answers = {url: sample.http.get(url) for url in urls}
        for number, cache in enumerate(({"max_bytes": 0}, {})):
            other = sample.file.serve(cache={"folder": str(sample.file.folder / f"cache{number}"), **cache})
            # Blocks before their ticket, as another worker may have made that one.
            for url in random.Random(number).sample(urls, len(urls)):
                answer = other.get(url)
                assert answer.headers["etag"] == answers[url].headers["etag"]
                is_equal = answer.body == answers[url].body
                assert is_equal, url
            assert sample.ticket(other) == ticket

    def test_inline_or_not(self, sample: Sample) -> None:
        apart = join(sample.http, sample.ticket())
        inline = fetch(sample.http, sample.file.ticket_path, **sample.parameters)
        format_name = sample.parameters["format"]
        if format_name == "VCFTEXT":
            assert inline == apart
        else:
            assert sample.file.delivered(inline, format_name) == sample.file.delivered(apart, format_name)


class TestAReplacedFile:
    def test_is_gone(self, sample: Sample) -> None:
        url = sample.block()
        path = sample.file.path
        stat = path.stat()
        try:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))
            http = sample.file.serve()
            answer = http.get(url)
            assert (answer.status, json.loads(answer.body)["htsget"]["error"]) == (410, "Gone")
            assert http.get(sample.block(http)).status == 200
        finally:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class TestADamagedFile:
    def test_is_an_error_before_the_first_byte(self, sample: Sample) -> None:
        """Each of the file's bytes that a block is made of is checked, except in blocks that are sent as they are."""
        path = sample.file.path
        url, sound = sample.block(), path.read_bytes()
        expected = sample.http.get(url).body
        stat = path.stat()
        rng = random.Random(path.name)
        is_sent = sample.parameters["format"] == sample.file.format and "fields" not in sample.parameters
        faults = 0
        try:
            for _ in range(8):
                content = bytearray(sound)
                content[rng.randrange(len(sound) // 10, len(sound) * 9 // 10)] ^= 0xFF
                path.write_bytes(content)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                answer = sample.file.serve(cache={"max_bytes": 0}).get(url)
                assert answer.status in (200, 500)
                if answer.status == 500:
                    faults += 1
                    assert json.loads(answer.body)["htsget"]["error"] == "InternalServerError"
                elif not is_sent:
                    is_equal = answer.body == expected
                    assert is_equal
        finally:
            path.write_bytes(sound)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert faults or is_sent


def _unsorted(folder: Path, move: Callable[[random.Random, list[int]], None]) -> list[str]:
    """A BAM file whose records `move` shifts after the index was made; the lines of all its records."""
    rng = random.Random(3)
    starts = sorted(rng.randrange(200_000) for _ in range(8_000))

    def write(positions: list[int]) -> Path:
        reads = [Read(f"r{number:05}", 0, 0, start, ((MATCH, 50),), 50) for number, start in enumerate(positions)]
        path = folder / "unsorted.bam"
        # Not compressed: the blocks stay where the index says.
        data = bam_data((Reference("chr1", 300_000),), reads)
        write_bgzf(path, cut(data, MAX_BLOCK_DATA), level=0)
        return path

    make_index(write(starts))
    move(rng, starts)
    path = write(starts)
    index = Path(f"{path}.bai")
    os.utime(path, (index.stat().st_mtime - 10,) * 2)
    return view(path, "BAM")


class TestManyRegions:
    """Short regions share data blocks; records are those of the file, each once, in its order."""

    @pytest.mark.parametrize("maker", ["bam_long_reads", "bam_straddling", "vcf_contig_order", "bcf_straddling"])
    def test_are_few_data_blocks(self, maker: str, tmp_path: Path) -> None:
        file = ServedFile(maker, tmp_path)
        rng = random.Random(maker)
        placed = [record for record in scan(file.path, file.format) if record.reference_name != "*"]
        chosen = [rng.choice(placed) for _ in range(300)]
        regions = [
            (one.reference_name, max(0, one.start - rng.randrange(50)), one.start + rng.choice((1, 10, 100, 5_000)))
            for one in chosen
        ]
        body = {"regions": [{"referenceName": name, "start": start, "end": end} for name, start, end in regions]}
        http = file.serve()
        ticket = fetch_ticket(http, file.ticket_path, method="POST", json={"format": file.format, **body})
        urls = [entry["url"] for entry in ticket["htsget"]["urls"]]
        assert len(urls) <= 2 + -(-300 // 64) and max(map(len, (url for url in urls if url[:4] == "http"))) < 3_000
        assert records(join(http, ticket), file.format, tmp_path) == truth(file.path, file.format, regions)

    def test_no_other_groups_are_served(self, tmp_path: Path) -> None:
        http = ServedFile("bam_normal", tmp_path).serve()
        etag = fetch_ticket(http, "/reads/normal", inline="false")["htsget"]["urls"][0]["url"].split("/")[-5]

        def status(regions: Sequence[str]) -> int:
            return http.get(f"/blocks/{etag}/regions-{','.join(regions)}/reads/BAM/normal").status

        assert status(["0.1000-2000.0"] * 64) == 200
        assert status(["0.1000-2000.0"] * 65) == status(["99.1000-2000.0"]) == status(["u.0-.0"]) == 404


class TestAnUnsortedFile:
    """Where a record was that has another position now: a fault, or nevertheless the right records."""

    @pytest.mark.parametrize("distance", [60, 3_000, 40_000])
    def test_is_never_a_wrong_set_of_records(self, distance: int, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        moved: list[int] = []

        def move(rng: random.Random, starts: list[int]) -> None:
            for _ in range(12):
                number = rng.randrange(len(starts) - 1)
                moved.append(starts[number])
                starts[number] = max(0, starts[number] + rng.choice((-1, 1)) * distance)

        lines = _unsorted(data, move)
        http = ServedFile("unsorted", tmp_path, path=data / "unsorted.bam").serve()
        faults = 0
        for start in [max(0, position - 100) for position in moved]:
            ticket = http.get(f"/reads/unsorted?referenceName=chr1&start={start}&end={start + 200}")
            if ticket.status == 500:
                faults += 1
                continue
            blocks = [url["url"] for url in json.loads(ticket.body)["htsget"]["urls"] if url["url"][:4] == "http"]
            if any(http.get(url).status == 500 for url in blocks):
                faults += 1
                continue
            (tmp_path / "answer.bam").write_bytes(join(http, json.loads(ticket.body)))
            overlapping = [line for line in lines if start - 50 < int(line.split("\t")[3]) - 1 < start + 200]
            assert view(tmp_path / "answer.bam", "BAM") == overlapping
        assert faults


class TestSignedUrls:
    def test_cover_what_the_records_are(self, sample: Sample, issuer: Issuer) -> None:
        storages = {"data": {"type": "local", "root": str(sample.file.path.parent)}}
        more: dict[str, Any] = {}
        if sample.file.reference is not None:
            storages["reference"] = {"type": "local", "root": str(sample.file.reference.parent)}
            more["refget"] = {"fastas": [{"storage": "reference", "prefix": ""}]}
        http = guarded(sample.file.path.parent, issuer, [{"ids": ["*"]}], storages=storages, **more)
        caller = Caller(http, issuer.token("ES256"))
        url = sample.block(caller)
        signed = caller.get(url)
        assert signed.status == 200
        is_equal = signed.body == sample.http.get(sample.block()).body
        assert is_equal
        parts = urlsplit(url)
        assert http.get(parts.path).status in (401, 403)
        for other in self.others(parts.path):
            assert http.get(f"{other}?{parts.query}").status in (401, 403), other

    def others(self, path: str) -> list[str]:
        """Paths that differ in one digit or in the format."""
        _, blocks, etag, segment, rest = path.split("/", 4)
        digits = [index for index, character in enumerate(segment) if character.isdigit()]
        changed = [
            segment[:index] + str((int(segment[index]) + 1) % 10) + segment[index + 1 :] for index in digits[-1:]
        ]
        formats = [rest.replace(one, other) for one, other in (("BAM", "CRAM"), ("VCF", "BCF")) if one in rest]
        return [f"/{blocks}/{etag}/{one}/{rest}" for one in changed] + [
            f"/{blocks}/{etag}/{segment}/{one}" for one in formats
        ]
