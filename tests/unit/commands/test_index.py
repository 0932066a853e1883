import os
from pathlib import Path

import pysam
import pytest

from tests.support.cli import run
from tests.support.files import GOOD, NOT_BGZF, WITHOUT_INDEX
from tests.support.files.indexes import index_of
from tests.support.sequences import fasta, write_compressed

pytestmark = pytest.mark.slow


class TestIndex:
    @pytest.mark.parametrize("name", sorted(WITHOUT_INDEX))
    def test_missing_indexes_are_built(self, name: str, tmp_path: Path) -> None:
        path = WITHOUT_INDEX[name](tmp_path)
        assert run("check", tmp_path).exit_code == 1
        result = run("index", tmp_path)
        assert result.exit_code == 0, result.output
        assert index_of(path) is not None
        assert run("check", "--deep", tmp_path).exit_code == 0
        assert "0 indexes built" in run("index", tmp_path).output
        assert not list(tmp_path.glob(".*"))

    def test_links_of_other_users_are_not_followed(self, folder: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        index = folder / "NA00001.bam.bai"
        index.unlink()
        (folder / "genome.fa").write_bytes(b">chr1\nACGT\n")
        names = [name for file in (index.name, "genome.fa.fai") for name in (file, f".{os.getpid()}-{file}")]
        for name in names:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(secret)
        run("index", folder)
        assert secret.read_bytes() == b"secret"

    def test_older_indexes_are_built_again(self, folder: Path) -> None:
        modified = (folder / "NA00001.bam").stat().st_mtime
        os.utime(folder / "NA00001.bam.bai", (modified - 100, modified - 100))
        assert "1 indexes built" in run("index", folder).output
        assert run("check", folder).exit_code == 0

    @pytest.mark.parametrize("name", ["bam_long_contig", "vcf_long_contig", "bcf_long_contig", "bcf_sparse_idx"])
    def test_long_references_get_a_csi(self, name: str, tmp_path: Path) -> None:
        path = GOOD[name](tmp_path)
        index = index_of(path)
        assert index is not None
        index.unlink()
        assert run("index", tmp_path).exit_code == 0
        built = index_of(path)
        assert built is not None
        assert built.suffix == ".csi"
        assert run("check", "--deep", tmp_path).exit_code == 0

    @pytest.mark.parametrize("name", sorted(NOT_BGZF))
    def test_data_are_never_changed(self, name: str, tmp_path: Path) -> None:
        path = NOT_BGZF[name](tmp_path)
        for index in tmp_path.glob("*.tbi"):
            index.unlink()
        content = path.read_bytes()
        result = run("index", tmp_path)
        assert result.exit_code == 1
        assert "BGZF" in result.output
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]

    def test_one_failure_does_not_stop_the_others(self, folder: Path) -> None:
        (folder / "broken.bam").write_bytes(b"x")
        (folder / "cohort.bcf.csi").unlink()
        result = run("index", folder)
        assert result.exit_code == 1
        assert "1 indexes built, 1 failed" in result.output
        assert (folder / "cohort.bcf.csi").exists()

    @pytest.mark.parametrize("positions", [[(0, 500), (0, 400)], [(0, 5), (1, 5), (0, 9)], [(-1, -1), (0, 5)]])
    def test_an_unsorted_file_has_to_be_sorted(self, tmp_path: Path, positions: list[tuple[int, int]]) -> None:
        header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": 10_000} for name in ("chr1", "chr2")]}
        path = tmp_path / "a.bam"
        with pysam.AlignmentFile(str(path), "wb", header=header) as file:
            for number, (reference_id, start) in enumerate(positions):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.query_sequence = f"r{number}", "ACGT"
                read.reference_id, read.reference_start = reference_id, start
                read.flag, read.cigarstring = (4, None) if reference_id < 0 else (0, "4M")
                file.write(read)
        result = run("index", tmp_path)
        assert result.exit_code == 1
        assert f"{path}: is not sorted by coordinate; run `samtools sort`" in result.output


class TestIndexOfFastaFiles:
    @pytest.fixture
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        if request.param == "a.fa":
            (tmp_path / "a.fa").write_bytes(fasta({"a": b"ACGT" * 40, "b": b"TT"}))
        else:
            write_compressed(tmp_path / "a.fa.gz", fasta({"a": b"ACGT" * 40, "b": b"TT"}))
        return tmp_path / str(request.param)

    @pytest.mark.parametrize(
        ("path", "suffixes"), [("a.fa", [".fai"]), ("a.fa.gz", [".fai", ".gzi"])], indirect=["path"]
    )
    def test_missing_indexes_are_reported_and_built(self, path: Path, suffixes: list[str]) -> None:
        result = run("check", path.parent)
        assert result.exit_code == 0
        missing = " and no ".join(suffixes)
        assert f"warning: has no {missing}, which igv.js and other programs need: run `htsget" in result.output
        content = path.read_bytes()
        assert "1 indexes built, 0 failed" in run("index", path.parent).output
        assert {file.name for file in path.parent.iterdir()} == {path.name, *(path.name + end for end in suffixes)}
        assert path.read_bytes() == content
        with pysam.FastaFile(str(path)) as fasta:
            assert fasta.fetch("a", 5, 9) == "CGTA"
        assert "0 indexes built, 0 failed" in run("index", path.parent).output
        assert "warning" not in run("check", path.parent).output

    @pytest.mark.parametrize("path", ["a.fa.gz"], indirect=True)
    def test_only_missing_indexes_are_built(self, path: Path) -> None:
        run("index", path.parent)
        index = Path(f"{path}.fai")
        before = index.stat()
        Path(f"{path}.gzi").unlink()
        assert "1 indexes built" in run("index", path.parent).output
        assert Path(f"{path}.gzi").exists()
        assert index.stat() == before

    @pytest.mark.parametrize("path", ["a.fa"], indirect=True)
    def test_an_index_that_cannot_be_built_is_a_warning(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, target: Path) -> None:
            raise PermissionError(13, "Permission denied", str(target))

        monkeypatch.setattr(Path, "replace", refuse)
        result = run("index", path.parent)
        assert result.exit_code == 0
        assert f"warning: {path}: no .fai can be built: Permission denied" in result.stderr
        assert list(path.parent.iterdir()) == [path]
        monkeypatch.undo()
        with monkeypatch.context() as patch:
            patch.setattr("os.access", lambda _, mode: mode != os.W_OK)
            result = run("index", path.parent)
            assert result.exit_code == 0
            assert f"warning: {path}: no .fai can be built: its folder cannot be written" in result.stderr
        path.write_bytes(b">a\nACGT\nAC\nACGT\n")
        result = run("index", path.parent)
        assert result.exit_code == 0
        assert "or has a sequence with lines of different lengths" in result.stderr
        assert "0 indexes built, 0 failed" in result.stdout
        assert list(path.parent.iterdir()) == [path]
