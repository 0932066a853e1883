"""Configurations that are read from YAML files."""

from pathlib import Path

import pytest

from htsget_flask.config import ConfigError, default_cache_folder, read_config
from tests.support.config import faults, local

FAULTY_SETTINGS = """
public_url: ftp://x
trusted_proxies: -1
storages:
  lab: {type: local, root: /nowhere/at/all}
  other: {type: tape, root: /tmp, speed: 1}
  a/b: {type: local, root: /tmp}
datasets:
  - {prefix: lab/, storage: lob}
  - {id: trio, reads: {BAM: {storage: labx, key: ../t.bam}, VCF: {storage: lab, key: x}}}
  - {id: nothing}
  - {prefx: lab/, storage: lab}
  - {prefix: x/, storage: other, name: x, genome: {fasta: x.fa, storage: other}}
  - {prefix: y/, storage: other, genome: {fasta: x.fa}, tracks: [{url: x}, {key: a}, {storage: o, key: b}]}
  - {prefix: z/, storage: other, genome: {fasta: /x.fa, storage: lab}, tracks: [{type: wig}, 5]}
browser: {enabled: perhaps, igv_js: nowhere.js, igv: 5}
files: {storages: [lob, lab, 5], listing: perhaps, limit: 5}
htsget: {inline_limit: many, blok_size: 2, block_size: 5}
colour: red
"""


class TestAllFaultsAreReportedAtOnce:
    def test_of_single_settings(self, tmp_path: Path) -> None:
        lines = faults(tmp_path, FAULTY_SETTINGS)
        assert {line.partition(": ")[0] for line in lines} == {
            "public_url",
            "trusted_proxies",
            "storages.lab.root",
            "storages.other.type",
            "storages.other.speed",
            "storages.a/b (the name)",
            "datasets[1].reads.BAM.key",
            "datasets[1].reads.VCF (the name)",
            "datasets[2]",
            "datasets[3].prefx",
            "datasets[4].name",
            "datasets[5].genome",
            "datasets[5].tracks[0]",
            "datasets[5].tracks[1]",
            "datasets[6].genome",
            "datasets[6].tracks[0]",
            "datasets[6].tracks[1]",
            "browser.enabled",
            "browser.igv_js",
            "browser.igv",
            "files.storages[2]",
            "files.listing",
            "files.limit",
            "htsget.inline_limit",
            "htsget.blok_size",
            "htsget.block_size",
            "colour",
        }

    def test_between_settings(self, tmp_path: Path) -> None:
        lines = faults(
            tmp_path,
            """
            storages:
              lab: {type: local, root: ., sendfile: x-accel}
              other: {type: local, root: /tmp}
            datasets:
              - {prefix: lab/, storage: lob}
              - {id: trio, reads: {BAM: {storage: labx, key: t.bam}}}
              - {prefix: x/, storage: other, genome: {fasta: x.fa, storage: other}}
              - {prefix: y/, storage: other, tracks: [{url: 'https://x.example/'}, {storage: o, key: b}]}
              - {prefix: lab/, storage: lab}
            files: {storages: [lob, lab]}
            auth:
            """,
        )
        assert [line.partition(": ")[0] for line in lines] == [
            "files.storages[0]",
            "datasets[0].storage",
            "datasets[1].reads.BAM.storage",
            "storages.lab.sendfile",
            "files.storages[1]",
            "datasets[4].prefix",
            "datasets[2].genome.storage",
            "datasets[3].tracks[1].storage",
            "auth",
        ]

    @pytest.mark.parametrize(
        "text", ["", "[]", "5", "null", "storages: 5", "storages: {}\ndatasets: []", "datasets: [[]]"]
    )
    def test_whatever_the_file_holds(self, tmp_path: Path, text: str) -> None:
        assert faults(tmp_path, text)

    @pytest.mark.parametrize("text", ["", "datasets: []", "files: {listing: true}", "refget: {fastas: []}"])
    def test_nothing_to_serve(self, tmp_path: Path, text: str) -> None:
        (line,) = faults(tmp_path, f"storages: {{a: {{type: local, root: {tmp_path}}}}}\n{text}\n")
        assert line == "the file: serves nothing: give it datasets, files.storages, refget.fastas or refget.store"

    def test_no_yaml(self, tmp_path: Path) -> None:
        assert "not valid YAML" in faults(tmp_path, "a: [")[0]

    def test_a_key_that_occurs_twice(self, tmp_path: Path) -> None:
        text = (
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: x, storage: a}}]\ndatasets: []"
        )
        assert "occurs twice" in "\n".join(faults(tmp_path, text))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            read_config(tmp_path / "none.yaml")


class TestAFaultIsOneLine:
    """A fault of a setting is reported once, with a suggestion."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "datasets: [{prefx: lab/, storage: a}]",
                "datasets[0].prefx: there is no such setting; did you mean prefix?",
            ),
            ("datasets: [{prefx: lab/, storag: a}]", "datasets[0].prefx: ... prefix?|datasets[0].storag: ... storage?"),
            (
                "datasets: [{Prefix: lab/, storage: a}]",
                "datasets[0].Prefix: there is no such setting; did you mean prefix?",
            ),
            ("datasets: [{storage: a}]", "datasets[0].prefix: is missing"),
            (
                "datasets: [{id: b, raeds: {BAM: {storage: a, key: b.bam}}}]",
                "datasets[0].raeds: there is no such setting; did you mean reads?",
            ),
            (
                "datasets: [{id: b, reads: {BAM: {storage: a, kye: b.bam}}}]",
                "datasets[0].reads.BAM.kye: there is no such setting; did you mean key?",
            ),
            ("datsets: [{prefix: '', storage: a}]", "datsets: there is no such setting; did you mean datasets?"),
            ("datasets: [{prefix: '', storage: a, colour: red}]", "datasets[0].colour: there is no such setting"),
            ("datasets: [{prefix: '', storage: a, text: red}]", "datasets[0].text: there is no such setting"),
            ("datasets: [a]", "datasets[0]: must be settings, each with its name"),
            ("datasets: [{id: b, reads: [b.bam]}]", "datasets[0].reads: must be settings, each with its name"),
            ("datasets: [{prefix: '', storage: a}]\ncors: {origins: 5}", "cors.origins: Input should be a valid list"),
        ],
    )
    def test_of_datasets(self, tmp_path: Path, text: str, expected: str) -> None:
        lines = faults(tmp_path, f"storages: {{a: {{type: local, root: '{tmp_path}'}}}}\n{text}\n")
        assert [line.replace("there is no such setting; did you mean", "...") for line in lines] == [
            line.replace("there is no such setting; did you mean", "...") for line in expected.split("|")
        ]

    def test_of_paths_that_cannot_be_checked(self, tmp_path: Path) -> None:
        name = "x" * 300
        text = f"storages: {{text: {{type: local, root: {name}}}}}\nbrowser: {{igv_js: {name}}}\n"
        storage, script = faults(tmp_path, text)
        assert storage.startswith("storages.text.root: there is no folder ")
        assert script.startswith("browser.igv_js: there is no file ")

    def test_of_a_storages_type(self, tmp_path: Path) -> None:
        text = "datasets: [{prefix: '', storage: a}]\nstorages: {a: {tpye: s3, bucket: bucket}}\n"
        assert faults(tmp_path, text) == ["storages.a.tpye: there is no such setting; did you mean type?"]

    @pytest.mark.parametrize(
        ("auth", "expected"),
        [
            ("issuers: [{issuer: a, jwks: 'https://a/', audience: 5}]", "issuers[0].audience: Input should be a valid"),
            ("rules: [{ids: [a], claims: {b: {equals: [c]}}}]", "rules[0].claims.b.equals: must be a text, a number"),
            ("rules: [{ids: [a], claims: {b: {contians: c}}}]", "rules[0].claims.b.contians: there is no such setting"),
            ("rules: [{ids: [a], visas: [5]}]", "rules[0].visas[0]: must be the value of a visa, or settings"),
            ("rules: [{ids: [a], visas: [{valu: b}]}]", "rules[0].visas[0].valu: there is no such setting; did you"),
        ],
    )
    def test_of_access_control(self, tmp_path: Path, auth: str, expected: str) -> None:
        common = "secrets: [s3cret-0123456789abc], passports: {visa_issuers: [{issuer: a, jwks: 'https://a/'}]}"
        rules = "" if "rules" in auth else "rules: [{ids: [a]}], "
        lines = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
            f"auth: {{{common}, {rules}{auth}}}\n",
        )
        assert len(lines) == 1 and lines[0].startswith(f"auth.{expected}"), lines

    COMMON = "storages: {a: {type: local, root: /tmp}}\ndatasets: [{prefix: '', storage: a}]\n"

    def test_settings_of_access_control_at_once(self, tmp_path: Path) -> None:
        lines = faults(
            tmp_path,
            f"{self.COMMON}auth: {{issuers: [{{issuer: a, jwks: none.json}}, {{issuer: a, jwks: 'https://a/', audience:"
            " b}], rules: [{ids: [a], visas: [{value: b, issuer: c}]}, {ids: []}], policy: {url: x}}\n",
        )
        assert [line.partition(": ")[0] for line in lines] == [
            "auth.issuers[0].jwks",
            "auth.issuers[0].audience",
            "auth.rules[1].ids",
            "auth.policy.url",
        ]

    def test_all_of_access_control_at_once(self, tmp_path: Path) -> None:
        signer = "issuer: a, jwks: 'https://a/'"
        lines = faults(
            tmp_path,
            f"{self.COMMON}auth: {{issuers: [{{{signer}, audience: b}}, {{{signer}, audience: b}}],"
            " rules: [{ids: [a], visas: [{value: b, issuer: c}]}], policy: {url: 'https://a/'}}\n",
        )
        assert [line.partition(": ")[0] for line in lines] == ["auth", "auth", "auth.issuers", "auth.rules[0].visas"]


class TestPathsAreResolved:
    def test_from_the_files_own_folder(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        path = tmp_path / "config.yaml"
        path.write_text(
            "storages: {a: {type: local, root: data}}\ndatasets: [{prefix: '', storage: a}]\ncache: {folder: cache}\n"
        )
        config = read_config(path)
        assert local(config, "a").root == tmp_path / "data"
        assert config.cache.folder == tmp_path / "cache"

    def test_of_igv_js(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        common = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
        (tmp_path / "igv.js").touch()
        for value, resolved in (
            ("igv.js", str(tmp_path / "igv.js")),
            ("https://x.example/i.js", "https://x.example/i.js"),
        ):
            path.write_text(f"{common}browser: {{igv_js: '{value}'}}\n")
            assert read_config(path).browser.igv_js == resolved

    def test_the_users_cache_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_cache_folder() == tmp_path / "htsget_flask"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_cache_folder() == tmp_path / ".cache" / "htsget_flask"
        # The XDG Base Directory Specification: a relative path is not valid, and ignored.
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert default_cache_folder() == tmp_path / ".cache" / "htsget_flask"
        monkeypatch.setenv("HOME", "relative")
        assert default_cache_folder().is_absolute()

    @pytest.mark.parametrize("cache", ["data", "data/cache", "data/.cache", "linked/cache"])
    def test_a_cache_folder_that_could_be_fetched(self, tmp_path: Path, cache: str) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "linked").symlink_to(tmp_path / "data")
        path = tmp_path / "config.yaml"
        content = f"storages: {{a: {{type: local, root: data}}}}\ncache: {{folder: {cache}}}\n"
        path.write_text(f"{content}files: {{storages: [a]}}\n")
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert "files.storages[0]: " in str(caught.value)
        assert f"{tmp_path / cache} lies in this storage, and could be fetched" in str(caught.value)
        path.write_text(f"{content}datasets: [{{prefix: '', storage: a}}]\n")
        assert read_config(path).cache.folder == tmp_path / cache
