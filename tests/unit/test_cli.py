import json
import os
import shutil
import time
import warnings
from pathlib import Path

import pysam
import pytest
import yaml
from click.testing import CliRunner, Result

from htsget_flask.app import create_services, limited
from htsget_flask.cli import main
from htsget_flask.config import read_config
from tests import files
from tests.files import GOOD, NOT_BGZF, WITHOUT_INDEX
from tests.files import truncated as truncate
from tests.issuer import AUDIENCE, Issuer, Key


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
            "denied  /files/NA00001: rules[1], which is limited to regions: a file cannot be cut",
            "denied  /sequence/NA00001: rules[1], which is limited to regions: a file cannot be cut",
        ]
        result = run("check", "--config", config, "--as", token, "NA00001", "chr2")
        assert result.exit_code == 1
        assert "denied  /reads/NA00001: rules[1], which is limited to other regions" in result.output
        result = run("check", "--config", config, "--as", token, "other")
        assert (result.exit_code, result.output.count("no rule matches")) == (1, 4)

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
    return 10 * round((expires - now) / 10), limited(config.storages["far"], longest).expires
