"""samtools, bcftools and pysam on the URL of a ticket, against the same programs on the file itself."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pysam
import pytest

from tests.support import files
from tests.support.client import SUFFIXES, fetch, is_subsequence
from tests.support.files.bgzf import BGZF_EOF
from tests.support.live import tools
from tests.support.live.regions import Region, endpoint_of, overlapping, query, record_span, some_regions
from tests.support.live.server import Server
from tests.support.live.tools import run

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("_quiet_htslib")]

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
    """The records of a file or URL according to samtools or bcftools, cached."""
    folder = tmp_path_factory.mktemp("view")

    @cache
    def records(source: object) -> list[str]:
        if isinstance(source, Path) and source.name in ("no_eof.vcf.gz", "no_eof.bcf"):
            # bcftools refuses a file without the end-of-file marker; tickets append it.
            complete = folder / source.name
            complete.write_bytes(source.read_bytes() + BGZF_EOF)
            source = complete
        return tools.view(source, cwd=folder)

    return records


def url_of(server: Server, path: Path, format_: str, **parameters: object) -> str:
    """The URL of a ticket for a file in the served folder."""
    stem = path.name.removesuffix(SUFFIXES[format_])
    return f"{server.url}/{endpoint_of(format_)}/{stem}{query(format=format_, **parameters)}"


class TestSamtoolsReadsTheRecordsOfTheFile:
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


class TestBcftoolsReadsTheRecordsOfTheFile:
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
        # A copy without the index: bcftools would add the contigs that are only in the index.
        copy = tmp_path / odd_files[name].name
        copy.write_bytes(odd_files[name].read_bytes())
        command = ("view", "-h", "--no-version")
        assert run("bcftools", *command, url, cwd=tmp_path) == run("bcftools", *command, copy, cwd=tmp_path) != ""


def check_regions(server: Server, path: Path, format_: str, view: View) -> None:
    """Check that the tickets of some regions hold each of their records once, and no others; CRAM: others too."""
    endpoint = endpoint_of(format_)
    whole = view(path)
    for region in some_regions(whole, endpoint, path.name):
        answer = view(url_of(server, path, format_, **region.parameters))
        expected = overlapping(region, whole, endpoint)
        assert expected
        assert is_exact(format_, answer, expected, region, whole), region


def is_exact(format_: str, answer: list[str], expected: list[str], region: Region, whole: list[str]) -> bool:
    """Whether an answer has the records of a region and no others; that of CRAM has whole containers."""
    if format_ != "CRAM":
        return answer == expected
    return overlapping(region, answer, "reads") == expected and is_subsequence(answer, whole)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gi|568336023|gb|CM000663.2|", "gi|568336023|gb|CM000663.2|"),
        ("HLA-A*01:01:01:01", "HLA-A*01:01:01:01"),
        ("chr1/x", "chr1/x"),
        ("a+b%26c?d;e", "a+b&c?d;e"),
    ],
)
def test_names_that_a_client_does_not_encode(
    odd_server: Server, odd_files: dict[str, Path], view: View, text: str, name: str
) -> None:
    for maker in ("bam_odd_names", "cram_odd_names"):
        expected = [line for line in view(odd_files[maker]) if line.split("\t", 3)[2] == name]
        url = f"{url_of(odd_server, odd_files[maker], files.FORMATS[maker])}&referenceName={text}"
        assert [line for line in view(url) if line.split("\t", 3)[2] == name] == expected != []


class TestTheExampleData:
    @pytest.mark.parametrize(("dataset", "format_", "name"), DEMO)
    def test_the_whole_file(
        self, demo_server: Server, demo_folder: Path, view: View, dataset: str, format_: str, name: str
    ) -> None:
        assert view(f"{demo_server.url}/{dataset}?format={format_}") == view(demo_folder / name)

    @pytest.mark.parametrize(("dataset", "format_", "name"), DEMO)
    def test_a_region_is_a_small_part_of_it(
        self, demo_server: Server, demo_folder: Path, view: View, dataset: str, format_: str, name: str
    ) -> None:
        region = Region("chr1", 300_000, 301_000)
        endpoint = dataset.partition("/")[0]
        whole = view(demo_folder / name)
        answer = view(f"{demo_server.url}/{dataset}{query(format=format_, **region.parameters)}")
        expected = overlapping(region, whole, endpoint)
        assert expected
        assert is_exact(format_, answer, expected, region, whole)
        assert len(answer) < len(whole) / 4

    @pytest.mark.parametrize(("dataset", "format_", "name"), DEMO)
    def test_without_a_format_it_is_the_specifications_default(
        self, demo_server: Server, demo_folder: Path, tmp_path: Path, dataset: str, format_: str, name: str
    ) -> None:
        default = {"reads": "BAM", "variants": "VCF"}[dataset.partition("/")[0]]
        ticket = demo_server.http.get(f"/{dataset}").body
        assert (ticket == demo_server.http.get(f"/{dataset}?format={format_}").body) == (format_ == default)


class TestPysamReadsTheRecordsOfTheFile:
    @pytest.mark.parametrize("format_", ["BAM", "CRAM"])
    def test_reads(self, demo_server: Server, demo_folder: Path, tmp_path: Path, format_: str) -> None:
        region = Region("chr2", 100_000, 120_000)
        url = f"{demo_server.url}/reads/NA00001{query(format=format_, **region.parameters)}"
        with pysam.AlignmentFile(url) as answer:
            records = [read.to_string() for read in answer.fetch(until_eof=True)]
            references = answer.references
        with pysam.AlignmentFile(str(demo_folder / f"NA00001.{format_.lower()}")) as file:
            assert references == file.references
            expected = [read.to_string() for read in file.fetch(*region)]
        assert expected
        assert records == expected if format_ == "BAM" else overlapping(region, records, "reads") == expected

    @pytest.mark.parametrize(("format_", "name"), [("VCF", "cohort.vcf.gz"), ("BCF", "cohort.bcf")])
    def test_variants(self, demo_server: Server, demo_folder: Path, format_: str, name: str) -> None:
        region = Region("chr2", 100_000, 120_000)
        url = f"{demo_server.url}/variants/cohort{query(format=format_, **region.parameters)}"
        with pysam.VariantFile(url) as answer:
            records = [str(record) for record in answer]
            header = str(answer.header)
        with pysam.VariantFile(str(demo_folder / name)) as file:
            assert header == str(file.header)
            expected = [str(record) for record in file.fetch(*region)]
        assert records == expected != []


class TestPostedRegionsHoldTheRecordsOfTheFile:
    @pytest.mark.parametrize("format_", ["BAM", "CRAM"])
    def test_reads(self, demo_server: Server, demo_folder: Path, view: View, tmp_path: Path, format_: str) -> None:
        regions = [Region("chr2", 150_000, 151_000), Region("chrM"), Region("chr1", 2_000, 3_000), Region("chrM", 5)]
        query_body = {"format": format_, "regions": [region.parameters for region in regions]}
        body = fetch(demo_server.http, "/reads/NA00001", method="POST", json=query_body)
        path = tmp_path / f"answer.{format_.lower()}"
        path.write_bytes(body)
        answer, whole = view(path), view(demo_folder / f"NA00001.{format_.lower()}")

        def in_regions(lines: list[str]) -> list[str]:
            spans = ((line, record_span(line, "reads")) for line in lines)
            return [line for line, span in spans if any(region.overlaps(span) for region in regions)]

        assert in_regions(answer) == in_regions(whole) != []
        assert answer == in_regions(answer) if format_ == "BAM" else is_subsequence(answer, whole)
