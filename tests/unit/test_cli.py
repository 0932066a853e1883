import json
import os
import shutil
import time
import warnings
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pysam
import pytest
import yaml
from click.testing import CliRunner, Result

from htsget_flask.app import create_app
from htsget_flask.cli import main
from htsget_flask.commands.refget import ingest_fastas
from htsget_flask.config import folder_config, read_config
from htsget_flask.sequences.fasta_index import store_table
from htsget_flask.services import cap_url_lifetime, create_services
from tests.support import files
from tests.support.files import GOOD, NOT_BGZF, WITHOUT_INDEX
from tests.support.files import truncated as truncate
from tests.support.issuer import AUDIENCE, Issuer, Key
from tests.support.sequences import expected, fasta, write_compressed

pytestmark = pytest.mark.slow


def run(*arguments: object) -> Result:
    with warnings.catch_warnings():
        # htslib's own remarks on the bad files that these tests make.
        warnings.simplefilter("ignore")
        return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the example data that may be spoilt."""
    shutil.copytree(demo_folder, tmp_path / "data", copy_function=shutil.copy2)
    return tmp_path / "data"


class TestCheck:
    def test_sound_files(self, demo_folder: Path) -> None:
        result = run("check", demo_folder)
        assert result.exit_code == 0, result.output
        assert result.output.count("ok     /") == 4
        assert "ok     sequences of " in result.output
        assert "5 files, 0 of them cannot be served" in result.output
        assert "index NA00001.bam.bai" in result.output

    @pytest.mark.parametrize("name", ["bam_straddling", "cram_multi_slice", "vcf_mid_line_blocks", "bcf_sparse_idx"])
    def test_deep(self, name: str, tmp_path: Path) -> None:
        GOOD[name](tmp_path)
        result = run("check", "--deep", tmp_path)
        assert result.exit_code == 0, result.output
        assert "records compared" in result.output

    def test_deep_finds_what_is_not_delivered(self, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("htsget_flask.htsget.plan.merge_chunks", lambda *_, **__: [])
        result = run("check", "--deep", demo_folder)
        assert result.exit_code == 1
        assert "tickets do not hold" in result.output

    def test_each_fault_is_told_with_its_mending(self, folder: Path) -> None:
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
        files.bam_no_eof(tmp_path)
        result = run("check", tmp_path)
        assert result.exit_code == 0, result.output
        assert "warning: has no EOF marker" in result.output

    def test_what_is_passed_over_is_told(self, folder: Path, tmp_path: Path) -> None:
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
        leads_out = "leads out of the folder; serve the folder that it points into"
        told = result.output.splitlines()
        failed = {line: told[place + 1] for place, line in enumerate(told) if line.startswith("FAILED")}
        assert {line.removeprefix("FAILED ") for line in failed} == {
            str(folder / name) for name in ("new.vcf", "new.sam", "far.bam", "more")
        }
        assert "bgzip it, then index it" in failed[f"FAILED {folder}/new.vcf"]
        assert "convert it to BAM" in failed[f"FAILED {folder}/new.sam"]
        assert leads_out in failed[f"FAILED {folder}/far.bam"]
        assert leads_out in failed[f"FAILED {folder}/more"]
        assert "10 files, 4 of them cannot be served" in result.output

    def test_an_index_outweighs_the_sort_order_of_the_header(self, folder: Path) -> None:
        data = str(folder / "NA00001.bam")
        with pysam.AlignmentFile(data) as reads:
            header = reads.header.to_dict() | {"HD": {"VN": "1.6", "SO": "unsorted"}}
            with pysam.AlignmentFile(str(folder / "again.bam"), "wb", header=header) as copy:
                for read in reads.fetch():
                    copy.write(read)
        pysam.index(str(folder / "again.bam"), catch_stdout=False)
        result = run("check", "--deep", folder)
        assert result.exit_code == 0, result.output
        assert "ok     /reads/again BAM" in result.output
        assert "states the sort order unsorted, yet its index fits: it is served" in result.output
        with create_app(folder_config(folder)).test_client() as client:
            assert client.get("/reads/again?referenceName=chr1&start=0&end=20000").status_code == 200

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
        # The named dataset stands first, so that the prefix adds nothing to it: the BCF file is not served.
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

    def test_an_empty_folder_is_a_mistake(self, tmp_path: Path) -> None:
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


class TestIndex:
    @pytest.mark.parametrize("name", sorted(WITHOUT_INDEX))
    def test_what_is_missing_is_built(self, name: str, tmp_path: Path) -> None:
        path = WITHOUT_INDEX[name](tmp_path)
        assert run("check", tmp_path).exit_code == 1
        result = run("index", tmp_path)
        assert result.exit_code == 0, result.output
        assert files.index_of(path) is not None
        assert run("check", "--deep", tmp_path).exit_code == 0
        assert "0 indexes built" in run("index", tmp_path).output
        assert not list(tmp_path.glob(".*"))

    def test_links_that_others_put_there_are_not_followed(self, folder: Path, tmp_path: Path) -> None:
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

    def test_what_is_older_is_built_anew(self, folder: Path) -> None:
        modified = (folder / "NA00001.bam").stat().st_mtime
        os.utime(folder / "NA00001.bam.bai", (modified - 100, modified - 100))
        assert "1 indexes built" in run("index", folder).output
        assert run("check", folder).exit_code == 0

    @pytest.mark.parametrize("name", ["bam_long_contig", "vcf_long_contig", "bcf_long_contig", "bcf_sparse_idx"])
    def test_long_references_get_a_csi(self, name: str, tmp_path: Path) -> None:
        path = GOOD[name](tmp_path)
        index = files.index_of(path)
        assert index is not None
        index.unlink()
        assert run("index", tmp_path).exit_code == 0
        built = files.index_of(path)
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

    @pytest.mark.parametrize("places", [[(0, 500), (0, 400)], [(0, 5), (1, 5), (0, 9)], [(-1, -1), (0, 5)]])
    def test_an_unsorted_file_is_to_be_sorted(self, tmp_path: Path, places: list[tuple[int, int]]) -> None:
        header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": 10_000} for name in ("chr1", "chr2")]}
        path = tmp_path / "a.bam"
        with pysam.AlignmentFile(str(path), "wb", header=header) as file:
            for place, (reference_id, start) in enumerate(places):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.query_sequence = f"r{place}", "ACGT"
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
    def test_what_is_missing_is_told_and_built(self, path: Path, suffixes: list[str]) -> None:
        result = run("check", path.parent)
        assert result.exit_code == 0
        lacking = " and no ".join(suffixes)
        assert f"warning: has no {lacking}, which igv.js and other programs need: run `htsget" in result.output
        content = path.read_bytes()
        assert "1 indexes built, 0 failed" in run("index", path.parent).output
        assert {file.name for file in path.parent.iterdir()} == {path.name, *(path.name + end for end in suffixes)}
        assert path.read_bytes() == content
        with pysam.FastaFile(str(path)) as found:
            assert found.fetch("a", 5, 9) == "CGTA"
        assert "0 indexes built, 0 failed" in run("index", path.parent).output
        assert "warning" not in run("check", path.parent).output

    @pytest.mark.parametrize("path", ["a.fa.gz"], indirect=True)
    def test_only_what_is_missing(self, path: Path) -> None:
        run("index", path.parent)
        index = Path(f"{path}.fai")
        before = index.stat()
        Path(f"{path}.gzi").unlink()
        assert "1 indexes built" in run("index", path.parent).output
        assert Path(f"{path}.gzi").exists()
        assert index.stat() == before

    @pytest.mark.parametrize("path", ["a.fa"], indirect=True)
    def test_what_cannot_be_built_is_no_failure(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refusing(path: Path, target: Path) -> None:
            raise PermissionError(13, "Permission denied", str(target))

        monkeypatch.setattr(Path, "replace", refusing)
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
        assert "or a sequence has lines of different lengths" in result.stderr
        assert "0 indexes built, 0 failed" in result.stdout
        assert list(path.parent.iterdir()) == [path]


class TestRefget:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        """FASTA files, some of them no FASTA files."""
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

    def test_digests_that_are_kept_are_not_computed_again(
        self, paths: list[Path], config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run("refget", "index", "--config", config, paths[1])
        monkeypatch.delattr("htsget_flask.commands.refget.make_table")
        assert run("refget", "index", "--config", config, paths[1]).stdout == first.stdout
        assert first.stdout == f"{paths[1]}: 1 sequences, digests in {paths[1]}.refget\n"

    def test_the_cache_folder_of_a_service_is_used(
        self, paths: list[Path], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refusing(path: Path, *arguments: Any, **options: Any) -> None:
            if path.parent == tmp_path:
                raise PermissionError(13, "denied", str(path))
            store_table(path, *arguments, **options)

        monkeypatch.setattr("htsget_flask.sequences.fasta_files.store_table", refusing)
        result = run("refget", "index", "--config", config, paths[1])
        assert f"digests in {tmp_path}/kept/refget/" in result.stdout
        monkeypatch.delattr("htsget_flask.sequences.library.make_table")
        (known,) = create_services(read_config(config)).sequences.look()
        assert known.sequences == 1


class TestCheckOfAStore:
    """A configuration that has nothing else."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT", "b": b"TT", "c": b""}))
        store = tmp_path / "store"
        list(ingest_fastas([path], store, tmp_path / "cache", lambda *_: nullcontext(lambda _: None)))
        return store

    def check(self, store: Path) -> Result:
        config = store.with_suffix(".yaml")
        config.write_text(
            f"storages: {{here: {{type: local, root: '{store}'}}}}\ndatasets: [{{prefix: '', storage: here}}]\n"
            "refget: {store: {storage: here}}\ncache: {folder: cache}\n"
        )
        return run("check", "--config", config)

    def test_that_is_sound(self, store: Path) -> None:
        result = self.check(store)
        assert (result.exit_code, result.output.splitlines()[0]) == (0, f"ok     sequences of {store}/ (3)")

    @pytest.mark.parametrize("content", [None, b"ACG"])
    def test_whose_files_are_not_whole(self, store: Path, content: bytes | None) -> None:
        md5 = expected(b"ACGT").md5
        file = store / md5[:2] / md5[2:4] / md5[4:]
        file.unlink() if content is None else file.write_bytes(content)
        result = self.check(store)
        assert result.exit_code == 1
        assert result.output.splitlines()[:2] == [
            f"FAILED sequences of {store}/ (3)",
            f"       error: sequences of its list are not there, or not whole: {md5} [{store}/]",
        ]

    def test_that_is_not_there(self, store: Path) -> None:
        (store / "refget.tsv").unlink()
        result = self.check(store)
        assert result.exit_code == 1
        assert f"error: cannot be read: it is not there [{store}/refget.tsv]" in result.output


class TestDemo:
    def test_says_where_it_is(self, demo_folder: Path) -> None:
        result = run("demo", demo_folder)
        assert result.exit_code == 0
        assert str(demo_folder) in result.output


class TestServe:
    @pytest.mark.parametrize("is_link", [False, True])
    def test_no_private_key_lies_where_it_can_be_fetched(self, folder: Path, tmp_path: Path, is_link: bool) -> None:
        key, certificate = folder / "key.pem", folder / "cert.pem"
        key.write_text("a private key")
        certificate.write_text("a certificate")
        if is_link:
            (tmp_path / "link.pem").symlink_to(key)
            key = tmp_path / "link.pem"
        result = run("serve", folder, "--certfile", certificate, "--keyfile", key)
        assert result.exit_code == 1
        assert f"files.storages[0]: {key} lies in this storage, and could be fetched" in result.output


class TestHelp:
    def test_names_every_command(self) -> None:
        output = run("--help").output
        assert all(command in output for command in ("serve", "check", "index", "demo"))
        assert "0.1.0" in run("--version").output


class TestCheckAs:
    @pytest.fixture
    def issuer(self) -> Issuer:
        return Issuer(keys=[Key("one", "ES256")])

    @pytest.fixture
    def config(self, demo_folder: Path, issuer: Issuer, tmp_path: Path) -> Path:
        (tmp_path / "jwks.json").write_text(json.dumps(issuer.jwks))
        content = {
            "storages": {"data": {"type": "local", "root": str(demo_folder)}},
            "datasets": [{"prefix": "", "storage": "data"}],
            "auth": {
                "secrets": ["a-secret-of-tests-0123456789"],
                "audit": "audit.log",
                "issuers": [{"issuer": issuer.url, "audience": AUDIENCE, "jwks": "jwks.json"}],
                "rules": [
                    {"ids": ["open"], "public": True},
                    {"ids": ["NA*"], "regions": [{"reference": "chr1", "start": 1000, "end": 2000}]},
                ],
            },
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def test_explains_the_decision(self, config: Path, issuer: Issuer) -> None:
        token = issuer.token("ES256")
        result = run("check", "--config", config, "--as", token, "NA00001", "chr1:1,001-1,500")
        assert result.exit_code == 0, result.output
        assert result.output.splitlines() == [
            f"ada of {issuer.url}",
            "asked for chr1:1000-1500 (from 0, half-open)",
            "allowed /reads/NA00001: rules[1], limited to chr1:1000-2000 (from 0, half-open)",
            "allowed /variants/NA00001: rules[1], limited to chr1:1000-2000 (from 0, half-open)",
            "denied  /files/NA00001: rules[1], which is limited to regions: only records can be filtered",
            "denied  /sequence/NA00001: rules[1], which is limited to regions: only records can be filtered",
        ]
        result = run("check", "--config", config, "--as", token, "NA00001", "chr2")
        assert result.exit_code == 1
        assert "denied  /reads/NA00001: rules[1], which is limited to other regions" in result.output
        result = run("check", "--config", config, "--as", token, "other")
        assert (result.exit_code, result.output.count("no rule matches")) == (1, 4)

    def test_the_exit_code_is_about_the_dataset(self, config: Path, issuer: Issuer) -> None:
        content = yaml.safe_load(config.read_text())
        others = {"ids": ["*"], "endpoints": ["sequence", "files", "variants"], "public": True}
        content["auth"]["rules"] += [others, {"ids": ["cohort"]}]
        config.write_text(yaml.safe_dump(content))
        for dataset_id, is_open in (("NA00001", False), ("cohort", True), ("open", True), ("none", True)):
            result = run("check", "--config", config, "--as", "", dataset_id)
            assert "allowed /sequence/" in result.output
            assert ("warning: there is no dataset 'none' " in result.output) == (dataset_id == "none")
            assert result.exit_code == int(not is_open), result.output
        content["auth"]["rules"][-2]["endpoints"] = ["sequence", "files"]
        config.write_text(yaml.safe_dump(content))
        assert run("check", "--config", config, "--as", "", "none").exit_code == 1

    def test_many_granted_regions_are_counted(self, config: Path, issuer: Issuer) -> None:
        content = yaml.safe_load(config.read_text())
        regions = [{"reference": "chr1", "start": start, "end": start + 5} for start in range(0, 500, 10)]
        content["auth"]["rules"] = [{"ids": ["*"], "regions": regions}]
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config, "--as", issuer.token("ES256"), "NA00001")
        assert "chr1:190-195 and 30 more (from 0, half-open)" in result.output

    @pytest.mark.parametrize("has_header", [True, False])
    def test_a_name_may_end_as_positions_do(
        self, config: Path, issuer: Issuer, tmp_path: Path, has_header: bool
    ) -> None:
        name = "HLA-A*01:01:01:01"
        data = tmp_path / "hla"
        data.mkdir()
        if has_header:
            header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": name, "LN": 1000}]}
            with pysam.AlignmentFile(str(data / "typed.bam"), "wb", header=header):
                pass
        content = yaml.safe_load(config.read_text())
        content["storages"]["data"]["root"] = str(data)
        # What is granted, or what the header names: either tells.
        granted = name if not has_header else "other"
        content["auth"]["rules"] = [{"ids": ["*"], "regions": [{"reference": granted, "start": 0, "end": 500}]}]
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config, "--as", issuer.token("ES256"), "typed", name)
        assert f"asked for {name}:0- (from 0, half-open)\n" in result.output
        assert result.exit_code == int(has_header)
        result = run("check", "--config", config, "--as", issuer.token("ES256"), "typed", f"{name}:1-100")
        assert f"asked for {name}:0-100 (from 0, half-open)\n" in result.output
        if has_header:
            result = run("check", "--config", config, "--as", issuer.token("ES256"), "typed", "HLA-B*07:02")
            assert "asked for HLA-B*07:1- (from 0, half-open)\n" in result.output

    def test_without_a_token_and_with_bad_ones(self, config: Path, issuer: Issuer) -> None:
        result = run("check", "--config", config, "--as", "", "open")
        assert result.exit_code == 0 and result.output.startswith("nobody: there is no token\nallowed /reads/open")
        result = run("check", "--config", config, "--as", issuer.token("ES256", exp=1), "open")
        assert (result.exit_code, result.output) == (1, "Error: the token has expired\n")

    def test_a_token_from_the_standard_input(self, config: Path, issuer: Issuer) -> None:
        arguments = ["check", "--config", str(config), "--as", "-", "NA1"]
        result = CliRunner().invoke(main, arguments, input=issuer.token("ES256") + "\n")
        assert result.output.startswith("ada of ")

    def test_what_is_no_question(self, config: Path, demo_folder: Path) -> None:
        assert run("check", "--as", "x", "NA1").exit_code == 2
        assert run("check", "--config", config, "--as", "x").exit_code == 2
        assert run("check", demo_folder, demo_folder).exit_code == 2
        assert run("check", demo_folder / "none").exit_code == 2
        assert run("check", "--config", config, "--as", "", "NA1", "chr1:0-5").exit_code == 1

    def test_a_file_that_has_two_ids_is_open_by_each(self, config: Path, demo_folder: Path) -> None:
        content = yaml.safe_load(config.read_text())
        links = config.parent / "links"
        links.mkdir()
        for suffix in (".bam", ".bam.bai"):
            shutil.copy2(demo_folder / f"NA00001{suffix}", links / f"one{suffix}")
            (links / f"other{suffix}").hardlink_to(links / f"one{suffix}")
        content["storages"]["links"] = {"type": "local", "root": "links"}
        trio = {"id": "trio", "variants": {"VCF": {"storage": "data", "key": "cohort.vcf.gz"}}}
        content["datasets"] = [{"prefix": "lab/", "storage": "data"}, trio, {"prefix": "", "storage": "links"}]
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config)
        assert result.output.count(" too: a rule for either id opens it") == 2
        assert "ok     /variants/trio VCF" in result.output
        assert "warning: is the dataset 'lab/cohort' too" in result.output
        assert "warning: is the dataset 'one' too" in result.output
        assert result.exit_code == 0
        del content["auth"]
        config.write_text(yaml.safe_dump(content))
        assert " too: a rule" not in run("check", "--config", config).output

    def test_remarks_on_the_configuration(self, config: Path) -> None:
        content = yaml.safe_load(config.read_text())
        content["auth"]["issuers"][0]["userinfo"] = "http://login.example.org/userinfo"
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config)
        assert result.exit_code == 0
        assert result.output.startswith("warning: auth.issuers[0].userinfo: http://login.example.org/userinfo is not")

    def test_the_data_are_looked_at_as_ever(self, config: Path) -> None:
        result = run("check", "--deep", "--config", config)
        assert result.exit_code == 0 and "records compared" in result.output
        assert not (config.parent / "audit.log").exists()


def test_signed_urls_of_storages_live_no_longer_than_ones_of_this_server(demo_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    storage = f"{{type: local, root: '{demo_folder}', url: 'https://a.example/', secret: a-secret-0123456789}}"
    s3 = "{type: s3, bucket: some-bucket, region: eu-west-1, expires: 90000}"
    auth = "{secrets: [a-secret-0123456789], expires: 600, rules: [{ids: ['*'], public: true}]}"
    common = f"storages: {{data: {storage}, far: {s3}}}\ndatasets: [{{prefix: '', storage: data}}]\n"
    path.write_text(common)
    assert _lifetimes(path) == (86_400, 90_000)
    path.write_text(f"{common}auth: {auth}\n")
    assert _lifetimes(path) == (600, 600)


def _lifetimes(path: Path) -> tuple[int, int]:
    """For how long URLs of both storages are good."""
    config = read_config(path)
    storages = create_services(config).storages
    now = time.time()
    signed = storages["data"].signed_url("NA00001.bam", storages["data"].stat("NA00001.bam"))
    assert signed is not None
    expires = int(signed.url.rpartition("expires=")[2])
    longest = None if config.auth is None else config.auth.expires
    return 10 * round((expires - now) / 10), cap_url_lifetime(config.storages["far"], longest).expires
