import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.errors import NotFound, ServiceUnavailable
from htsget_flask.sequences import library, sources
from htsget_flask.sequences.fasta_files import build_index
from htsget_flask.sequences.fasta_index import FastaIndex
from htsget_flask.sequences.sources import Sources
from htsget_flask.storage.local import LocalStorage
from tests.support.sequences import expected, fasta, faults_of, library_of, run_index, some_letters


class TestAFailureIsNotAMiss:
    ABSENT = expected(b"ABSENT").md5

    def test_digests_that_are_still_computed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        run_index(folder / "a.fa", folder.parent / "cache")
        (folder / "b.fa").write_bytes(fasta({"b": b"GGGG"}))
        proceed = threading.Event()

        def build_slowly(*arguments: Any, **options: Any) -> FastaIndex:
            assert proceed.wait(20)
            return build_index(*arguments, **options)

        monkeypatch.setattr(sources, "build_index", build_slowly)
        monkeypatch.setattr(library, "_LOOKUP_TIMEOUT", 0.3)
        sequences = library_of(folder)
        try:
            with pytest.raises(ServiceUnavailable):
                sequences.find(expected(b"GGGG").md5)
            assert sequences.find(expected(b"ACGT").md5).length == 4, "known ones are served meanwhile"
            with pytest.raises(ServiceUnavailable):
                sequences.find(self.ABSENT)
            with pytest.raises(NotFound):
                sequences.find("not an identifier")
        finally:
            proceed.set()
        scan = sequences.start_scan(immediately=True)
        assert scan is not None
        scan.join(20)
        assert sequences.find(expected(b"GGGG").md5).length == 4
        with pytest.raises(NotFound):
            sequences.find(self.ABSENT)

    def test_a_file_that_cannot_be_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        (folder / "b.fa").write_bytes(fasta({"b": b"GGGG"}))
        read = LocalStorage.open

        def fail(self: LocalStorage, key: str, **options: Any) -> Any:
            if key == "b.fa":
                raise OSError(5, "Input/output error")
            return read(self, key, **options)

        monkeypatch.setattr(LocalStorage, "open", fail)
        sequences = library_of(folder)
        assert sequences.find(expected(b"ACGT").md5).length == 4
        with pytest.raises(ServiceUnavailable):
            sequences.find(self.ABSENT)
        assert faults_of(sequences) == ["cannot be read: Input/output error"]

    def test_a_configured_file_that_does_not_exist(self, folder: Path) -> None:
        sequences = library_of(folder, fastas=[{"storage": "data", "key": "gone.fa"}])
        with pytest.raises(ServiceUnavailable):
            sequences.find(self.ABSENT)
        assert faults_of(sequences) == ["cannot be read: it does not exist"]

    def test_an_unknown_digest_reads_no_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        sequences = library_of(folder)
        sequences.scan()
        for name in ("stat", "open", "entries"):
            monkeypatch.setattr(LocalStorage, name, None)
        with pytest.raises(NotFound):
            sequences.find(self.ABSENT)

    def test_a_new_file_is_found(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_MIN_SCAN_INTERVAL", 0.0)
        monkeypatch.setattr(library, "_MAX_SCAN_SHARE", 1e9)
        sequences = library_of(folder)
        with pytest.raises(NotFound):
            sequences.find(expected(b"ACGT").md5)
        generation = sequences.generation
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        assert sequences.find(expected(b"ACGT").md5).length == 4
        assert sequences.generation > generation
        generation = sequences.generation
        sequences.scan()
        assert sequences.generation == generation

    @pytest.mark.slow
    def test_workers_digest_a_file_once(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": some_letters("many", 3_000_000)}))
        command = [sys.executable, "-c", WORKER, str(folder)]
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) for _ in range(3)]
        assert sorted(worker.communicate(timeout=60)[0] for worker in workers) == [b"0\n", b"0\n", b"1\n"]


WORKER = """
import sys
from pathlib import Path
from htsget_flask.sequences import sources
from tests.support.sequences import library_of
scans, build_index = [], sources.build_index
sources.build_index = lambda *args, **options: (scans.append(args), build_index(*args, **options))[1]
library_of(Path(sys.argv[1])).scan()
print(len(scans))
"""


class TestTheServerDoesNotWait:
    def test_no_file_is_read_before_the_first_request(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        threads = threading.active_count()
        library_of(folder)
        assert threading.active_count() == threads
        assert not (folder.parent / "cache").exists()

    def test_misses_do_not_scan_again_and_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scans: list[None] = []

        def note(*_: object) -> Iterator[None]:
            scans.append(None)
            return iter(())

        monkeypatch.setattr(Sources, "list_fastas", note)
        sequences = library_of(folder)
        for _ in range(50):
            with pytest.raises(NotFound):
                sequences.find(expected(b"A").md5)
        assert len(scans) == 1
