"""samtools, bcftools and pysam on remote plain files with their indexes, against the same programs on local files."""

import shutil
from pathlib import Path
from urllib.parse import quote

import pysam
import pytest

from tests.live.conftest import Serve
from tests.support.live.server import Server
from tests.support.live.tools import lines, run

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("_quiet_htslib")]

REGIONS = ("chr1:10001-20000", "chr2", "chr1:590000-600000", "chrM:1-10")


@pytest.fixture(scope="module")
def folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example data with a compressed copy of its reference, in a folder whose name has to be encoded."""
    top = tmp_path_factory.mktemp("plain")
    folder = top / "größe #1"
    shutil.copytree(demo_folder, folder)
    run("bgzip", "-k", "demo.fa", cwd=folder)
    run("samtools", "faidx", "demo.fa.gz", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def server(serve: Serve, folder: Path) -> Server:
    """A server of that folder's parent."""
    return serve(folder.parent)


def url(server: Server, path: Path) -> str:
    """The URL of a plain file."""
    return f"{server.url}/files/data/{quote(path.parent.name)}/{path.name}"


class TestSamtools:
    @pytest.mark.parametrize("region", REGIONS)
    def test_reads_regions_of_bam_by_its_index(self, server: Server, folder: Path, tmp_path: Path, region: str) -> None:
        path = folder / "NA00001.bam"
        expected = lines("samtools", "view", path, region, cwd=tmp_path)
        assert lines("samtools", "view", url(server, path), region, cwd=tmp_path) == expected

    def test_reads_regions_of_cram_by_its_index_and_reference(
        self, server: Server, folder: Path, tmp_path: Path
    ) -> None:
        path, reference = folder / "NA00001.cram", folder / "demo.fa"
        expected = lines("samtools", "view", "-T", reference, path, "chr1:10001-20000", cwd=tmp_path)
        remote = ("view", "-T", url(server, reference), url(server, path), "chr1:10001-20000")
        assert lines("samtools", *remote, cwd=tmp_path) == expected != []

    def test_reads_the_whole(self, server: Server, folder: Path, tmp_path: Path) -> None:
        path = folder / "NA00001.bam"
        expected = run("samtools", "view", "-c", path, cwd=tmp_path)
        assert run("samtools", "view", "-c", url(server, path), cwd=tmp_path) == expected

    @pytest.mark.parametrize("name", ["demo.fa", "demo.fa.gz"])
    @pytest.mark.parametrize("region", REGIONS)
    def test_reads_sequences(self, server: Server, folder: Path, tmp_path: Path, name: str, region: str) -> None:
        path = folder / name
        expected = lines("samtools", "faidx", path, region, cwd=tmp_path)
        assert lines("samtools", "faidx", url(server, path), region, cwd=tmp_path) == expected


class TestBcftools:
    @pytest.mark.parametrize("name", ["cohort.vcf.gz", "cohort.bcf"])
    @pytest.mark.parametrize("region", REGIONS)
    def test_reads_regions_by_index(self, server: Server, folder: Path, tmp_path: Path, name: str, region: str) -> None:
        path = folder / name
        expected = lines("bcftools", "view", "-H", "-r", region, path, cwd=tmp_path)
        assert lines("bcftools", "view", "-H", "-r", region, url(server, path), cwd=tmp_path) == expected

    def test_tabix_too(self, server: Server, folder: Path, tmp_path: Path) -> None:
        path = folder / "cohort.vcf.gz"
        expected = lines("tabix", path, "chr1:10001-20000", cwd=tmp_path)
        assert lines("tabix", url(server, path), "chr1:10001-20000", cwd=tmp_path) == expected != []


class TestPysam:
    def test_seeks_in_both_directions(
        self, server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # htslib saves indexes in the current folder.
        monkeypatch.chdir(tmp_path)
        path = folder / "NA00001.bam"
        with pysam.AlignmentFile(str(path)) as local, pysam.AlignmentFile(url(server, path)) as remote:
            for region in (*REGIONS, *reversed(REGIONS)):
                expected = [read.to_string() for read in local.fetch(region=region)]
                assert [read.to_string() for read in remote.fetch(region=region)] == expected

    def test_reads_variants_and_sequences(
        self, server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        path = folder / "cohort.vcf.gz"
        with pysam.VariantFile(str(path)) as local, pysam.VariantFile(url(server, path)) as remote:
            expected = [str(record) for record in local.fetch("chr1", 10_000, 20_000)]
            assert [str(record) for record in remote.fetch("chr1", 10_000, 20_000)] == expected != []
        path = folder / "demo.fa.gz"
        with pysam.FastaFile(str(path)) as local, pysam.FastaFile(url(server, path)) as remote:
            assert remote.fetch("chr2", 5_000, 6_000) == local.fetch("chr2", 5_000, 6_000) != ""
