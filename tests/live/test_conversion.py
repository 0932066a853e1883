"""Real clients on datasets that have CRAM or BCF only, without a format in the URL: they read BAM and VCF."""

import gzip
from pathlib import Path

import htsget
import pysam
import pytest

from tests.live.conftest import Alone
from tests.support.live.regions import query
from tests.support.live.tools import run, view
from tests.support.selections import Selection
from tests.support.view import view as printed

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("_quiet_htslib")]

REGIONS = [None, ("chr1", 20_000, 60_000), ("chr2", 5_000, 15_000)]
READS = ["NA00001", "referenced"]
Region = tuple[str, int, int] | None


def local(alone: Alone, name: str, region: Region) -> list[str]:
    """What samtools or bcftools prints of the file itself, in the version of the server's htslib."""
    if name == "cohort":
        return printed(alone.folder / "cohort.bcf", "BCF", region)
    reference = alone.reference if name == "referenced" else None
    return printed(alone.folder / f"{name}.cram", "CRAM", region, reference=reference)


def url_of(alone: Alone, name: str, region: Region, **parameters: object) -> str:
    """The URL of a ticket."""
    bounds = {} if region is None else dict(zip(("referenceName", "start", "end"), region, strict=True))
    endpoint = "variants" if name == "cohort" else "reads"
    return f"{alone.server.url}/{endpoint}/{name}{query(**bounds, **parameters)}"


@pytest.mark.parametrize("region", REGIONS)
class TestTheRecordsAreThoseOfTheFile:
    @pytest.mark.parametrize("name", [*READS, "cohort"])
    def test_for_samtools_and_bcftools(self, alone: Alone, name: str, region: Region, tmp_path: Path) -> None:
        answer = view(url_of(alone, name, region), cwd=tmp_path)
        is_equal = answer == local(alone, name, region) != []
        assert is_equal

    @pytest.mark.parametrize("name", READS)
    def test_for_pysam(self, alone: Alone, name: str, region: Region, tmp_path: Path) -> None:
        with pysam.AlignmentFile(url_of(alone, name, region)) as reads:
            assert reads.is_bam
            answer = [read.to_string() for read in reads.fetch(until_eof=True)]
        is_equal = answer == local(alone, name, region) != []
        assert is_equal

    def test_for_pysam_with_variants(self, alone: Alone, region: Region, tmp_path: Path) -> None:
        with pysam.VariantFile(url_of(alone, "cohort", region)) as variants:
            assert variants.is_vcf
            answer = [str(record).rstrip("\n") for record in variants]
        assert answer == local(alone, "cohort", region) != []

    @pytest.mark.parametrize(
        ("name", "format_"), [("NA00001", "BAM"), ("referenced", "BAM"), ("cohort", "VCF"), ("cohort", "VCFTEXT")]
    )
    def test_for_the_python_client(self, alone: Alone, name: str, format_: str, region: Region, tmp_path: Path) -> None:
        path = tmp_path / {"BAM": "answer.bam", "VCF": "answer.vcf.gz", "VCFTEXT": "answer.vcf"}[format_]
        with path.open("wb") as file:
            bounds = {} if region is None else dict(zip(("reference_name", "start", "end"), region, strict=True))
            htsget.get(url_of(alone, name, None), file, data_format=format_, max_retries=0, **bounds)
        if format_ == "VCFTEXT":
            answer = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        else:
            answer = view(path, cwd=tmp_path)
        is_equal = answer == local(alone, name, region) != []
        assert is_equal

    @pytest.mark.parametrize("name", READS)
    def test_with_fewer_fields(self, alone: Alone, name: str, region: Region, tmp_path: Path) -> None:
        selection = Selection(("QNAME", "SEQ"), ("NM", "RG"))
        answer = view(url_of(alone, name, region, **selection.query()), cwd=tmp_path)
        expected = [selection.apply(line) for line in local(alone, name, region)]
        is_equal = answer == expected != []
        assert is_equal


def test_variants_as_text(alone: Alone, tmp_path: Path) -> None:
    """It is what bcftools prints, header included, also as compressed VCF; bcftools reads it."""
    url, command = url_of(alone, "cohort", None), ("view", "--no-version")
    expected = run("bcftools", *command, alone.folder / "cohort.bcf", cwd=tmp_path)
    assert run("bcftools", *command, f"{url}?format=VCFTEXT", cwd=tmp_path) == expected
    for format_ in ("VCF", "VCFTEXT"):
        with (tmp_path / format_).open("wb") as file:
            htsget.get(url, file, data_format=format_, max_retries=0)
    assert gzip.decompress((tmp_path / "VCF").read_bytes()).decode() == expected
    assert (tmp_path / "VCFTEXT").read_text() == expected
