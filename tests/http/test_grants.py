"""Grants that are limited to regions: every record is compared with pysam's."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import (
    SUFFIXES,
    FlaskHttp,
    Region,
    bgzf_blocks,
    cram_containers,
    fetch,
    fetch_ticket,
    file_header,
    header_text,
    intersect,
    join,
    records,
    scan,
    truth,
)
from tests.support.files import FORMATS, GOOD
from tests.support.files.bam import bam_normal
from tests.support.guarded import Caller, audit, guarded
from tests.support.issuer import Issuer

GRANTS = int(os.environ.get("HTSGET_FLASK_TEST_REGIONS", "12"))
# One file for each layout of records in blocks and of references in the index.
MAKERS = (
    "bam_normal",
    "bam_straddling",
    "bam_csi",
    "bam_long_reads",
    "bam_empty_blocks",
    "bam_no_eof",
    "vcf_mid_line_blocks",
    "vcf_crlf",
    "vcf_csi",
    "vcf_contig_order",
    "vcf_no_contig_lines",
    "vcf_odd_names",
    "bcf_straddling",
    "bcf_sparse_idx",
    "cram_2_1",
    "cram_3_0",
    "cram_3_1",
    "cram_embedded_reference",
    "cram_multi_slice",
    "cram_multi_ref",
    "cram_multi_ref_multi_slice",
    "cram_contig_without_records",
    "cram_odd_names",
    "cram_long_contig",
    "cram_no_eof",
)


class Case:
    """A file, and callers that may see regions of it."""

    def __init__(self, name: str, folder: Path, issuer: Issuer) -> None:
        self.format = FORMATS[name]
        self.folder = folder / "data"
        self.folder.mkdir()
        self.path = GOOD[name](self.folder)
        self.issuer = issuer
        endpoint = "reads" if self.format in ("BAM", "CRAM") else "variants"
        self.ticket_path = f"/{endpoint}/{self.path.name.removesuffix(SUFFIXES[self.format])}"
        self.rng = random.Random(name)
        self.records = [record for record in scan(self.path, self.format) if record.reference_name != "*"]

    def caller(self, grants: Sequence[Region], **auth: str) -> Caller:
        regions = [{"reference": name, "start": start or 0, "end": end} for name, start, end in grants]
        http: FlaskHttp = guarded(self.folder, self.issuer, [{"ids": ["*"], "regions": regions}], auth=auth)
        return Caller(http, self.issuer.token("ES256"))

    def regions(self, count: int) -> list[Region]:
        regions: list[Region] = []
        for _ in range(count):
            record = self.rng.choice(self.records)
            start = max(0, record.start + self.rng.randrange(-300, 300))
            shape = self.rng.random()
            end = None if shape < 0.1 else start + int(10 ** self.rng.uniform(0, 4.5))
            regions.append((record.reference_name, start, end))
        return regions


@pytest.fixture(scope="module", params=MAKERS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param), issuer)


class TestOnlyRecordsOfTheGrantAreDelivered:
    def test_of_the_whole_file(self, case: Case, tmp_path: Path) -> None:
        for count in (1, 2, 5, *[3] * (GRANTS // 4)):
            grants = case.regions(count)
            body = fetch(case.caller(grants), case.ticket_path, format=case.format)
            assert records(body, case.format, tmp_path) == truth(case.path, case.format, grants)
            assert header_text(body, case.format, tmp_path) == file_header(case.path, case.format)

    def test_of_regions(self, case: Case, tmp_path: Path) -> None:
        for _ in range(GRANTS // 4):
            grants = case.regions(4)
            caller = case.caller(grants)
            for name, start, end in grants:
                requested: list[Region] = [(name, max(0, (start or 0) - 5000), None if end is None else end + 5000)]
                ((_, first, last),) = requested
                body = fetch(caller, case.ticket_path, format=case.format, referenceName=name, start=first, end=last)
                assert records(body, case.format, tmp_path) == truth(
                    case.path, case.format, intersect(requested, grants)
                )
            regions = [{"referenceName": name, "start": start, "end": end} for name, start, end in grants]
            body = fetch(caller, case.ticket_path, method="POST", json={"format": case.format, "regions": regions})
            assert records(body, case.format, tmp_path) == truth(case.path, case.format, grants)

    def test_no_byte_of_other_records(self, case: Case) -> None:
        """The blocks of the ticket hold the header and whole records, and nothing between them."""
        record = case.records[len(case.records) // 2]
        grant: Region = (record.reference_name, record.start, record.start + 1)
        caller = case.caller([grant])
        for inline in ("true", "false"):
            ticket = fetch_ticket(caller, case.ticket_path, format=case.format, inline=inline)
            body = join(caller, ticket)
            if case.format == "CRAM":
                held = [container.records for container in cram_containers(body)]
                assert sum(held) == len(truth(case.path, case.format, [grant]))
            else:
                assert b"".join(bgzf_blocks(body))
        _, *urls, _ = (entry["url"] for entry in ticket["htsget"]["urls"])
        assert urls
        assert all("/records-" in url for url in urls)


class TestRegionsOutsideAreDenied:
    @pytest.fixture
    def caller(self, tmp_path: Path, issuer: Issuer) -> Caller:
        case = Case("bam_normal", tmp_path, issuer)
        record = case.records[0]
        return case.caller([(record.reference_name, record.start, record.start + 1000)])

    def status(self, caller: Caller, path: str) -> tuple[int, str]:
        answer = caller.get(path)
        content = json.loads(answer.body)["htsget"]
        return answer.status, content.get("error", "")

    @pytest.mark.parametrize(
        "query", ["referenceName=chr2", "referenceName=*", "referenceName=none", "referenceName=chr1&start=90000000"]
    )
    def test_a_region(self, caller: Caller, query: str) -> None:
        assert self.status(caller, f"/reads/normal?{query}") == (403, "PermissionDenied")

    def test_except_an_empty_region_inside(self, tmp_path: Path, issuer: Issuer) -> None:
        case = Case("bam_normal", tmp_path, issuer)
        start = 5000
        caller = case.caller([("chr1", start, start + 1000)])
        for position in (start, start + 500, start + 1000):
            body = fetch(caller, case.ticket_path, referenceName="chr1", start=position, end=position)
            assert records(body, "BAM", tmp_path) == []
        for position in (start - 1, start + 1001):
            query = f"referenceName=chr1&start={position}&end={position}"
            assert self.status(caller, f"{case.ticket_path}?{query}") == (403, "PermissionDenied")

    def test_one_of_several(self, caller: Caller) -> None:
        body = json.dumps({"regions": [{"referenceName": "chr1"}, {"referenceName": "chr2"}]}).encode()
        answer = caller.post("/reads/normal", body, {"Content-Type": "application/json"})
        assert answer.status == 403

    def test_plain_files(self, tmp_path: Path, issuer: Issuer) -> None:
        data = tmp_path / "data"
        data.mkdir()
        bam_normal(data)
        rules = [{"ids": ["*"], "regions": [{"reference": "chr1"}]}]
        http = guarded(data, issuer, rules, files={"storages": ["data"], "listing": True})
        caller = Caller(http, issuer.token("ES256"))
        assert caller.get("/files/data/normal.bam").status == 403
        assert json.loads(caller.get("/files/data/?limit=9").body)["files"] == []
        assert b"normal" not in caller.get("/files/data/").body


class TestRegionsOutsideAreEmpty:
    """With `auth.outside: empty`, for callers that may have some regions."""

    @pytest.mark.parametrize("name", ["bam_normal", "cram_embedded_reference", "vcf_mid_line_blocks", "bcf_straddling"])
    def test_a_region(self, name: str, tmp_path: Path, issuer: Issuer) -> None:
        case = Case(name, tmp_path, issuer)
        record = case.records[0]
        grant: Region = (record.reference_name, record.start, record.start + 100)
        caller = case.caller([grant], outside="empty")
        outside: Region = (record.reference_name, record.start + 200_000_000, None)
        names: list[dict[str, Any]] = [{"referenceName": outside[0], "start": outside[1]}]
        if case.format in ("BAM", "CRAM"):
            names.append({"referenceName": "*"})
        for parameters in names:
            body = fetch(caller, case.ticket_path, format=case.format, **parameters)
            assert records(body, case.format, tmp_path) == []
            assert header_text(body, case.format, tmp_path) == file_header(case.path, case.format)
            line = audit(case.folder)[-1]
            assert (line["decision"], line["reason"]) == (
                "allowed",
                "rules[0], which is limited to other regions: without records of these",
            )
        regions = [{"referenceName": n, "start": start, "end": end} for n, start, end in (grant, outside)]
        body = fetch(caller, case.ticket_path, method="POST", json={"format": case.format, "regions": regions})
        assert records(body, case.format, tmp_path) == truth(case.path, case.format, [grant])

    def test_except_an_unknown_reference(self, tmp_path: Path, issuer: Issuer) -> None:
        caller = Case("bam_normal", tmp_path, issuer).caller([("chr1", 0, 10)], outside="empty")
        assert caller.get("/reads/normal?referenceName=none").status == 404

    def test_except_without_any_grant(self, tmp_path: Path, issuer: Issuer) -> None:
        case = Case("bam_normal", tmp_path, issuer)
        caller = case.caller([("chr1", 0, 10)], outside="empty")
        anybody = Caller(FlaskHttp(caller.client), None)
        assert anybody.get(f"{case.ticket_path}?referenceName=chr2").status == 401
        rules = [{"ids": ["other"]}]
        for hide, status in ((False, 403), (True, 404)):
            http = guarded(case.folder, issuer, rules, auth={"outside": "empty", "hide": hide})
            other = Caller(http, issuer.token("ES256"))
            assert other.get(f"{case.ticket_path}?referenceName=chr2").status == status
        assert caller.get("/files/data/normal.bam").status == 403


class TestAFaultIsReported:
    @pytest.mark.parametrize(
        ("name", "format_name"),
        [("bam_straddling", "BAM"), ("cram_3_0", "CRAM"), ("cram_3_0", "BAM"), ("bcf_straddling", "VCF")],
    )
    def test_before_the_answer(self, name: str, format_name: str, tmp_path: Path, issuer: Issuer) -> None:
        case = Case(name, tmp_path, issuer)
        record = case.records[len(case.records) // 2]
        caller = case.caller([(record.reference_name, 0, None)])
        ticket = fetch_ticket(caller, case.ticket_path, format=format_name, inline="false")
        (url,) = [entry["url"] for entry in ticket["htsget"]["urls"] if "/records-" in entry["url"]]
        assert caller.get(url, {"Range": "bytes=0-9"}).status == 206
        content = case.path.read_bytes()
        stat = case.path.stat()
        if case.format == "CRAM":
            damaged = bytearray(content)
            damaged[len(content) // 2] ^= 255
        else:
            first, *blocks = map(bytearray, bgzf_blocks(content))
            for block in blocks:
                block[len(block) // 2] ^= 255
            damaged = bytearray().join([first, *blocks])
        case.path.write_bytes(damaged)
        os.utime(case.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        for headers in ({}, {"Range": "bytes=0-9"}):
            answer = case.caller([(record.reference_name, 0, None)]).get(url, headers)
            assert (answer.status, json.loads(answer.body)["htsget"]["error"]) == (500, "InternalServerError")
