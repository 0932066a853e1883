"""igv.js in another site's page, with real CORS: it reads every supported kind of track and genome from the server."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pysam
import pytest

from tests.live.conftest import Alone, Serve
from tests.support.live.browser import Visit, count_reads, count_variants, other_site
from tests.support.live.server import Server
from tests.support.live.tools import missing, write_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.live

NAME, START, END = "chr1", 30_000, 33_000
BIN = 100  # bases


@pytest.fixture(scope="module")
def folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example data with a compressed copy of their reference, and a bigWig of invented values."""
    folder = tmp_path_factory.mktemp("tracks") / "data"
    shutil.copytree(demo_folder, folder, copy_function=shutil.copy2)
    pysam.tabix_compress(str(folder / "demo.fa"), str(folder / "packed.fa.gz"))
    pysam.FastaFile(str(folder / "packed.fa.gz")).close()  # makes .fai and .gzi
    write_bigwig(folder / "values.bw", folder / "demo.fa.fai")
    return folder


def write_bigwig(path: Path, fai: Path) -> None:
    """Write a bigWig with one value for every `BIN` bases of the first reference."""
    try:
        import pyBigWig
    except ImportError:
        missing("pyBigWig is not installed: pip install -e '.[browser]'")
    sizes = [(row[0], int(row[1])) for row in (line.split("\t") for line in fai.read_text().splitlines())]
    name, length = sizes[0]
    starts = list(range(0, length - BIN, BIN))
    file = pyBigWig.open(str(path), "w")
    file.addHeader(sizes)
    file.addEntries(name, starts, values=[float(value(start)) for start in starts], span=BIN, step=BIN)
    file.close()


def value(start: int) -> int:
    return 1 + start // BIN % 17


@pytest.fixture(scope="module")
def server(serve: Serve, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    path = tmp_path_factory.mktemp("igv") / "config.yaml"
    settings = ("files: {storages: [here]}", "browser: {enabled: false}")
    return serve("--config", write_config(path, folder, *settings))


def is_sound(tab: Visit, server: Server) -> bool:
    assert tab.errors == []
    assert tab.alerts() == []
    assert tab.hosts() == {urlsplit(tab.page.url).netloc, urlsplit(server.url).netloc}
    return True


class TestIgvReadsFromAnotherOrigin:
    def test_all_kinds_of_tracks(self, browser: "Browser", server: Server, folder: Path, tmp_path: Path) -> None:
        files = f"{server.url}/files/here"
        height = {"height": 60}
        settings = {
            "reference": {"id": "demo", "fastaURL": f"{files}/demo.fa", "indexURL": f"{files}/demo.fa.fai"},
            "locus": f"{NAME}:{START + 1}-{END}",
            "tracks": [
                {
                    "name": "htsget BAM",
                    "type": "alignment",
                    "sourceType": "htsget",
                    "format": "bam",
                    "url": f"{server.url}/reads/NA00001",
                    **height,
                },
                {
                    "name": "htsget VCF",
                    "type": "variant",
                    "sourceType": "htsget",
                    "format": "vcf",
                    "url": f"{server.url}/variants/cohort",
                    "visibilityWindow": 100_000,
                },
                plain("BAM", "alignment", f"{files}/NA00001.bam", ".bai"),
                plain("CRAM", "alignment", f"{files}/NA00001.cram", ".crai"),
                plain("VCF", "variant", f"{files}/cohort.vcf.gz", ".tbi"),
                {
                    "name": "bigWig",
                    "type": "wig",
                    "format": "bigwig",
                    "url": f"{files}/values.bw",
                    "windowFunction": "none",
                },
            ],
        }
        with other_site(browser, tmp_path, settings) as tab:
            tracks = tab.tracks("alignment", "variant", "wig")
            tab.screenshot("another-site")
            assert is_sound(tab, server)
        (start, end) = (tracks["htsget BAM"]["start"], tracks["htsget BAM"]["end"])
        count = count_reads(folder / "NA00001.bam", NAME, start, end)
        assert count > 100
        assert [tracks[name]["count"] for name in ("htsget BAM", "BAM", "CRAM")] == [count] * 3
        count = count_variants(folder / "cohort.vcf.gz", NAME, start, end)
        assert count > 3
        assert [tracks[name]["count"] for name in ("htsget VCF", "VCF")] == [count] * 2
        assert tracks["bigWig"]["values"] == [value(position) for position in range(start, end, BIN)]
        assert holds_sequence(tracks["sequence"], folder)
        for name in ("sequence", "htsget BAM", "BAM", "CRAM", "htsget VCF", "VCF", "bigWig"):
            assert tracks[name]["ink"] > 100, name

    def test_cram_and_bcf_by_htsget(
        self, browser: "Browser", server: Server, alone: Alone, folder: Path, tmp_path: Path
    ) -> None:
        """Of datasets that have no other format."""
        files = f"{server.url}/files/here"
        tracks: list[dict[str, object]] = [
            {"type": "alignment", "format": "bam", "url": f"{alone.server.url}/reads/NA00001", "height": 60},
            {"type": "variant", "format": "vcf", "url": f"{alone.server.url}/variants/cohort"},
        ]
        settings: dict[str, Any] = {
            "reference": {"id": "demo", "fastaURL": f"{files}/demo.fa", "indexURL": f"{files}/demo.fa.fai"},
            "locus": f"{NAME}:{START + 1}-{END}",
            "tracks": [
                {"name": track["type"], "sourceType": "htsget", "visibilityWindow": 100_000, **track}
                for track in tracks
            ],
        }
        with other_site(browser, tmp_path, settings) as tab:
            drawn = tab.tracks("alignment", "variant")
            tab.screenshot("cram-and-bcf")
            assert (tab.errors, tab.alerts()) == ([], [])
        start, end = drawn["alignment"]["start"], drawn["alignment"]["end"]
        assert drawn["alignment"]["count"] == count_reads(folder / "NA00001.bam", NAME, start, end) > 100
        assert drawn["variant"]["count"] == count_variants(folder / "cohort.bcf", NAME, start, end) > 3
        assert all(drawn[name]["ink"] > 100 for name in ("alignment", "variant"))

    def test_a_compressed_genome(self, browser: "Browser", server: Server, folder: Path, tmp_path: Path) -> None:
        url = f"{server.url}/files/here/packed.fa.gz"
        reference = {
            "id": "packed",
            "fastaURL": url,
            "indexURL": f"{url}.fai",
            "compressedIndexURL": f"{url}.gzi",
        }
        with other_site(browser, tmp_path, {"reference": reference, "locus": "chr2:150001-150100"}) as tab:
            track = tab.tracks("sequence")["sequence"]
            assert track["ink"] > 100
            assert holds_sequence(track, folder)
            assert is_sound(tab, server)


def holds_sequence(track: dict[str, Any], folder: Path) -> bool:
    """Whether the displayed sequence is that of the reference."""
    with pysam.FastaFile(str(folder / "demo.fa")) as fasta:
        expected = fasta.fetch(track["chr"], track["start"], track["end"]).upper()
    assert len(expected) >= 100
    return expected in track["sequence"].upper()


def plain(name: str, kind: str, url: str, suffix: str) -> dict[str, object]:
    return {"name": name, "type": kind, "format": name.lower(), "url": url, "indexURL": url + suffix, "height": 60}
