from pathlib import Path
from typing import Any

import pytest

from htsget_flask.config import read_config
from htsget_flask.sequences.fasta_index import write_index_file
from htsget_flask.services import create_services
from tests.support.cli import run
from tests.support.sequences import fasta

pytestmark = pytest.mark.slow


class TestRefget:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        """Five files, two of which are not FASTA."""
        content = {"a": b"no FASTA", "b": fasta({"b": b"ACGT"}), "c": b"", "d": b"x", "e": fasta({"e": b"TT"})}
        for name, text in content.items():
            (tmp_path / f"{name}.fa").write_bytes(text)
        return [tmp_path / f"{name}.fa" for name in content]

    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"storages: {{here: {{type: local, root: '{tmp_path}'}}}}\n"
            "datasets: [{prefix: '', storage: here}]\n"
            "refget: {fastas: [{storage: here, key: b.fa}]}\ncache: {folder: kept}\n"
        )
        return config

    @pytest.mark.parametrize("command", ["index", "ingest"])
    def test_one_failure_does_not_stop_the_others(
        self, command: str, paths: list[Path], config: Path, tmp_path: Path
    ) -> None:
        store = [tmp_path / "store"] if command == "ingest" else []
        result = run("refget", command, "--config", config, *paths, *store)
        assert result.exit_code == 1
        for path, count in zip(paths, (None, 1, 0, None, 1), strict=True):
            assert (f"{path}: {count} sequences" in result.stdout) == (count is not None)
            assert (f"{path}: this is not a FASTA file" in result.stderr) == (count is None)

    def test_saved_digests_are_not_computed_again(
        self, paths: list[Path], config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run("refget", "index", "--config", config, paths[1])
        monkeypatch.delattr("htsget_flask.commands.refget.build_index")
        assert run("refget", "index", "--config", config, paths[1]).stdout == first.stdout
        assert first.stdout == f"{paths[1]}: 1 sequences, digests in {paths[1]}.refget\n"

    def test_the_cache_folder_of_a_service_is_used(
        self, paths: list[Path], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, *arguments: Any, **options: Any) -> None:
            if path.parent == tmp_path:
                raise PermissionError(13, "denied", str(path))
            write_index_file(path, *arguments, **options)

        monkeypatch.setattr("htsget_flask.sequences.fasta_files.write_index_file", refuse)
        result = run("refget", "index", "--config", config, paths[1])
        assert f"digests in {tmp_path}/kept/refget/" in result.stdout
        monkeypatch.delattr("htsget_flask.sequences.sources.build_index")
        (report,) = create_services(read_config(config)).sequences.scan()
        assert report.sequences == 1
