"""The example data: deterministic, consistent from file to file, and never incomplete."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pysam
import pytest

from htsget_flask.commands.demo import write_demo

pytestmark = pytest.mark.slow

SAMPLE = "NA00001"
PAIRED_FORMATS = ("bam", "cram")
NAMES = {
    "demo.fa",
    "demo.fa.fai",
    "NA00001.bam",
    "NA00001.bam.bai",
    "NA00001.cram",
    "NA00001.cram.crai",
    "cohort.vcf.gz",
    "cohort.vcf.gz.tbi",
    "cohort.bcf",
    "cohort.bcf.csi",
    "README.txt",
}
UNFINISHED = b"of an older version"
REGIONS = [("chr1", 0, 600_000), ("chr1", 123_456, 134_567), ("chr2", 299_000, 300_000), ("chrM", 0, 16_569)]


class Evidence(NamedTuple):
    """How many of the reads over a site show its alternate allele."""

    alternate: int
    total: int

    @property
    def fraction(self) -> float:
        return self.alternate / self.total


@pytest.fixture(scope="module")
def completed_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another folder, with a longer path, that had some files of an interrupted run or of an older version."""
    folder = tmp_path_factory.mktemp("a folder with another and longer name")
    for name in NAMES - {"README.txt", "cohort.bcf.csi"}:
        (folder / name).write_bytes(UNFINISHED)
    (folder / "README.txt").write_bytes((demo_folder / "README.txt").read_bytes())
    write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def reads(demo_folder: Path) -> list[pysam.AlignedSegment]:
    with pysam.AlignmentFile(str(demo_folder / "NA00001.bam")) as bam:
        return list(bam.fetch(until_eof=True))


@pytest.fixture(scope="module")
def biallelic_evidence(demo_folder: Path) -> dict[tuple[str, tuple[int, ...]], list[Evidence]]:
    """The reads over hundreds of biallelic sites of each contig, by kind of site and called genotype."""
    evidence: dict[tuple[str, tuple[int, ...]], list[Evidence]] = {}
    with (
        pysam.AlignmentFile(str(demo_folder / "NA00001.bam")) as bam,
        pysam.VariantFile(str(demo_folder / "cohort.vcf.gz")) as vcf,
    ):
        for site in chain(vcf.fetch("chr1", 0, 100_000), vcf.fetch("chr2", 0, 100_000), vcf.fetch("chrM")):
            ref, *alts = site.alleles or ()
            if len(alts) > 1:
                continue
            kind = "snv" if len(ref) == len(alts[0]) else "indel"
            counts = weigh_reads(bam, site.chrom, site.start, ref, alts[0])
            if counts.total > 0:
                evidence.setdefault((kind, site.samples[SAMPLE]["GT"]), []).append(counts)
    return evidence


def weigh_reads(bam: pysam.AlignmentFile, reference_name: str, start: int, ref: str, alt: str) -> Evidence:
    """Count the reads with ten more bases on each side of a site, so that no clipped end hides an allele."""
    alternates = []
    for column in bam.pileup(reference_name, start, start + 1, truncate=True, min_base_quality=20):
        for read in column.pileups:
            position = read.query_position
            if position is None or position - read.alignment.query_alignment_start < 10:
                continue
            if read.alignment.query_alignment_end - position < 10 + len(alt):
                continue
            sequence = read.alignment.query_sequence or ""
            alternates.append(read.indel == len(alt) - len(ref) and sequence[position : position + len(alt)] == alt)
    return Evidence(sum(alternates), len(alternates))


def fail(*_: object, **__: object) -> None:
    raise OSError("disk full")


def pool(evidence: list[Evidence]) -> Evidence:
    return Evidence(sum(one.alternate for one in evidence), sum(one.total for one in evidence))


class TestTheDemoIsDeterministic:
    def test_two_folders_hold_the_same_bytes(self, demo_folder: Path, completed_folder: Path) -> None:
        assert [
            name for name in NAMES if (demo_folder / name).read_bytes() != (completed_folder / name).read_bytes()
        ] == []


class TestTheHeadersSayNothingAboutTheMachine:
    @pytest.mark.parametrize("suffix", PAIRED_FORMATS)
    def test_reads_have_checksums_and_no_path_or_program(self, demo_folder: Path, suffix: str) -> None:
        with pysam.AlignmentFile(str(demo_folder / f"NA00001.{suffix}")) as file:
            header = file.header.to_dict()
        assert set(header) == {"HD", "SQ", "RG"}
        assert [set(line) for line in header["SQ"]] == [{"SN", "LN", "M5"}] * 3
        assert [line["SM"] for line in header["RG"]] == [SAMPLE]

    @pytest.mark.parametrize("name", ["cohort.vcf.gz", "cohort.bcf"])
    def test_variants_have_a_fixed_date_and_no_path_or_program(self, demo_folder: Path, name: str) -> None:
        with pysam.VariantFile(str(demo_folder / name)) as file:
            header = str(file.header)
            lengths = {contig.name: contig.length for contig in file.header.contigs.values()}
        assert lengths == {"chr1": 600_000, "chr2": 300_000, "chrM": 16_569}
        assert "##fileDate=20240101\n" in header
        assert "bcftools" not in header
        assert str(demo_folder.parent) not in header

    def test_the_cram_identifier_is_the_file_name(self, demo_folder: Path) -> None:
        assert (demo_folder / "NA00001.cram").read_bytes()[6:26] == b"NA00001.cram".ljust(20, b"\0")


class TestTheReadsAgreeWithTheCalls:
    def test_the_alignments_agree_with_their_tags(self, demo_folder: Path, reads: list[pysam.AlignedSegment]) -> None:
        with pysam.FastaFile(str(demo_folder / "demo.fa")) as fasta:
            texts = {name: fasta.fetch(name) for name in fasta.references}
        gapped = [read for read in reads if read.cigarstring not in (None, "150M")]
        assert {letter for read in gapped for letter in read.cigarstring or "" if letter.isalpha()} == set("MIDS")
        for read in gapped + [read for read in reads[::50] if read.is_mapped]:
            text = texts[read.reference_name or ""]
            assert read.get_reference_sequence().upper() == text[read.reference_start : read.reference_end]
            bases, gaps = read.query_sequence or "", read.get_cigar_stats()[0]
            pairs = read.get_aligned_pairs(matches_only=True)
            mismatches = sum(bases[base] != text[position] for base, position in pairs)
            assert read.get_tag("NM") == mismatches + gaps[pysam.CINS] + gaps[pysam.CDEL]

    @pytest.mark.parametrize("kind", ["snv", "indel"])
    def test_homozygous_sites(
        self, biallelic_evidence: dict[tuple[str, tuple[int, ...]], list[Evidence]], kind: str
    ) -> None:
        assert pool(biallelic_evidence[kind, (0, 0)]).fraction < 0.005
        assert pool(biallelic_evidence[kind, (1, 1)]).fraction > 0.98
        assert all(counts.fraction > 0.5 for counts in biallelic_evidence[kind, (1, 1)] if counts.total > 3)

    @pytest.mark.parametrize("kind", ["snv", "indel"])
    def test_heterozygous_sites(
        self, biallelic_evidence: dict[tuple[str, tuple[int, ...]], list[Evidence]], kind: str
    ) -> None:
        assert 0.45 < pool(biallelic_evidence[kind, (0, 1)]).fraction < 0.55
        assert all(0 < counts.fraction < 1 for counts in biallelic_evidence[kind, (0, 1)] if counts.total > 12)

    def test_allele_counts_are_those_of_the_genotypes(self, demo_folder: Path) -> None:
        with (
            pysam.VariantFile(str(demo_folder / "cohort.vcf.gz")) as vcf,
            pysam.FastaFile(str(demo_folder / "demo.fa")) as fasta,
        ):
            end = dict.fromkeys(fasta.references, 0)
            for site in vcf:
                called = Counter(a for call in site.samples.values() for a in call["GT"] if a is not None)
                counts = tuple(called[allele] for allele in range(1, len(site.alleles or ())))
                assert (site.info["AC"], site.info["AN"]) == (counts, called.total())
                assert min(counts) > 0
                assert site.info["AF"] == pytest.approx([count / called.total() for count in counts], rel=1e-3)
                assert fasta.fetch(site.chrom, site.start, site.stop) == site.ref
                assert site.start >= end[site.chrom]
                end[site.chrom] = site.stop


class TestTheReadsArePaired:
    def test_mates_name_each_other(self, reads: list[pysam.AlignedSegment]) -> None:
        pairs: dict[str, list[pysam.AlignedSegment]] = {}
        for read in reads:
            pairs.setdefault(read.query_name or "", []).append(read)
        assert all([read.is_read1 for read in pair].count(True) == len(pair) - 1 == 1 for pair in pairs.values())
        for read, mate in (pair[order] for pair in pairs.values() for order in (slice(None), slice(None, None, -1))):
            assert (read.next_reference_id, read.next_reference_start) == (mate.reference_id, mate.reference_start)
            assert (read.mate_is_reverse, read.mate_is_unmapped) == (mate.is_reverse, mate.is_unmapped)
            assert read.template_length == -mate.template_length
            assert read.is_proper_pair == (read.is_mapped and mate.is_mapped)

    def test_every_kind_of_read_exists(self, reads: list[pysam.AlignedSegment]) -> None:
        unplaced = sum(read.reference_id < 0 for read in reads)
        placed_unmapped = sum(read.is_unmapped and read.reference_id >= 0 for read in reads)
        assert 60_000 < len(reads) < 90_000
        assert unplaced == 600
        assert 100 < placed_unmapped < 1_000
        assert 500 < sum(read.is_duplicate for read in reads) < 2_000


class TestTheIndexesFindEveryRecord:
    @pytest.mark.parametrize("suffix", PAIRED_FORMATS)
    @pytest.mark.parametrize(("reference_name", "start", "end"), REGIONS)
    def test_reads(
        self,
        demo_folder: Path,
        reads: list[pysam.AlignedSegment],
        suffix: str,
        reference_name: str,
        start: int,
        end: int,
    ) -> None:
        scanned = sum(
            read.reference_name == reference_name
            and read.reference_start < end
            and (read.reference_end or read.reference_start + 1) > start
            for read in reads
        )
        with pysam.AlignmentFile(str(demo_folder / f"NA00001.{suffix}")) as file:
            assert file.count(reference_name, start, end, read_callback="nofilter") == scanned > 0

    @pytest.mark.parametrize("name", ["cohort.vcf.gz", "cohort.bcf"])
    @pytest.mark.parametrize(("reference_name", "start", "end"), REGIONS)
    def test_variants(self, demo_folder: Path, name: str, reference_name: str, start: int, end: int) -> None:
        with pysam.VariantFile(str(demo_folder / name)) as file:
            scanned = sum(site.chrom == reference_name and site.start < end and site.stop > start for site in file)
        with pysam.VariantFile(str(demo_folder / name)) as file:
            assert sum(1 for _ in file.fetch(reference_name, start, end)) == scanned > 0

    def test_no_index_is_older_than_its_data(self, demo_folder: Path) -> None:
        for index in (
            path for path in demo_folder.iterdir() if path.suffix in {".fai", ".bai", ".crai", ".tbi", ".csi"}
        ):
            assert index.stat().st_mtime_ns >= index.with_suffix("").stat().st_mtime_ns


class TestTheFormatsHoldTheSameRecords:
    def test_cram_decodes_to_the_bam_without_a_reference(
        self, demo_folder: Path, reads: list[pysam.AlignedSegment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REF_PATH", str(tmp_path / "nowhere"))
        monkeypatch.setenv("REF_CACHE", str(tmp_path / "nowhere"))
        (tmp_path / "alone.cram").write_bytes((demo_folder / "NA00001.cram").read_bytes())
        with pysam.AlignmentFile(str(tmp_path / "alone.cram")) as cram:
            decoded = [read.to_string() for read in cram.fetch(until_eof=True)]
        assert decoded == [read.to_string() for read in reads]

    def test_bcf_equals_vcf(self, demo_folder: Path) -> None:
        with (
            pysam.VariantFile(str(demo_folder / "cohort.bcf")) as bcf,
            pysam.VariantFile(str(demo_folder / "cohort.vcf.gz")) as vcf,
        ):
            assert str(bcf.header) == str(vcf.header)
            assert [str(site) for site in bcf] == [str(site) for site in vcf]


class TestAFolderIsLeftComplete:
    def read_times(self, folder: Path) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    def test_a_complete_folder_is_left_untouched(self, demo_folder: Path) -> None:
        before = self.read_times(demo_folder)
        write_demo(demo_folder)
        assert self.read_times(demo_folder) == before

    def test_an_interrupted_folder_is_completed(self, completed_folder: Path) -> None:
        assert {path.name for path in completed_folder.iterdir()} == NAMES
        assert [name for name in NAMES if (completed_folder / name).read_bytes() == UNFINISHED] == []

    @pytest.mark.parametrize("readme", [None, "htsget_flask demo data, version 0\n"])
    def test_a_folder_without_this_versions_readme_is_rewritten(
        self, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readme: str | None
    ) -> None:
        for name in NAMES - {"README.txt"}:
            (tmp_path / name).write_bytes((demo_folder / name).read_bytes())
        if readme is not None:
            (tmp_path / "README.txt").write_text(readme)
        monkeypatch.setattr(pysam, "faidx", fail)
        with pytest.raises(OSError, match="disk full"):
            write_demo(tmp_path)

    def test_a_failure_leaves_no_unfinished_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pysam, "faidx", fail)
        with pytest.raises(OSError, match="disk full"):
            write_demo(tmp_path)
        assert list(tmp_path.iterdir()) == []
