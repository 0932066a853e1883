"""Files that other software wrote, read through tickets by samtools and bcftools."""

from pathlib import Path

import pytest

from tests.live.conftest import Serve
from tests.support.client import is_subsequence
from tests.support.live.regions import Region, overlapping, query, some_regions
from tests.support.live.server import Server
from tests.support.live.tools import real_data, view

pytestmark = pytest.mark.live

FILES = [
    ("reads/htsnexus_test_NA12878", "BAM", "htsnexus_test_NA12878.bam"),
    ("reads/htsnexus_test_NA12878", "CRAM", "htsnexus_test_NA12878.cram"),
    ("reads/NA12878.chr20.sample", "BAM", "NA12878.chr20.sample.bam"),
    ("variants/spec-v4.3", "VCF", "spec-v4.3.vcf.gz"),
    ("variants/spec-v4.3", "BCF", "spec-v4.3.bcf"),
    ("variants/sample1-bcbio-cancer", "VCF", "sample1-bcbio-cancer.vcf.gz"),
    ("variants/sample1-bcbio-cancer", "BCF", "sample1-bcbio-cancer.bcf"),
]


@pytest.fixture(scope="module")
def servers(serve: Serve) -> dict[str, Server]:
    """A server for each kind of files."""
    return {kind: serve(real_data(kind)) for kind in ("reads", "variants")}


@pytest.mark.parametrize(("dataset", "format_", "name"), FILES)
class TestTicketsHoldTheRecordsOfTheFile:
    def test_the_whole_file(
        self, servers: dict[str, Server], tmp_path: Path, dataset: str, format_: str, name: str
    ) -> None:
        kind = dataset.partition("/")[0]
        answer = view(f"{servers[kind].url}/{dataset}?format={format_}", cwd=tmp_path)
        assert answer == view(real_data(kind) / name, cwd=tmp_path) != []

    def test_regions(self, servers: dict[str, Server], tmp_path: Path, dataset: str, format_: str, name: str) -> None:
        kind = dataset.partition("/")[0]
        whole = view(real_data(kind) / name, cwd=tmp_path)
        for region in some_regions(whole, kind, name):
            url = f"{servers[kind].url}/{dataset}{query(format=format_, **region.parameters)}"
            answer = view(url, cwd=tmp_path)
            expected = overlapping(region, whole, kind)
            assert expected
            if format_ == "CRAM":
                assert overlapping(region, answer, kind) == expected, region
                assert is_subsequence(answer, whole), region
            else:
                assert answer == expected, region


@pytest.mark.parametrize("format_", ["BAM", "CRAM"])
class TestTheCountsOfNA12878AreRight:
    DATASET = "reads/htsnexus_test_NA12878"

    @pytest.mark.parametrize(
        ("region", "count"), [(Region("11", 5_004_999, 5_006_000), 32), (Region("20"), 14_545), (Region("X"), 0)]
    )
    def test_of_a_region(
        self, servers: dict[str, Server], tmp_path: Path, format_: str, region: Region, count: int
    ) -> None:
        url = f"{servers['reads'].url}/{self.DATASET}{query(format=format_, **region.parameters)}"
        answer = view(url, cwd=tmp_path)
        assert len(answer if format_ == "BAM" else overlapping(region, answer, "reads")) == count

    def test_of_the_unplaced_reads(self, servers: dict[str, Server], tmp_path: Path, format_: str) -> None:
        answer = view(f"{servers['reads'].url}/{self.DATASET}?format={format_}&referenceName=*", cwd=tmp_path)
        assert sum(line.split("\t", 3)[2] == "*" for line in answer) == 12_475
