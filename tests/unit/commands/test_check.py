import os
import shutil
from itertools import pairwise
from pathlib import Path

import pysam
import pytest
from click.testing import Result

from tests.support import referenced
from tests.support.cli import run
from tests.support.files import GOOD, NOT_BGZF
from tests.support.files.bam import bam_no_eof
from tests.support.files.broken import truncated as truncate
from tests.support.sequences import expected, fasta, run_ingest

pytestmark = pytest.mark.slow


class TestCheck:
    def test_sound_files(self, demo_folder: Path) -> None:
        result = run("check", demo_folder)
        assert result.exit_code == 0, result.output
        assert result.output.count("ok     /") == 4
        assert "ok     sequences of " in result.output
        assert "5 files, 0 of them cannot be served" in result.output
        assert "index NA00001.bam.bai" in result.output

    @pytest.mark.parametrize("name", ["bam_straddling", "cram_multi_slice", "vcf_mid_line_blocks", "bcf_sparse_idx"])
    def test_deep_compares_records(self, name: str, tmp_path: Path) -> None:
        GOOD[name](tmp_path)
        result = run("check", "--deep", tmp_path)
        assert result.exit_code == 0, result.output
        assert "records compared" in result.output

    def test_deep_finds_what_is_not_delivered(self, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("htsget_flask.htsget.plan.split_records", lambda *_: [])
        result = run("check", "--deep", demo_folder)
        assert result.exit_code == 1
        assert "tickets do not deliver" in result.output

    def test_each_fault_is_reported_with_its_remedy(self, folder: Path) -> None:
        modified = (folder / "cohort.bcf").stat().st_mtime
        os.utime(folder / "cohort.bcf.csi", (modified - 100, modified - 100))
        (folder / "cohort.vcf.gz.tbi").unlink()
        (folder / "NA00001.bam.bai").write_bytes(b"BAI\1")
        truncate(folder / "NA00001.cram", folder / "short.cram")
        (folder / "short.cram.crai").unlink(missing_ok=True)
        result = run("check", folder)
        assert result.exit_code == 1
        output = result.output
        assert "older than its data; run `htsget-flask index`, or touch" in output
        assert "has no index; run `htsget-flask index`" in output
        assert f"remove {folder}/NA00001.bam.bai, then run `htsget-flask index`" in output
        assert "truncated" in output
        assert "6 files, 4 of them cannot be served" in output

    def test_a_missing_end_marker_and_an_unstated_order_are_warnings(self, tmp_path: Path) -> None:
        bam_no_eof(tmp_path)
        result = run("check", tmp_path)
        assert result.exit_code == 0, result.output
        assert "warning: has no EOF marker" in result.output

    def test_files_that_are_not_served_are_reported(self, folder: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        (outside / "more").mkdir(parents=True)
        for name in ("new.vcf", "new.sam", "NA00001.sam", "cohort.vcf", ".hidden.vcf", "notes.txt"):
            (folder / name).touch()
        shutil.copy2(folder / "NA00001.bam", outside / "far.bam")
        (folder / "far.bam").symlink_to(outside / "far.bam")
        (folder / "more").symlink_to(outside / "more")
        (folder / "notes").symlink_to(outside / "far.bam")
        (folder / "near.bam").symlink_to("NA00001.bam")
        (folder / "near.bam.bai").symlink_to("NA00001.bam.bai")
        result = run("check", folder)
        assert result.exit_code == 1
        outside_link = "is a link out of the folder; serve the folder that it points to"
        lines = result.output.splitlines()
        failed = {line: lines[index + 1] for index, line in enumerate(lines) if line.startswith("FAILED")}
        assert {line.removeprefix("FAILED ") for line in failed} == {
            str(folder / name) for name in ("new.vcf", "new.sam", "far.bam", "more")
        }
        assert "compress it with bgzip, then index it" in failed[f"FAILED {folder}/new.vcf"]
        assert "convert it to BAM" in failed[f"FAILED {folder}/new.sam"]
        assert outside_link in failed[f"FAILED {folder}/far.bam"]
        assert outside_link in failed[f"FAILED {folder}/more"]
        assert "10 files, 4 of them cannot be served" in result.output

    def test_names_and_links_that_are_not_served(self, folder: Path) -> None:
        shutil.copy2(folder / "NA00001.bam", folder / "upper.BAM")
        shutil.copy2(folder / "cohort.vcf.gz", folder / "mixed.Vcf.gz")
        shutil.copy2(folder / "cohort.vcf.gz", folder / "cohort.vcf.bgz")
        (folder / "gone.bam").symlink_to("nowhere.bam")
        (folder / "loop.bam").symlink_to("loop.bam")
        result = run("check", folder)
        assert result.exit_code == 1
        printed = result.output.splitlines()
        failed = {line.removeprefix(f"FAILED {folder}/"): reason for line, reason in pairwise(printed)}
        assert "rename it to upper.bam" in failed["upper.BAM"]
        assert "rename it to mixed.vcf.gz" in failed["mixed.Vcf.gz"]
        assert "cohort.vcf.gz is served as the VCF file of 'cohort'" in failed["cohort.vcf.bgz"]
        for name in ("gone.bam", "loop.bam"):
            assert "does not exist or cannot be reached" in failed[name]
        assert "10 files, 5 of them cannot be served" in result.output

    def test_files_whose_ids_an_earlier_entry_has(self, demo_folder: Path, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"storages: {{lab: {{type: local, root: {demo_folder}}}}}\n"
            "datasets: [{id: lab/cohort, variants: {VCF: {storage: lab, key: cohort.vcf.gz}}},\n"
            "  {prefix: lab/, storage: lab}]\n"
        )
        result = run("check", "--config", config)
        assert result.exit_code == 1
        hidden = [line for line in result.output.splitlines() if "no request reaches it" in line]
        # The named dataset is the first entry, so the prefix adds nothing to it: the BCF file is not served.
        assert len(hidden) == 1
        assert "the entry of id 'lab/cohort' comes first" in hidden[0]
        assert f"FAILED {demo_folder}/cohort.bcf\n{hidden[0]}" in result.output
        assert "ok     /variants/lab/cohort VCF" in result.output

    def test_an_unsorted_file_cannot_be_served(self, tmp_path: Path) -> None:
        header = {"HD": {"VN": "1.6", "SO": "queryname"}, "SQ": [{"SN": "chr1", "LN": 1000}]}
        with pysam.AlignmentFile(str(tmp_path / "a.bam"), "wb", header=header):
            pass
        result = run("check", tmp_path)
        assert result.exit_code == 1
        assert "sorted as queryname" in result.output

    @pytest.mark.parametrize("name", sorted(NOT_BGZF))
    def test_other_compression(self, name: str, tmp_path: Path) -> None:
        NOT_BGZF[name](tmp_path)
        result = run("check", tmp_path)
        assert result.exit_code == 1
        assert "BGZF" in result.output

    def test_an_empty_folder_is_an_error(self, tmp_path: Path) -> None:
        assert run("check", tmp_path).exit_code == 1

    def test_a_configuration(self, demo_folder: Path, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"storages: {{lab: {{type: local, root: {demo_folder}}}}}\n"
            "datasets:\n"
            "  - {id: one, reads: {BAM: {storage: lab, key: NA00001.bam}, CRAM: {storage: lab, key: gone.cram}}}\n"
        )
        result = run("check", "--config", config)
        assert result.exit_code == 1
        assert "ok     /reads/one BAM" in result.output
        assert "FAILED /reads/one CRAM" in result.output

    def test_either_a_folder_or_a_configuration(self, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text("x: 1")
        for arguments in ((), (tmp_path, "--config", config)):
            for command in ("check", "index", "serve"):
                assert run(command, *arguments).exit_code == 2
        result = run("check", "--config", config)
        assert result.exit_code == 1
        assert "x: there is no such setting" in result.output
        assert "storages: is missing" in result.output


class TestReferencesOfCram:
    def check(self, folder: Path, *, convert: bool = True, fasta_key: str = "") -> Result:
        """Check the folder, with the sequences of the FASTA files whose paths start with a key."""
        config = folder.parent / "config.yaml"
        config.write_text(
            f"storages: {{here: {{type: local, root: '{folder}'}}}}\ndatasets: [{{prefix: '', storage: here}}]\n"
            f"htsget: {{convert: {str(convert).lower()}}}\n"
            f"refget: {{fastas: [{{storage: here, prefix: '{fasta_key}'}}]}}\n"
        )
        return run("check", "--config", config)

    @pytest.fixture
    def cram_folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        reference = referenced.write_reference(folder / "reference.fa")
        referenced.write_cram("version_3_0", folder / "x.cram", reference)
        return folder

    def test_that_are_served(self, cram_folder: Path) -> None:
        result = self.check(cram_folder)
        assert result.exit_code == 0, result.output
        assert "x.cram.crai, references: 5 at /sequence)" in result.output
        assert "converted" not in result.output

    def test_that_are_missing(self, cram_folder: Path) -> None:
        result = self.check(cram_folder, fasta_key="none")
        assert result.exit_code == 0, result.output
        assert "x.cram.crai, references: 5 not available)" in result.output
        warning = "warning: references that are neither embedded nor available at /sequence: chr1, chr2, c3, c4, c5;"
        assert f"{warning} it cannot be converted to BAM, and clients need them from elsewhere" in result.output
        assert "let refget.fastas name their FASTA files [" in result.output
        result = self.check(cram_folder, fasta_key="none", convert=False)
        assert f"{warning} clients need them from elsewhere" in result.output

    def test_without_checksums_in_the_header(self, cram_folder: Path) -> None:
        referenced.remove_md5s(cram_folder / "x.cram")
        result = self.check(cram_folder)
        assert "x.cram.crai, references: 5 not available)" in result.output
        assert "available at /sequence: chr1 (no M5 in the header), " in result.output
        assert "and add each M5 to the header (`samtools reheader`)" in result.output

    @pytest.mark.parametrize("name", referenced.ALONE)
    def test_that_are_not_needed(self, cram_folder: Path, name: str) -> None:
        referenced.write_cram(name, cram_folder / "x.cram", cram_folder / "reference.fa")
        result = self.check(cram_folder, fasta_key="none")
        assert "x.cram.crai, references: 5 embedded or not needed)" in result.output
        assert "warning: references" not in result.output


class TestCheckOfAStore:
    """A configuration with nothing but a store."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT", "b": b"TT", "c": b""}))
        store = tmp_path / "store"
        run_ingest(path, store, tmp_path / "cache")
        return store

    def check(self, store: Path) -> Result:
        config = store.with_suffix(".yaml")
        config.write_text(
            f"storages: {{here: {{type: local, root: '{store}'}}}}\ndatasets: [{{prefix: '', storage: here}}]\n"
            "refget: {store: {storage: here}}\ncache: {folder: cache}\n"
        )
        return run("check", "--config", config)

    def test_that_is_complete(self, store: Path) -> None:
        result = self.check(store)
        assert (result.exit_code, result.output.splitlines()[0]) == (0, f"ok     sequences of {store}/ (3)")

    @pytest.mark.parametrize("content", [None, b"ACG"])
    def test_with_incomplete_files(self, store: Path, content: bytes | None) -> None:
        md5 = expected(b"ACGT").md5
        file = store / md5[:2] / md5[2:4] / md5[4:]
        file.unlink() if content is None else file.write_bytes(content)
        result = self.check(store)
        assert result.exit_code == 1
        assert result.output.splitlines()[:2] == [
            f"FAILED sequences of {store}/ (3)",
            f"       error: sequences of its list are missing or incomplete: {md5} [{store}/]",
        ]

    def test_that_does_not_exist(self, store: Path) -> None:
        (store / "refget.tsv").unlink()
        result = self.check(store)
        assert result.exit_code == 1
        assert f"error: cannot be read: it does not exist [{store}/refget.tsv]" in result.output
