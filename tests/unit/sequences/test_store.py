import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.errors import FileFaultError, ServiceUnavailable
from htsget_flask.sequences.lookup import SequenceStore
from htsget_flask.sequences.store import parse_store
from htsget_flask.storage.local import LocalStorage
from tests.support.sequences import expected, fasta, library_of, run_ingest, some_letters


class TestAStore:
    @pytest.fixture
    def path(self, folder: Path) -> Path:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": some_letters("a", 100_000), "b": b"ac-g*t", "c": b"", "twice": b"ACGT"}))
        return path

    def ingest(self, path: Path, store: Path) -> tuple[int, int]:
        cache = path.parent.parent / "cache"
        return run_ingest(path, store, cache)

    def test_each_sequence_once(self, path: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        assert self.ingest(path, store) == (3, 4)
        content = {file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()}
        list_of_sequences = content.pop("refget.tsv").decode()
        right = {expected(text) for text in (some_letters("a", 100_000), b"ACGT", b"")}
        assert content == {f"{one.md5[:2]}/{one.md5[2:4]}/{one.md5[4:]}": one.letters for one in right}
        assert sorted(list_of_sequences.splitlines()) == sorted(
            f"{one.md5}\t{one.trunc512}\t{len(one.letters)}" for one in right
        )
        assert self.ingest(path, store) == (0, 4)
        assert (store / "refget.tsv").read_text() == list_of_sequences

    def test_an_interrupted_run_is_resumed(self, path: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        self.ingest(path, store)
        list_of_sequences = (store / "refget.tsv").read_bytes()
        md5 = expected(b"ACGT").md5
        file = store / md5[:2] / md5[2:4] / md5[4:]
        file.write_bytes(b"AC")
        (store / "refget.tsv").write_bytes(list_of_sequences[:70])
        assert self.ingest(path, store) == (1, 4)
        assert file.read_bytes() == b"ACGT"
        parsed_store = parse_store(LocalStorage(store), "", (store / "refget.tsv").read_bytes())
        assert sorted(row.tobytes().hex() for row in parsed_store.md5) == sorted(
            expected(text).md5 for text in (some_letters("a", 100_000), b"ACGT", b"")
        )

    def test_a_file_appears_whole_or_not_at_all(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> Iterator[bytes]:
            yield b"AC"
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("htsget_flask.sequences.lookup.read_letters", fail)
        with pytest.raises(OSError, match="No space"):
            self.ingest(path, tmp_path / "store")
        assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []

    def test_no_file_has_a_wrong_digest(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("htsget_flask.sequences.lookup.read_letters", lambda *_: iter([b"AC"]))
        with pytest.raises(FileFaultError, match="was changed while it was read"):
            self.ingest(path, tmp_path / "store")
        assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []

    def test_has_precedence_over_a_fasta_file(self, path: Path, folder: Path) -> None:
        self.ingest(path, folder / "store")
        sequences = library_of(
            folder,
            store={"storage": "data", "prefix": "store/"},
            fastas=[{"storage": "data", "key": "a.fa", "circular": ["twice"], "namespace": "lab"}],
        )
        match = sequences.find("lab:b")
        assert isinstance(match.source, SequenceStore)
        assert match.is_circular
        assert match.aliases == ("lab:b", "lab:twice")
        assert match.digests.md5 == hashlib.md5(b"ACGT", usedforsecurity=False).digest()

    def test_without_its_list_is_not_a_miss(self, folder: Path) -> None:
        with pytest.raises(ServiceUnavailable):
            library_of(folder, fastas=[], store={"storage": "data"}).find(expected(b"A").md5)
