import json
import shutil
from pathlib import Path

import pysam
import pytest
import yaml
from click.testing import CliRunner

from htsget_flask.cli import main
from htsget_flask.fields import FIELDS
from tests.support.cli import run
from tests.support.issuer import AUDIENCE, Issuer, Key

pytestmark = pytest.mark.slow


class TestExplainAccess:
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
            "requested: chr1:1000-1500 (0-based, half-open)",
            "allowed /reads/NA00001: rules[1], limited to chr1:1000-2000 (0-based, half-open)",
            "allowed /variants/NA00001: rules[1], limited to chr1:1000-2000 (0-based, half-open)",
            "denied  /files/NA00001: rules[1], which is limited to regions: only records can be filtered",
            "denied  /sequence/NA00001: rules[1], which is limited to regions: only records can be filtered",
        ]
        result = run("check", "--config", config, "--as", token, "NA00001", "chr2")
        assert result.exit_code == 1
        assert "denied  /reads/NA00001: rules[1], which is limited to other regions" in result.output
        result = run("check", "--config", config, "--as", token, "other")
        assert (result.exit_code, result.output.count("no rule matches")) == (1, 4)

    @pytest.mark.parametrize(
        ("limits", "text"),
        [
            ({"fields": []}, "fields FLAG RNAME POS MAPQ CIGAR, no tags"),
            (
                {"fields": ["QNAME", "SEQ"], "tags": ["RG", "NM"]},
                "fields QNAME FLAG RNAME POS MAPQ CIGAR SEQ, tags NM RG",
            ),
            ({"notags": ["OQ", "MD"]}, f"fields {' '.join(FIELDS)}, all tags but MD OQ"),
            ({"fields": ["TLEN"], "notags": []}, "fields FLAG RNAME POS MAPQ CIGAR TLEN, all tags"),
        ],
        ids=str,
    )
    def test_names_the_fields(self, config: Path, issuer: Issuer, limits: dict[str, list[str]], text: str) -> None:
        content = yaml.safe_load(config.read_text())
        content["auth"]["rules"] = [{"ids": ["NA*"], "endpoints": ["reads"], **limits}]
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config, "--as", issuer.token("ES256"), "NA00002")
        assert result.output.splitlines()[1:3] == [
            f"allowed /reads/NA00002: rules[0], {text}",
            "denied  /variants/NA00002: no rule matches",
        ]

    def test_the_exit_code_is_about_the_dataset(self, config: Path, issuer: Issuer) -> None:
        content = yaml.safe_load(config.read_text())
        others = {"ids": ["*"], "endpoints": ["sequence", "files", "variants"], "public": True}
        content["auth"]["rules"] += [others, {"ids": ["cohort"]}]
        config.write_text(yaml.safe_dump(content))
        for dataset_id, is_open in (("NA00001", False), ("cohort", True), ("open", True), ("none", True)):
            result = run("check", "--config", config, "--as", "", dataset_id)
            assert "allowed /sequence/" in result.output
            assert ("warning: there is no readable dataset 'none'" in result.output) == (dataset_id == "none")
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
        assert "chr1:190-195 and 30 more (0-based, half-open)" in result.output

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
        # Either the grant or the header has the name.
        granted = name if not has_header else "other"
        content["auth"]["rules"] = [{"ids": ["*"], "regions": [{"reference": granted, "start": 0, "end": 500}]}]
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config, "--as", issuer.token("ES256"), "typed", name)
        assert f"requested: {name}:0- (0-based, half-open)\n" in result.output
        assert result.exit_code == int(has_header)
        result = run("check", "--config", config, "--as", issuer.token("ES256"), "typed", f"{name}:1-100")
        assert f"requested: {name}:0-100 (0-based, half-open)\n" in result.output
        if has_header:
            result = run("check", "--config", config, "--as", issuer.token("ES256"), "typed", "HLA-B*07:02")
            assert "requested: HLA-B*07:1- (0-based, half-open)\n" in result.output

    def test_without_a_token_and_with_bad_ones(self, config: Path, issuer: Issuer) -> None:
        result = run("check", "--config", config, "--as", "", "open")
        assert result.exit_code == 0 and result.output.startswith("anonymous: there is no token\nallowed /reads/open")
        result = run("check", "--config", config, "--as", issuer.token("ES256", exp=1), "open")
        assert (result.exit_code, result.output) == (1, "Error: the token has expired\n")

    def test_a_token_from_the_standard_input(self, config: Path, issuer: Issuer) -> None:
        arguments = ["check", "--config", str(config), "--as", "-", "NA1"]
        result = CliRunner().invoke(main, arguments, input=issuer.token("ES256") + "\n")
        assert result.output.startswith("ada of ")

    def test_bad_arguments(self, config: Path, demo_folder: Path) -> None:
        assert run("check", "--as", "x", "NA1").exit_code == 2
        assert run("check", "--config", config, "--as", "x").exit_code == 2
        assert run("check", demo_folder, demo_folder).exit_code == 2
        assert run("check", demo_folder / "none").exit_code == 2
        assert run("check", "--config", config, "--as", "", "NA1", "chr1:0-5").exit_code == 1

    def test_a_file_with_two_ids_is_open_by_each(self, config: Path, demo_folder: Path) -> None:
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

    def test_warnings_about_the_configuration(self, config: Path) -> None:
        content = yaml.safe_load(config.read_text())
        content["auth"]["issuers"][0]["userinfo"] = "http://login.example.org/userinfo"
        config.write_text(yaml.safe_dump(content))
        result = run("check", "--config", config)
        assert result.exit_code == 0
        assert result.output.startswith("warning: auth.issuers[0].userinfo: http://login.example.org/userinfo is not")

    def test_data_are_checked_without_access_control(self, config: Path) -> None:
        result = run("check", "--deep", "--config", config)
        assert result.exit_code == 0 and "records compared" in result.output
        assert not (config.parent / "audit.log").exists()
