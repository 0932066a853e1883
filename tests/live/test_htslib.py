"""samtools, bcftools and pysam, given the URL of a ticket, against the same programs on the file itself."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pysam
import pytest

from tests.support import files
from tests.support.client import fetch, is_subsequence
from tests.support.files.bgzf import BGZF_EOF
from tests.support.live import tools
from tests.support.live.regions import Region, overlapping, place, query, some_regions
from tests.support.live.server import Server
from tests.support.live.tools import run

pytestmark = pytest.mark.live

READS = sorted({**files.GOOD_BAM, **files.GOOD_CRAM})
VARIANTS = sorted({**files.GOOD_VCF, **files.GOOD_BCF})
DEMO = [
    ("reads/NA00001", "BAM", "NA00001.bam"),
    ("reads/NA00001", "CRAM", "NA00001.cram"),
    ("variants/cohort", "VCF", "cohort.vcf.gz"),
    ("variants/cohort", "BCF", "cohort.bcf"),
]

View = Callable[[object], list[str]]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    """How to see the records of a file or URL as samtools or bcftools does; each is looked at once."""
    folder = tmp_path_factory.mktemp("view")

    @cache
    def records(source: object) -> list[str]:
        if isinstance(source, Path) and source.name in ("no_eof.vcf.gz", "no_eof.bcf"):
            # bcftools refuses such a file; tickets mend it.
            mended = folder / source.name
            mended.write_bytes(source.read_bytes() + BGZF_EOF)
            source = mended
        return tools.view(source, cwd=folder)

    return records


@pytest.fixture(autouse=True)
def _quiet_htslib() -> Iterator[None]:
    verbosity = pysam.set_verbosity(0)
    yield
    pysam.set_verbosity(verbosity)


def url_of(server: Server, path: Path, form: str, **parameters: object) -> str:
    """The URL of a ticket for a file in the folder served."""
    endpoint = "reads" if form in ("BAM", "CRAM") else "variants"
    stem = path.name.removesuffix({"BAM": ".bam", "CRAM": ".cram", "VCF": ".vcf.gz", "BCF": ".bcf"}[form])
    return f"{server.url}/{endpoint}/{stem}{query(format=form, **parameters)}"


class TestSamtoolsReadsWhatTheFileHolds:
    @pytest.mark.parametrize("name", READS)
    def test_the_whole_file(self, odd_server: Server, odd_files: dict[str, Path], view: View, name: str) -> None:
        path = odd_files[name]
        assert view(url_of(odd_server, path, files.FORMATS[name])) == view(path)

    @pytest.mark.parametrize("name", READS)
    def test_regions(self, odd_server: Server, odd_files: dict[str, Path], view: View, name: str) -> None:
        path = odd_files[name]
        check_regions(odd_server, path, files.FORMATS[name], view)

    @pytest.mark.parametrize("name", READS)
    def test_unplaced_reads(self, odd_server: Server, odd_files: dict[str, Path], view: View, name: str) -> None:
        path = odd_files[name]
        unplaced = [line for line in view(path) if line.split("\t", 3)[2] == "*"]
        answer = view(url_of(odd_server, path, files.FORMATS[name], referenceName="*"))
        assert [line for line in answer if line.split("\t", 3)[2] == "*"] == unplaced

    @pytest.mark.parametrize("name", READS)
    @pytest.mark.parametrize("command", [("view", "-H", "--no-PG"), ("head",)], ids=["view", "head"])
    def test_the_header(
        self, odd_server: Server, odd_files: dict[str, Path], tmp_path: Path, name: str, command: tuple[str, ...]
    ) -> None:
        path = odd_files[name]
        url = url_of(odd_server, path, files.FORMATS[name], **{"class": "header"})
        assert run("samtools", *command, url, cwd=tmp_path) == run("samtools", *command, path, cwd=tmp_path) != ""


class TestBcftoolsReadsWhatTheFileHolds:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_the_whole_file(self, odd_server: Server, odd_files: dict[str, Path], view: View, name: str) -> None:
        path = odd_files[name]
        assert view(url_of(odd_server, path, files.FORMATS[name])) == view(path)

    @pytest.mark.parametrize("name", VARIANTS)
    def test_regions(self, odd_server: Server, odd_files: dict[str, Path], view: View, name: str) -> None:
        path = odd_files[name]
        check_regions(odd_server, path, files.FORMATS[name], view)

    @pytest.mark.parametrize("name", VARIANTS)
    def test_the_header(self, odd_server: Server, odd_files: dict[str, Path], tmp_path: Path, name: str) -> None:
        url = url_of(odd_server, odd_files[name], files.FORMATS[name], **{"class": "header"})
        # A copy without its index: bcftools would add the contigs that only the index names.
        copy = tmp_path / odd_files[name].name
        copy.write_bytes(odd_files[name].read_bytes())
        command = ("view", "-h", "--no-version")
        assert run("bcftools", *command, url, cwd=tmp_path) == run("bcftools", *command, copy, cwd=tmp_path) != ""


def check_regions(server: Server, path: Path, form: str, view: View) -> None:
    """Check that the tickets of some regions hold every record there once, and no record that the file does not."""
    endpoint = "reads" if form in ("BAM", "CRAM") else "variants"
    whole = view(path)
    for region in some_regions(whole, endpoint, path.name):
        answer = view(url_of(server, path, form, **region.parameters))
        expected = overlapping(region, whole, endpoint)
        assert expected
        assert overlapping(region, answer, endpoint) == expected, region
        assert is_subsequence(answer, whole), region


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("gi|568336023|gb|CM000663.2|", "gi|568336023|gb|CM000663.2|"),
        ("HLA-A*01:01:01:01", "HLA-A*01:01:01:01"),
        ("chr1/x", "chr1/x"),
        ("a+b%26c?d;e", "a+b&c?d;e"),
    ],
)
def test_names_that_the_client_does_not_encode(
    odd_server: Server, odd_files: dict[str, Path], view: View, written: str, name: str
) -> None:
    for maker in ("bam_odd_names", "cram_odd_names"):
        there = [line for line in view(odd_files[maker]) if line.split("\t", 3)[2] == name]
        url = f"{url_of(odd_server, odd_files[maker], files.FORMATS[maker])}&referenceName={written}"
        assert [line for line in view(url) if line.split("\t", 3)[2] == name] == there != []


class TestTheExampleData:
    @pytest.mark.parametrize(("dataset", "form", "name"), DEMO)
    def test_the_whole_file(
        self, demo_server: Server, demo_folder: Path, view: View, dataset: str, form: str, name: str
    ) -> None:
        assert view(f"{demo_server.url}/{dataset}?format={form}") == view(demo_folder / name)

    @pytest.mark.parametrize(("dataset", "form", "name"), DEMO)
    def test_a_region_is_a_small_part_of_it(
        self, demo_server: Server, demo_folder: Path, view: View, dataset: str, form: str, name: str
    ) -> None:
        region = Region("chr1", 300_000, 301_000)
        endpoint = dataset.partition("/")[0]
        whole = view(demo_folder / name)
        answer = view(f"{demo_server.url}/{dataset}{query(format=form, **region.parameters)}")
        assert overlapping(region, answer, endpoint) == overlapping(region, whole, endpoint) != []
        assert len(answer) < len(whole) / 4

    @pytest.mark.parametrize(("dataset", "form", "name"), DEMO)
    def test_no_format_is_the_specifications_default(
        self, demo_server: Server, demo_folder: Path, tmp_path: Path, dataset: str, form: str, name: str
    ) -> None:
        default = {"reads": "BAM", "variants": "VCF"}[dataset.partition("/")[0]]
        ticket = demo_server.http.get(f"/{dataset}").body
        assert (ticket == demo_server.http.get(f"/{dataset}?format={form}").body) == (form == default)


class TestPysamReadsWhatTheFileHolds:
    @pytest.mark.parametrize("form", ["BAM", "CRAM"])
    def test_reads(self, demo_server: Server, demo_folder: Path, tmp_path: Path, form: str) -> None:
        region = Region("chr2", 100_000, 120_000)
        url = f"{demo_server.url}/reads/NA00001{query(format=form, **region.parameters)}"
        with pysam.AlignmentFile(url) as answer:
            found = [read.to_string() for read in answer.fetch(until_eof=True)]
            references = answer.references
        with pysam.AlignmentFile(str(demo_folder / f"NA00001.{form.lower()}")) as file:
            assert references == file.references
            expected = [read.to_string() for read in file.fetch(*region)]
        assert overlapping(region, found, "reads") == expected != []

    @pytest.mark.parametrize(("form", "name"), [("VCF", "cohort.vcf.gz"), ("BCF", "cohort.bcf")])
    def test_variants(self, demo_server: Server, demo_folder: Path, form: str, name: str) -> None:
        region = Region("chr2", 100_000, 120_000)
        url = f"{demo_server.url}/variants/cohort{query(format=form, **region.parameters)}"
        with pysam.VariantFile(url) as answer:
            found = [str(record) for record in answer]
            header = str(answer.header)
        with pysam.VariantFile(str(demo_folder / name)) as file:
            assert header == str(file.header)
            expected = [str(record) for record in file.fetch(*region)]
        assert overlapping(region, found, "variants") == expected != []


class TestPostedRegionsAreReadAsTheFileHolds:
    @pytest.mark.parametrize("form", ["BAM", "CRAM"])
    def test_reads(self, demo_server: Server, demo_folder: Path, view: View, tmp_path: Path, form: str) -> None:
        regions = [Region("chr2", 150_000, 151_000), Region("chrM"), Region("chr1", 2_000, 3_000), Region("chrM", 5)]
        asked = {"format": form, "regions": [region.parameters for region in regions]}
        body = fetch(demo_server.http, "/reads/NA00001", method="POST", json=asked)
        path = tmp_path / f"answer.{form.lower()}"
        path.write_bytes(body)
        answer, whole = view(path), view(demo_folder / f"NA00001.{form.lower()}")

        def wanted(lines: list[str]) -> list[str]:
            places = ((line, place(line, "reads")) for line in lines)
            return [line for line, found in places if any(region.holds(found) for region in regions)]

        assert wanted(answer) == wanted(whole) != []
        assert is_subsequence(answer, whole)
