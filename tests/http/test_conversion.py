"""Answers in formats that a dataset has no file of, and with some fields and tags: what samtools and bcftools print."""

import gzip
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.support import referenced
from tests.support.client import FlaskHttp, Region, fetch, fetch_ticket, file_header, header_text
from tests.support.files import FORMATS, GOOD, GOOD_BAM, GOOD_BCF, GOOD_CRAM, GOOD_VCF
from tests.support.selections import Selection, random_selections
from tests.support.served import ServedFile, is_empty, small_limits

REGIONS = int(os.environ.get("HTSGET_FLASK_TEST_REGIONS", "30"))
SELECTIONS = 24
CRAM = [*GOOD_CRAM, *referenced.OPTIONS]


EVERYTHING = Selection()


class Case(ServedFile):
    """A file, and its answers."""

    @cached_property
    def http(self) -> FlaskHttp:
        """The application, which cuts CRAM too."""
        return self.serve(htsget={"exact": "all"})

    def body(self, format_name: str, regions: Sequence[Region] | None, selection: Selection = EVERYTHING) -> bytes:
        """The answer for the whole file, for one region (by GET), or for several (by POST), in many data blocks."""
        with small_limits():
            return self._body(format_name, regions, selection)

    def _body(self, format_name: str, regions: Sequence[Region] | None, selection: Selection) -> bytes:
        if regions is not None and len(regions) > 1:
            objects = [{"referenceName": name, "start": start, "end": end} for name, start, end in regions]
            query = {"format": format_name, "regions": objects, **selection.body()}
            return fetch(self.http, self.ticket_path, method="POST", json=query)
        parameters: dict[str, Any] = {"format": format_name, **selection.query()}
        for region in regions or ():
            parameters.update(zip(("referenceName", "start", "end"), region, strict=True))
        return fetch(self.http, self.ticket_path, **parameters)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The file of the maker that a test names."""
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def groups(case: Case) -> list[list[Region] | None]:
    """The whole file, single regions, and several regions in one request."""
    regions = case.regions(REGIONS)
    rows = [region for region in regions if not is_empty(region)]
    return [
        None,
        *([region] for region in regions),
        *(rows[first : first + 4] for first in range(0, len(rows) - 3, 12)),
    ]


def is_header(case: Case, body: bytes, format_name: str) -> bool:
    """Whether an answer has the header of the file, in its own format."""
    return header_text(body, format_name, case.folder) == file_header(case.path, case.format)


@pytest.mark.regions
class TestCramAsBam:
    @pytest.mark.parametrize("case", CRAM, indirect=True)
    def test_records(self, case: Case) -> None:
        for group in groups(case):
            body = case.body("BAM", group)
            assert is_header(case, body, "BAM")
            is_equal = case.delivered(body, "BAM") == (case.lines if group is None else case.expected(group))
            assert is_equal, group


@pytest.mark.regions
class TestFieldsAndTags:
    """Of whole files and of regions; MD and NM of CRAM are those that samtools makes, whatever else is left out."""

    @pytest.mark.parametrize("case", [*GOOD_BAM, *CRAM], indirect=True)
    def test_in_bam(self, case: Case) -> None:
        self.check(case, "BAM")

    @pytest.mark.parametrize("case", ["cram_3_0", "cram_multi_ref", "version_3_0", "slices"], indirect=True)
    def test_in_cram(self, case: Case) -> None:
        self.check(case, "CRAM")

    def check(self, case: Case, format_name: str) -> None:
        selections = random_selections(case.lines, SELECTIONS, seed=case.name)
        if format_name == "CRAM":
            # With the other two, CRAM restores RNEXT of mates in the same slice.
            selections = [one for one in selections if one.has("RNEXT") or not (one.has("PNEXT") and one.has("TLEN"))]
        requests = [*([region] for region in case.regions(SELECTIONS)), None, None, None]
        for selection, group in zip(selections, reversed(requests), strict=False):
            body = case.body(format_name, group, selection)
            assert is_header(case, body, format_name)
            lines = case.lines if group is None else case.expected(group)
            is_equal = case.delivered(body, format_name) == [selection.apply(line) for line in lines]
            assert is_equal, (selection, group)

    @pytest.mark.parametrize("case", ["vcf_normal", "bcf_normal"], indirect=True)
    def test_have_no_effect_on_variants(self, case: Case) -> None:
        selection = Selection(("POS",), (), None)
        body = case.body(case.format, [("chr1", 0, 100_000)], selection)
        assert body == case.body(case.format, [("chr1", 0, 100_000)])


@pytest.mark.regions
class TestVariantsAsText:
    @pytest.mark.parametrize("case", [*GOOD_BCF, "bcf_symbolic", "bcf_shift_18"], indirect=True)
    def test_of_bcf(self, case: Case) -> None:
        header = file_header(case.path, "BCF")
        for group in groups(case):
            lines = case.lines if group is None else case.expected(group)
            text = "".join(f"{line}\n" for line in [*header.splitlines(), *lines]).encode()
            for is_equal in (
                gzip.decompress(case.body("VCF", group)) == text,
                case.body("VCFTEXT", group) == text,
            ):
                assert is_equal, group

    @pytest.mark.parametrize("case", [*GOOD_VCF, "vcf_symbolic", "vcf_shift_9"], indirect=True)
    def test_of_vcf(self, case: Case) -> None:
        """Byte for byte the lines of the file."""
        for group in groups(case):
            is_equal = case.body("VCFTEXT", group) == gzip.decompress(case.body("VCF", group))
            assert is_equal, group
        is_equal = case.body("VCFTEXT", None) == gzip.decompress(case.path.read_bytes())
        assert is_equal

    @pytest.mark.parametrize("case", ["vcf_normal", "bcf_normal"], indirect=True)
    def test_header(self, case: Case) -> None:
        text = fetch(case.http, case.ticket_path, format="VCFTEXT", **{"class": "header"})
        assert text.decode() == file_header(case.path, case.format)


def format_of(http: FlaskHttp, path: str, **parameters: str) -> str:
    """The format of the answer."""
    return str(fetch_ticket(http, path, **parameters)["htsget"]["format"])


class TestTheFormat:
    @pytest.mark.parametrize(("name", "default"), [("cram_3_0", "BAM"), ("bcf_normal", "VCF"), ("vcf_normal", "VCF")])
    def test_that_no_request_names_is_the_specifications_default(self, name: str, default: str, tmp_path: Path) -> None:
        case = Case(name, tmp_path)
        assert format_of(case.http, case.ticket_path) == default
        http = case.serve(htsget={"convert": False})
        assert format_of(http, case.ticket_path) == FORMATS[name]
        if default != FORMATS[name]:
            answer = http.get(f"{case.ticket_path}?format={default}")
            assert (answer.status, json.loads(answer.body)["htsget"]["error"]) == (400, "UnsupportedFormat")

    def test_of_a_file_wins(self, tmp_path: Path) -> None:
        """A dataset with BAM and CRAM: each format is that of its file."""
        case = Case("cram_3_0", tmp_path)
        bam = GOOD["bam_normal"](case.path.parent)
        for suffix in ("", ".bai"):
            Path(f"{bam}{suffix}").rename(f"{case.path.with_suffix('.bam')}{suffix}")
        http = case.serve()
        body = fetch(http, case.ticket_path)
        is_equal = gzip.decompress(body) == gzip.decompress(case.path.with_suffix(".bam").read_bytes())
        assert is_equal
        is_equal = fetch(http, case.ticket_path, format="CRAM") == case.path.read_bytes()
        assert is_equal

    def test_that_cannot_be_made(self, tmp_path: Path) -> None:
        case = Case("vcf_normal", tmp_path)
        for format_name in ("BCF", "BAM", "CRAM", "SAM"):
            answer = case.http.get(f"{case.ticket_path}?format={format_name}")
            assert (answer.status, json.loads(answer.body)["htsget"]["error"]) == (400, "UnsupportedFormat")


class TestAReferenceThatIsNotAvailable:
    def test_is_named_before_any_byte(self, tmp_path: Path) -> None:
        case = Case("version_3_0", tmp_path)
        http = case.serve(with_reference=False)
        answer = http.get(f"{case.ticket_path}?format=BAM&referenceName=chr1")
        content = json.loads(answer.body)["htsget"]
        assert (answer.status, content["error"]) == (400, "UnsupportedFormat")
        assert "chr1" in content["message"]

    def test_does_not_matter_for_cram_itself(self, tmp_path: Path) -> None:
        case = Case("version_3_0", tmp_path)
        body = fetch(case.serve(with_reference=False), case.ticket_path, format="CRAM")
        is_equal = body == case.path.read_bytes()
        assert is_equal

    def test_does_not_matter_where_records_need_none(self, tmp_path: Path) -> None:
        case = Case("embedded", tmp_path)
        body = fetch(case.serve(with_reference=False), case.ticket_path, format="BAM", referenceName="chr1")
        assert case.delivered(body, "BAM") == case.expected([("chr1", None, None)]) != []

    def test_is_never_taken_from_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither from the header's UR nor from htslib's REF_PATH."""
        case = Case("version_3_0", tmp_path)
        assert case.reference is not None
        monkeypatch.setenv("REF_PATH", f"{case.reference.parent}/%s")
        answer = case.serve(with_reference=False).get(f"{case.ticket_path}?format=BAM&referenceName=chr1")
        assert answer.status == 400
