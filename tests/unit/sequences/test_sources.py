import gzip
import os
import stat
from pathlib import Path
from typing import Any

import pysam
import pytest

from htsget_flask.config import RefgetConfig
from htsget_flask.errors import NotFound
from htsget_flask.sequences import sources
from htsget_flask.sequences.fasta_files import build_index
from htsget_flask.sequences.fasta_index import SUFFIX, FastaIndex, write_index_file
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.lookup import FastaFile
from htsget_flask.storage.local import LocalStorage
from tests.support.sequences import expected, fasta, faults_of, library_of, run_index, write_compressed


class TestDigestsAreComputedOnce:
    @pytest.fixture
    def scans(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The files that were read completely."""
        scanned: list[str] = []

        def build_and_note(storage: LocalStorage, key: str, *arguments: Any, **options: Any) -> FastaIndex:
            scanned.append(key)
            return build_index(storage, key, *arguments, **options)

        monkeypatch.setattr(sources, "build_index", build_and_note)
        return scanned

    def test_and_shared_by_workers(self, folder: Path, scans: list[str]) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        md5 = expected(b"ACGT").md5
        for _ in range(2):
            sequences = library_of(folder)
            sequences.scan()
            sequences.scan()
            assert sequences.find(md5).length == 4
        assert scans == ["a.fa"]

    @pytest.mark.parametrize("suffix", [".fa", ".fa.gz"])
    def test_and_saved_next_to_the_file_by_the_command(self, folder: Path, scans: list[str], suffix: str) -> None:
        path = folder / f"a{suffix}"
        write_compressed(path, fasta({"a": b"ACGT"})) if suffix == ".fa.gz" else path.write_bytes(fasta({"a": b"ACGT"}))
        assert run_index(path, folder.parent / "other") == Path(f"{path}{SUFFIX}")
        library_of(folder).scan()
        assert scans == []

    def test_and_saved_in_the_cache_folder_if_the_file_is_read_only(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, scans: list[str]
    ) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))

        def refuse(path: Path, *arguments: Any, **options: Any) -> None:
            if path.parent == folder:
                raise PermissionError(13, "denied", str(path))
            write_index_file(path, *arguments, **options)

        monkeypatch.setattr("htsget_flask.sequences.fasta_files.write_index_file", refuse)
        saved = run_index(folder / "a.fa", folder.parent / "cache")
        assert saved is not None
        assert folder.parent / "cache" in saved.parents
        library_of(folder).scan()
        assert scans == []

    @pytest.fixture
    def false_digests(self, folder: Path) -> Path:
        """Digests next to a FASTA file that claim another file's sequence."""
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"TTTT"}))
        (folder / "b.fa").write_bytes(fasta({"b": b"ACGT"}))
        other = folder.parent / "other.fa"
        other.write_bytes(fasta({"a": b"ACGT"}))
        elsewhere, saved = LocalStorage(folder.parent), Path(f"{path}{SUFFIX}")
        index = build_index(elsewhere, "other.fa", elsewhere.stat("other.fa"))
        write_index_file(saved, LocalStorage(folder).stat("a.fa"), index)
        return saved

    @staticmethod
    def source(folder: Path, letters: bytes) -> str:
        """The file that a sequence is found in."""
        sequences = library_of(folder)
        sequences.scan()
        source = sequences.find(expected(letters).md5).source
        assert isinstance(source, FastaFile)
        return source.key

    def names_the_right_files(self, folder: Path) -> bool:
        """Whether each sequence is found in its own file."""
        return [self.source(folder, letters) for letters in (b"TTTT", b"ACGT")] == ["a.fa", "b.fa"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, as only root may")
    def test_saved_ones_of_another_user_are_not_used(self, folder: Path, false_digests: Path, scans: list[str]) -> None:
        os.chown(false_digests, 65_534, 65_534)
        assert self.names_the_right_files(folder)
        assert scans == ["a.fa", "b.fa"]
        fault = f"its {SUFFIX} is not used: another user may have written it"
        assert faults_of(library_of(folder)) == [fault]

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_saved_ones_that_others_may_write_are_not_used(self, folder: Path, false_digests: Path, mode: int) -> None:
        assert self.source(folder, b"ACGT") == "a.fa"
        false_digests.chmod(mode)
        assert self.names_the_right_files(folder)

    def test_saved_ones_that_a_link_leads_to_are_not_used(self, folder: Path, false_digests: Path) -> None:
        false_digests.symlink_to(false_digests.rename(folder.parent / "elsewhere"))
        assert self.names_the_right_files(folder)

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
    def test_saved_ones_have_the_mode_of_the_file(self, folder: Path, mode: int) -> None:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT"}))
        path.chmod(mode)
        saved = run_index(path, folder.parent / "cache")
        assert saved is not None
        assert stat.S_IMODE(saved.stat().st_mode) == mode

    def test_a_link_instead_of_saved_ones_is_not_followed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        secret = folder.parent / "secret"
        secret.touch(mode=0o600)
        replace = Path.replace

        def replace_and_link(path: Path, target: Path) -> Path:
            path_of_link = replace(path, target)
            path_of_link.unlink()
            path_of_link.symlink_to(secret)
            return path_of_link

        monkeypatch.setattr(Path, "replace", replace_and_link)
        run_index(folder / "a.fa", folder.parent / "cache")
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600

    def test_and_kept_in_memory_without_a_cache_folder(self, folder: Path, scans: list[str]) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        config = RefgetConfig.model_validate({"fastas": [{"storage": "data", "prefix": ""}]})
        sequences = Library(config, {"data": LocalStorage(folder)}, None)
        assert sequences.find(expected(b"ACGT").md5).length == 4
        sequences.scan()
        assert scans == ["a.fa"]

    def test_and_kept_in_memory_if_the_cache_folder_is_not_a_folder(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        (folder.parent / "cache").write_bytes(b"no folder")
        assert library_of(folder).find(expected(b"ACGT").md5).length == 4

    def test_again_if_the_file_or_the_saved_ones_change(self, folder: Path, scans: list[str]) -> None:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT"}))
        run_index(path, folder.parent / "cache")
        path.write_bytes(fasta({"a": b"TTTT"}))
        sequences = library_of(folder)
        assert sequences.find(expected(b"TTTT").md5).length == 4
        assert scans == ["a.fa"]
        with pytest.raises(NotFound):
            sequences.find(expected(b"ACGT").md5)
        (saved,) = (folder.parent / "cache" / "refget").iterdir()
        saved.write_bytes(saved.read_bytes()[:-1] + b"x")
        library_of(folder).scan()
        assert scans == ["a.fa", "a.fa"]


class TestFaultsAreReported:
    @pytest.fixture
    def path(self, folder: Path) -> Path:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT" * 40, "b": b"GG" * 40}))
        pysam.faidx(str(path))
        return path

    def test_a_sound_file_has_none(self, path: Path, folder: Path) -> None:
        assert faults_of(library_of(folder)) == []

    @pytest.mark.parametrize(
        ("index", "fault"),
        [
            (b"a\t160\tx\t60\t61\n", "its .fai is malformed"),
            (b"a\t160\t3\n", "its .fai is malformed"),
            (b"a\t160\t3\t60\t61\nb\t80\t169\t60\t6", "its .fai is malformed"),
            (b"a\t160\t3\t60\t61\n", "its .fai belongs to another file: it names other sequences"),
            (b"a\t160\t3\t60\t61\nc\t80\t169\t60\t61\n", "its .fai belongs to another file: it names other sequences"),
            (b"a\t160\t3\t60\t61\nb\t80\t170\t60\t61\n", "its .fai belongs to another file: b has another position"),
            (b"a\t100\t3\t60\t61\nb\t80\t169\t60\t61\n", "its .fai belongs to another file: a has another position"),
            (
                b"a\t160\t3\t50\t51\nb\t80\t169\t60\t61\n",
                "its .fai belongs to another file: a has lines of another length",
            ),
        ],
    )
    def test_a_fai_that_does_not_fit(self, path: Path, folder: Path, index: bytes, fault: str) -> None:
        Path(f"{path}.fai").write_bytes(index)
        sequences = library_of(folder)
        assert faults_of(sequences) == [f"{fault}; remove it, then run `samtools faidx`"]
        assert sequences.has(expected(b"ACGT" * 40).md5), "this server does not need it"

    def test_a_duplicate_name(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta([("a", b"ACGT"), ("b", b"TT"), ("a", b"GG")]))
        sequences = library_of(folder)
        assert faults_of(sequences) == ["has several sequences of the same name: a"]
        assert all(sequences.has(expected(text).md5) for text in (b"ACGT", b"TT", b"GG"))

    @pytest.mark.parametrize(
        ("name", "content", "fault"),
        [
            ("b.fa", b"not FASTA", "this is not a FASTA file: it does not start with '>'"),
            (
                "b.fa.gz",
                gzip.compress(b">a\nACGT\n", mtime=0),
                "is compressed, but not with bgzip, or it is damaged",
            ),
            ("b.fa", b"", "has no sequence"),
        ],
    )
    def test_the_rest_is_served(self, path: Path, folder: Path, name: str, content: bytes, fault: str) -> None:
        (folder / name).write_bytes(content)
        sequences = library_of(folder)
        (reported,) = faults_of(sequences)
        assert reported.endswith(fault)
        assert sequences.has(expected(b"ACGT" * 40).md5)
        with pytest.raises(NotFound):
            sequences.find(expected(b"not FASTA").md5)

    def test_a_name_that_the_file_does_not_have(self, path: Path, folder: Path) -> None:
        sequences = library_of(folder, fastas=[{"storage": "data", "key": "a.fa", "circular": ["a", "chrM"]}])
        assert faults_of(sequences) == ["has no sequence chrM, which the configuration names"]
        assert sequences.find(expected(b"ACGT" * 40).md5).is_circular

    def test_a_name_that_no_file_of_a_prefix_has(self, path: Path, folder: Path) -> None:
        (folder / "other.fa").write_bytes(fasta({"c": b"TT"}))
        entry = {"storage": "data", "prefix": "", "circular": ["a", "chrM"], "aliases": {"c": ["x:1"], "chrX": ["x:2"]}}
        sequences = library_of(folder, fastas=[entry])
        for _ in range(2):
            assert faults_of(sequences) == ["no file has a sequence chrM, chrX, which the configuration names"]
        assert sequences.has("x:1")
        (folder / "broken.fa").write_bytes(b"x")
        (reported,) = faults_of(sequences)
        assert "not a FASTA file" in reported, "the names may be in it"

    def test_they_are_logged_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / "a.fa").write_bytes(b"x")
        sequences = library_of(folder)
        for _ in range(2):
            scan = sequences.start_scan(immediately=True)
            assert scan is not None
            scan.join()
        assert [record.message for record in caplog.records] == [
            f"{folder}/a.fa: this is not a FASTA file: it does not start with '>'"
        ]
