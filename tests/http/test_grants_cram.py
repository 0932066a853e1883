"""Grants that are limited to regions, for CRAM files that need a reference: records are delivered unchanged."""

import gc
import gzip
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pysam
import pytest
from click.testing import CliRunner

from htsget_flask.cli import main
from tests.support import referenced
from tests.support.client import Region, cram_containers, fetch, fetch_ticket, file_header, header_text
from tests.support.guarded import Caller, audit, guarded
from tests.support.issuer import Issuer
from tests.support.referenced import ALONE, OPTIONS
from tests.support.sequences import expected

GRANTS = int(os.environ.get("HTSGET_FLASK_TEST_REGIONS", "12"))


class Line:
    """A record as text, and its span (0-based, half-open)."""

    def __init__(self, record: pysam.AlignedSegment) -> None:
        self.text = record.to_string()
        self.name, self.start = record.reference_name, record.reference_start
        self.end = record.reference_end or self.start + 1


def read(path: Path, reference: Path | None = None) -> list[Line]:
    """All records of a CRAM file; without a reference, only those that need none."""
    verbosity = pysam.set_verbosity(0)
    try:
        with pysam.AlignmentFile(str(path), reference_filename=str(reference) if reference else None) as file:
            return [Line(record) for record in file.fetch(until_eof=True)]
    finally:
        pysam.set_verbosity(verbosity)


def within(lines: Sequence[Line], regions: Sequence[Region]) -> list[str]:
    """The records that overlap any of the regions."""
    return [
        line.text
        for line in lines
        if any(
            line.name == name and line.end > (start or 0) and (end is None or line.start < end)
            for name, start, end in regions
        )
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return referenced.write_reference(tmp_path_factory.mktemp("reference") / "reference.fa")


class Case:
    """A CRAM file, its records, and callers that may see regions of it."""

    def __init__(self, folder: Path, issuer: Issuer, reference: Path, name: str, **settings: Any) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.path = referenced.write_cram(name, self.folder / "sample.cram", reference, **settings)
        self.lines = read(self.path, reference)
        self.is_sorted = not settings
        self.issuer = issuer
        self.reference = reference
        self.rng = random.Random(name)

    def caller(self, grants: Sequence[Region], *, is_available: bool = True) -> Caller:
        regions = [{"reference": name, "start": start or 0, "end": end} for name, start, end in grants]
        storages = {
            "data": {"type": "local", "root": str(self.folder)},
            "reference": {"type": "local", "root": str(self.reference.parent)},
        }
        fastas = [{"storage": "reference", "key": self.reference.name}]
        rules = [{"ids": ["*"], "regions": regions}]
        http = guarded(
            self.folder,
            self.issuer,
            rules,
            storages=storages,
            cache={"folder": str(self.folder.parent / "cache")},
            **({"refget": {"fastas": fastas}} if is_available else {}),
        )
        return Caller(http, self.issuer.token("ES256"))

    def regions(self, count: int) -> list[Region]:
        regions: list[Region] = []
        placed = [line for line in self.lines if line.name]
        for _ in range(count):
            line = self.rng.choice(placed)
            assert line.name is not None
            start = max(0, line.start + self.rng.randrange(-300, 300))
            regions.append(
                (line.name, start, None if self.rng.random() < 0.1 else start + self.rng.randrange(1, 9_000))
            )
        return regions

    def delivered(self, caller: Caller, folder: Path, **query: Any) -> list[Line]:
        path = folder / "delivered.cram"
        if "json" in query:
            query["json"] = {"format": "CRAM", **query["json"]}
        else:
            query["format"] = "CRAM"
        path.write_bytes(fetch(caller, "/reads/sample", **query))
        assert path.read_bytes().startswith(b"CRAM")
        # No reference is passed: the delivered records need none.
        return read(path)


@pytest.fixture(scope="module", params=[*OPTIONS, "shuffled"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuer: Issuer, reference: Path
) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "shuffled":
        return Case(folder, issuer, reference, "version_3_0", shuffled=True)
    return Case(folder, issuer, reference, request.param)


class TestEachRecordIsAsInTheFile:
    def test_and_no_other_is_delivered(self, case: Case, tmp_path: Path) -> None:
        for count in (1, 4, *[2] * (GRANTS // 4)):
            grants = case.regions(count)
            delivered = case.delivered(case.caller(grants), tmp_path)
            assert [line.text for line in delivered] == within(case.lines, grants) != []

    def test_where_granted_regions_overlap(self, case: Case, tmp_path: Path) -> None:
        grants: list[Region] = [("chr1", 2_000, 9_000), ("chr1", 5_000, 12_000), ("chr1", 12_050, 12_100)]
        caller = case.caller([*grants, ("c4", 0, None)])
        delivered = case.delivered(caller, tmp_path, method="POST", json={"regions": [
            {"referenceName": name, "start": start, "end": end} for name, start, end in grants
        ]})  # fmt: skip
        expected_lines = within(case.lines, grants)
        # If neighbouring records are not in order, those of the earlier region still come first.
        ordered = list if case.is_sorted else sorted
        assert ordered(line.text for line in delivered) == ordered(expected_lines)
        assert len(expected_lines) > 40

    def test_after_the_unchanged_header(self, case: Case, tmp_path: Path) -> None:
        body = fetch(case.caller([("chr2", 500, 4_000)]), "/reads/sample", format="CRAM")
        assert header_text(body, "CRAM", tmp_path) == file_header(case.path, "CRAM")
        original = case.path.read_bytes()
        end = cram_containers(original)[0].end
        assert body[:end] == original[:end]


class TestTheIndex:
    def rewrite(self, case: Case, change: Any) -> None:
        path = Path(f"{case.path}.crai")
        rows = [row.split("\t") for row in gzip.decompress(path.read_bytes()).decode().splitlines()]
        path.write_bytes(gzip.compress("".join("\t".join(row) + "\n" for row in change(rows)).encode()))

    @pytest.mark.parametrize("name", ["several_references", "several_in_slices"])
    def test_may_lack_the_positions_of_records(
        self, name: str, tmp_path: Path, issuer: Issuer, reference: Path
    ) -> None:
        case = Case(tmp_path, issuer, reference, name)
        self.rewrite(case, lambda rows: [["-2", "0", "0", *row[3:]] for row in rows])
        grants: list[Region] = [("chr2", 10_000, 20_000), ("c3", 0, None)]
        delivered = case.delivered(case.caller(grants), tmp_path)
        assert [line.text for line in delivered] == within(case.lines, grants) != []

    def test_may_lack_a_container_between_others(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        case = Case(tmp_path, issuer, reference, "version_3_0")
        self.rewrite(case, lambda rows: [rows[0], *rows[2:]])
        delivered = case.delivered(case.caller([("chr1", 0, None)]), tmp_path)
        assert [line.text for line in delivered] == within(case.lines, [("chr1", 0, None)])

    def test_with_wrong_positions_is_a_fault(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        case = Case(tmp_path, issuer, reference, "several_references")
        self.rewrite(case, lambda rows: [[row[0], row[1], "10", *row[3:]] for row in rows])
        caller = case.caller([("chr1", 0, None)])
        (url,) = [url for url in urls(caller) if "/records-" in url]
        answer = caller.get(url)
        assert answer.status == 500
        assert b"the index does not fit the data" in answer.body


class TestRecordsThatAreNotInOrder:
    def test_are_a_fault_where_versions_cannot_hold_them(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        case = Case(tmp_path, issuer, reference, "version_2_1", shuffled=True)
        caller = case.caller([("chr1", 0, None)])
        (url,) = [url for url in urls(caller) if "/records-" in url]
        answer = caller.get(url)
        assert answer.status == 500
        assert b"not sorted by position" in answer.body


def urls(caller: Caller) -> list[str]:
    """The URLs of a ticket for everything."""
    return [entry["url"] for entry in fetch_ticket(caller, "/reads/sample", format="CRAM")["htsget"]["urls"]]


class TestAReferenceThatIsNotAvailable:
    def test_is_an_error_before_any_byte(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        case = Case(tmp_path, issuer, reference, "version_3_0")
        caller = case.caller([("chr1", 1_000, 9_000)], is_available=False)
        for query in ("", "?referenceName=chr1&start=2000&end=3000"):
            answer = caller.get(f"/reads/sample{query}")
            assert answer.status == 403
            error = json.loads(answer.body)["htsget"]
            assert error["error"] == "PermissionDenied"
            assert "its reference 'chr1'" in error["message"]
        assert caller.get("/reads/sample?class=header").status == 200

    def test_is_a_denial_in_the_audit_log_and_for_check(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        case = Case(tmp_path, issuer, reference, "version_3_0")
        pysam.index(str(case.path))
        config, token = case.folder.parent / "data.yaml", issuer.token("ES256")

        def check(*words: str) -> tuple[int, list[str]]:
            run = CliRunner().invoke(main, ["check", "--config", str(config), "--as", token, "sample", *words])
            return run.exit_code, [line for line in run.output.splitlines() if "/reads/" in line]

        for is_available in (True, False):
            (tmp_path / "audit.log").unlink(missing_ok=True)
            caller = case.caller([("chr1", 1_000, 9_000)], is_available=is_available)
            assert caller.get("/reads/sample?referenceName=chr1&start=2000").status == (200 if is_available else 403)
            *_, line = audit(case.folder)
            assert line["decision"] == ("allowed" if is_available else "denied")
            assert {one["request"] for one in audit(case.folder)} == {line["request"]}
            for words in ((), ("chr1:2001-3000",)):
                exit_code, (verdict,) = check(*words)
                assert (exit_code, verdict[:7]) == ((0, "allowed") if is_available else (1, "denied "))
                assert ("its reference 'chr1'" in verdict) is not is_available
            assert check("c5")[0] == 1
        assert "its reference 'chr1'" in line["reason"]
        # Only this format of the two is denied.
        header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "chr1", "LN": 1000}]}
        with pysam.AlignmentFile(str(case.folder / "sample.bam"), "wb", header=header):
            pass
        exit_code, verdicts = check()
        assert exit_code == 0
        assert [verdict.partition(":")[0] for verdict in verdicts] == [
            "allowed /reads/sample",
            "denied  /reads/sample?format=CRAM",
        ]

    @pytest.mark.parametrize("name", ALONE)
    def test_does_not_matter_if_records_need_none(
        self, name: str, tmp_path: Path, issuer: Issuer, reference: Path
    ) -> None:
        case = Case(tmp_path, issuer, reference, name)
        grants: list[Region] = [("chr1", 1_000, 9_000), ("c5", 0, None)]
        delivered = case.delivered(case.caller(grants, is_available=False), tmp_path)
        assert [line.text for line in delivered] == within(case.lines, grants) != []

    def test_does_not_matter_for_other_records(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        case = Case(tmp_path, issuer, reference, "several_references")
        letters = referenced.sequences()
        case.reference = tmp_path / "one" / "only.fa"
        case.reference.parent.mkdir()
        case.reference.write_bytes(b">another_name\n" + letters["c4"] + b"\n")
        delivered = case.delivered(case.caller([("c4", 0, None)]), tmp_path)
        assert [line.text for line in delivered] == within(case.lines, [("c4", 0, None)]) != []
        assert case.caller([("c3", 0, None)]).get("/reads/sample").status == 403

    def test_is_not_fetched_from_urls_of_the_header_or_the_environment(
        self, tmp_path: Path, issuer: Issuer, reference: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case = Case(tmp_path, issuer, reference, "version_3_0")
        monkeypatch.setenv("REF_PATH", f"{tmp_path}/%s")
        for letters in referenced.sequences().values():
            (tmp_path / expected(letters).md5).write_bytes(expected(letters).letters)
        assert case.caller([("chr1", 0, None)], is_available=False).get("/reads/sample").status == 403

    def test_with_other_letters_is_a_fault(self, tmp_path: Path, issuer: Issuer, reference: Path) -> None:
        """The slices have their own checksums."""
        case = Case(tmp_path, issuer, reference, "version_3_0")
        md5, other = (expected(referenced.sequences()[name]).md5.encode() for name in ("chr1", "chr2"))
        content = case.path.read_bytes()
        header = file_header(case.path, "CRAM").encode()
        assert md5 in header
        with pysam.AlignmentFile(
            str(tmp_path / "header.cram"),
            "wc",
            header=pysam.AlignmentHeader.from_text(header.replace(md5, other).decode()),
            format_options=["version=3.0", "no_ref=1"],
        ):
            pass
        other_header = (tmp_path / "header.cram").read_bytes()
        end = cram_containers(other_header)[0].end
        case.path.write_bytes(other_header[:end] + content[cram_containers(content)[0].end :])
        pysam.index(str(case.path))
        caller = case.caller([("chr1", 0, 50_000)])
        (url,) = [url for url in urls(caller) if "/records-" in url]
        answer = caller.get(url)
        assert answer.status == 500
        assert b"records cannot be decoded" in answer.body


class TestNothingIsLeftOpen:
    @pytest.fixture
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        return folder

    def open_files(self) -> list[str]:
        gc.collect()
        links = [os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        paths = [os.readlink(link) for link in links if os.path.islink(link)]
        return sorted(name for name in paths if "temporary" in name or name.endswith(".cram"))

    def test_if_the_client_disconnects(self, tmp_path: Path, issuer: Issuer, reference: Path, temporary: Path) -> None:
        case = Case(tmp_path, issuer, reference, "version_3_0")
        caller = case.caller([("chr1", 0, None)])
        (url,) = [url for url in urls(caller) if "/records-" in url]
        client = caller.client
        path = url.partition("/blocks/")[2]
        with client.get(f"/blocks/{path}", buffered=False) as answer:
            assert answer.status_code == 200
            assert any(answer.iter_encoded())
            assert list(temporary.iterdir()) == []
        assert self.open_files() == []
        assert list(temporary.iterdir()) == []

    def test_when_all_was_read(self, tmp_path: Path, issuer: Issuer, reference: Path, temporary: Path) -> None:
        case = Case(tmp_path, issuer, reference, "slices")
        assert case.delivered(case.caller([("chr1", 0, None)]), tmp_path)
        assert self.open_files() == []
        assert list(temporary.iterdir()) == []
