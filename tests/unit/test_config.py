import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from htsget_flask.app import load_config
from htsget_flask.config import ConfigError, default_cache_folder, folder_config, read_config
from htsget_flask.config.auth import (
    AuthConfig,
    ClaimConfig,
    IntrospectionConfig,
    IssuerConfig,
    PolicyConfig,
    RegionConfig,
    RuleConfig,
    SignerConfig,
    VisaConfig,
)
from htsget_flask.config.models import (
    BrowserConfig,
    CacheConfig,
    Config,
    CorsConfig,
    DatasetConfig,
    FileConfig,
    FilesConfig,
    GenomeConfig,
    HtsgetConfig,
    OrganizationConfig,
    PrefixConfig,
    RefgetConfig,
    RefgetFastaConfig,
    RefgetStoreConfig,
    ServiceConfig,
    TrackConfig,
)
from htsget_flask.config.storages import LocalStorageConfig, S3StorageConfig

ROOT = Path(__file__).parents[2]
MODELS: dict[str, type[BaseModel]] = {
    "": Config,
    "storages.<name>.": LocalStorageConfig,
    "storages.<name>. ": S3StorageConfig,
    "datasets[].": PrefixConfig,
    "datasets[]. ": DatasetConfig,
    "datasets[].reads.<format>.": FileConfig,
    "datasets[].genome.": GenomeConfig,
    "datasets[].tracks[].": TrackConfig,
    "browser.": BrowserConfig,
    "htsget.": HtsgetConfig,
    "files.": FilesConfig,
    "refget.": RefgetConfig,
    "refget.fastas[].": RefgetFastaConfig,
    "refget.store.": RefgetStoreConfig,
    "cache.": CacheConfig,
    "cors.": CorsConfig,
    "service.": ServiceConfig,
    "service.organization.": OrganizationConfig,
    "auth.": AuthConfig,
    "auth.issuers[].": IssuerConfig,
    "auth.introspection.": IntrospectionConfig,
    "auth.passports.visa_issuers[].": SignerConfig,
    "auth.rules[].": RuleConfig,
    "auth.rules[].claims.<name>.": ClaimConfig,
    "auth.rules[].visas[].": VisaConfig,
    "auth.rules[].regions[].": RegionConfig,
    "auth.policy.": PolicyConfig,
}
SECTIONS = {"htsget", "files", "browser", "cache", "cors", "service", "service.organization", "storages", "datasets"}
SECTIONS |= {"datasets[].reads", "datasets[].variants", "refget", "refget.fastas", "refget.store"}
SECTIONS |= {"auth", "auth.issuers", "auth.introspection", "auth.passports", "auth.rules", "auth.policy"}


def settings() -> Iterator[tuple[str, str]]:
    """Every setting's path and name."""
    for path, model in MODELS.items():
        for name in model.model_fields:
            if path.strip() + name not in SECTIONS:
                yield path.strip() + name, name


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


class TestEverySettingIsDocumented:
    @pytest.mark.parametrize(("path", "name"), sorted(set(settings())))
    def test_in_the_manual(self, path: str, name: str) -> None:
        rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.M)
        assert path in rows

    def test_and_nothing_else(self) -> None:
        rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.M)
        assert set(rows) == {path for path, _ in settings()}

    def test_in_the_example(self) -> None:
        examples = [yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("example.yaml", "policy.yaml")]

        def names(value: Any) -> Iterator[str]:
            if isinstance(value, dict):
                for name, inner in value.items():
                    yield name
                    yield from names(inner)
            elif isinstance(value, list):
                for inner in value:
                    yield from names(inner)

        assert {name for _, name in settings()} <= set(names(examples))


def local(config: Config, name: str) -> LocalStorageConfig:
    """The settings of a storage in a folder."""
    storage = config.storages[name]
    assert isinstance(storage, LocalStorageConfig)
    return storage


class TestSequencesAreNamedRightly:
    @pytest.mark.parametrize(
        ("setting", "fault"),
        [
            ("fastas: [{storage: a}]", "refget.fastas[0]: needs either a key or a prefix"),
            ("fastas: [{storage: a, key: b.fa, prefix: ''}]", "refget.fastas[0]: needs either a key or a prefix"),
            ("fastas: [{storage: x, key: b.fa}]", "refget.fastas[0].storage: there is no storage 'x' (known: a)"),
            ("store: {storage: x}", "refget.store.storage: there is no storage 'x' (known: a)"),
            ("fastas: [{storage: a, key: ../b.fa}]", "refget.fastas[0].key: must be a relative path"),
            ("fastas: [{storage: a, key: b.fa, namespace: 'a:b'}]", "refget.fastas[0].namespace: must be letters"),
            (
                "fastas: [{storage: a, key: b.fa, aliases: {c: [d]}}]",
                "refget.fastas[0].aliases.c[0]: must be a namespace",
            ),
            ("subsequence_limit: 0", "refget.subsequence_limit: Input should be greater than or equal to 1"),
        ],
    )
    def test_a_fault_is_told_with_its_place(self, tmp_path: Path, setting: str, fault: str) -> None:
        text = (
            f"storages: {{a: {{type: local, root: .}}}}\ndatasets: [{{prefix: '', storage: a}}]\nrefget: {{{setting}}}"
        )
        assert [line[: len(fault)] for line in faults(tmp_path, text)] == [fault]


class TestTheExamplesAreValid:
    def example(self, tmp_path: Path, name: str) -> Config:
        """An example read where the secrets that it names were made, as it says."""
        path = tmp_path / name
        path.write_text((ROOT / "config" / name).read_text())
        for root in re.findall(r"root: ([\w.-]+)", path.read_text()):
            (tmp_path / root).mkdir()
        for secret in re.findall(r"file:([\w.-]+)", path.read_text()):
            (tmp_path / secret).write_text(secrets.token_hex(32))
            (tmp_path / secret).chmod(0o600)
        return read_config(path)

    def test_example(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, "example.yaml")
        assert local(config, "lab").root == tmp_path / "lab"
        assert not config.remarks

    def test_policy(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, "policy.yaml")
        assert config.auth is not None and config.auth.policy is not None
        assert not config.remarks

    @pytest.mark.parametrize("name", ["example.yaml", "policy.yaml"])
    def test_they_come_without_secrets_and_say_how_to_make_them(self, name: str) -> None:
        with pytest.raises(ConfigError) as caught:
            read_config(ROOT / "config" / name)
        for line in str(caught.value).splitlines():
            assert "secret" in line and ("openssl rand -hex 32" in line or "client.secret" in line)

    def test_minimal(self, tmp_path: Path) -> None:
        text = (ROOT / "config" / "minimal.yaml").read_text()
        path = tmp_path / "minimal.yaml"
        path.write_text(text.replace("/data", str(tmp_path)))
        # A folder of one's own is opened as it is; a configuration has to say so.
        assert read_config(path) == folder_config(tmp_path).model_copy(
            update={"files": FilesConfig(), "refget": RefgetConfig()}
        )

    def test_s3(self) -> None:
        text = (ROOT / "config" / "s3.yaml").read_text()
        config = read_config(ROOT / "config" / "s3.yaml")
        storage = config.storages["cohort"]
        assert isinstance(storage, S3StorageConfig)
        assert (storage.bucket, storage.prefix, storage.region) == ("my-bucket", "cohort/", "eu-central-1")
        # What stands there in comments is valid too.
        proposed = re.findall(r"^    # (\w+: \S+)$", text, re.M)
        assert len(proposed) == 4
        S3StorageConfig.model_validate({**storage.model_dump(), **yaml.safe_load("\n".join(proposed))})

    def test_gunicorn(self) -> None:
        values: dict[str, Any] = {}
        exec(compile((ROOT / "config" / "gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"), values)
        from gunicorn.config import Config as GunicornConfig

        known = GunicornConfig().settings
        assert {"bind", "workers", "threads", "worker_class", "secure_scheme_headers"} <= set(values) & set(known)


class TestAllFaultsAreToldAtOnce:
    def test_with_their_paths(self, tmp_path: Path) -> None:
        found = faults(
            tmp_path,
            """
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
            """,
        )
        told = {line.partition(": ")[0] for line in found}
        assert told == {
            "public_url",
            "trusted_proxies",
            "storages.lab.root",
            "storages.other.type",
            "storages.other.speed",
            "storages.a/b",
            "datasets[0].storage",
            "datasets[1].reads.BAM.storage",
            "datasets[1].reads.BAM.key",
            "datasets[1].reads.VCF (the name)",
            "datasets[2]",
            "datasets[3].prefx",
            "datasets[3].prefix",
            "datasets[4].name",
            "datasets[4].genome.storage",
            "datasets[5].genome",
            "datasets[5].tracks[0]",
            "datasets[5].tracks[1]",
            "datasets[5].tracks[2].storage",
            "datasets[6].genome",
            "datasets[6].tracks[0]",
            "datasets[6].tracks[1]",
            "browser.enabled",
            "browser.igv_js",
            "browser.igv",
            "files.storages[0]",
            "files.storages[2]",
            "files.listing",
            "files.limit",
            "htsget.inline_limit",
            "htsget.blok_size",
            "htsget.block_size",
            "colour",
        }

    @pytest.mark.parametrize(
        "text", ["", "[]", "5", "null", "storages: 5", "storages: {}\ndatasets: []", "datasets: [[]]"]
    )
    def test_whatever_the_file_holds(self, tmp_path: Path, text: str) -> None:
        assert faults(tmp_path, text)

    @pytest.mark.parametrize("text", ["", "datasets: []", "files: {listing: true}", "refget: {fastas: []}"])
    def test_nothing_to_serve(self, tmp_path: Path, text: str) -> None:
        (told,) = faults(tmp_path, f"storages: {{a: {{type: local, root: {tmp_path}}}}}\n{text}\n")
        assert told == "the file: serves nothing: give it datasets, files.storages, refget.fastas or refget.store"

    def test_no_yaml(self, tmp_path: Path) -> None:
        assert "not valid YAML" in faults(tmp_path, "a: [")[0]

    def test_a_key_that_stands_twice(self, tmp_path: Path) -> None:
        text = (
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: x, storage: a}}]\ndatasets: []"
        )
        assert "stands twice" in "\n".join(faults(tmp_path, text))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            read_config(tmp_path / "none.yaml")


class TestAFaultIsOneLine:
    """What is wrong with one setting is said once, with what is meant."""

    @pytest.mark.parametrize(
        ("text", "found"),
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
            ("datasets: [a]", "datasets[0]: must be settings, each with its name"),
            ("datasets: [{id: b, reads: [b.bam]}]", "datasets[0].reads: must be settings, each with its name"),
            ("datasets: [{prefix: '', storage: a}]\ncors: {origins: 5}", "cors.origins: Input should be a valid list"),
        ],
    )
    def test_of_datasets(self, tmp_path: Path, text: str, found: str) -> None:
        lines = faults(tmp_path, f"storages: {{a: {{type: local, root: '{tmp_path}'}}}}\n{text}\n")
        assert [line.replace("there is no such setting; did you mean", "...") for line in lines] == [
            line.replace("there is no such setting; did you mean", "...") for line in found.split("|")
        ]

    def test_of_a_storages_type(self, tmp_path: Path) -> None:
        text = "datasets: [{prefix: '', storage: a}]\nstorages: {a: {tpye: s3, bucket: bucket}}\n"
        assert faults(tmp_path, text) == ["storages.a.tpye: there is no such setting; did you mean type?"]

    @pytest.mark.parametrize(
        ("auth", "found"),
        [
            ("issuers: [{issuer: a, jwks: 'https://a/', audience: 5}]", "issuers[0].audience: Input should be a valid"),
            ("rules: [{ids: [a], claims: {b: {equals: [c]}}}]", "rules[0].claims.b.equals: must be a text, a number"),
            ("rules: [{ids: [a], claims: {b: {contians: c}}}]", "rules[0].claims.b.contians: there is no such setting"),
            ("rules: [{ids: [a], visas: [5]}]", "rules[0].visas[0]: must be the value of a visa, or settings"),
            ("rules: [{ids: [a], visas: [{valu: b}]}]", "rules[0].visas[0].valu: there is no such setting; did you"),
        ],
    )
    def test_of_access_control(self, tmp_path: Path, auth: str, found: str) -> None:
        common = "secrets: [s3cret-0123456789abc], passports: {visa_issuers: [{issuer: a, jwks: 'https://a/'}]}"
        rules = "" if "rules" in auth else "rules: [{ids: [a]}], "
        lines = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
            f"auth: {{{common}, {rules}{auth}}}\n",
        )
        assert len(lines) == 1 and lines[0].startswith(f"auth.{found}"), lines

    def test_all_of_access_control_at_once(self, tmp_path: Path) -> None:
        lines = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
            "auth: {issuers: [{issuer: a, jwks: none.json}, {issuer: a, jwks: 'https://a/', audience: b}],"
            " rules: [{ids: [a], visas: [{value: b, issuer: c}]}, {ids: []}], policy: {url: x}}\n",
        )
        assert [line.partition(": ")[0] for line in lines] == [
            "auth.issuers[0].audience",
            "auth.rules[1].ids",
            "auth.policy.url",
            "auth",
            "auth",
            "auth.issuers",
            "auth.rules[0].visas",
            "auth.issuers[0].jwks",
        ]


class TestEachDatasetCanBeReached:
    READS = "reads: {BAM: {storage: a, key: a.bam}}"

    @pytest.mark.parametrize(
        ("entries", "found"),
        [
            (f"{{id: service-info, {READS}}}", ["datasets[0].id: service-info "]),
            (f"{{id: /a, {READS}}}", ["datasets[0].id: must not start or end with '/'"]),
            (f"{{id: a/, {READS}}}", ["datasets[0].id: must not start or end with '/'"]),
            (f"{{id: a//b, {READS}}}", ["datasets[0].id: must not start or end with '/'"]),
            ("{prefix: /a, storage: a}", ["datasets[0].prefix: must not start with '/'"]),
            ("{prefix: a//, storage: a}", ["datasets[0].prefix: must not start with '/'"]),
            (
                f"{{prefix: x, storage: a}}, {{id: b, {READS}}}, {{id: b, {READS}}}",
                ["datasets[2].id: datasets[1] has this id"],
            ),
            ("{prefix: '', storage: a}, {prefix: b/, storage: a}", ["datasets[1].prefix: no request reaches it"]),
            (
                f"{{prefix: '', storage: a}}, {{id: b, {READS}}}, {{prefix: c, storage: a}}",
                ["datasets[1].id: no request reaches it", "datasets[2].prefix: no request reaches it"],
            ),
            (
                "{prefix: b/, storage: a}, {prefix: b/, storage: a}",
                [
                    "datasets[1].prefix: no request reaches it, because datasets[0] has all ids that start with 'b/':"
                    " give it another prefix"
                ],
            ),
            (f"{{prefix: b/, storage: a}}, {{id: b/c, {READS}}}", ["datasets[1].id: no request reaches it"]),
        ],
    )
    def test_or_is_refused(self, tmp_path: Path, entries: str, found: list[str]) -> None:
        text = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{entries}]\n"
        told = faults(tmp_path, text)
        assert len(told) == len(found)
        assert all(map(str.startswith, told, found))

    def test_hidden_ones_belong_to_no_earlier_prefix(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets:\n"
            f"- {{prefix: '', storage: a}}\n- {{id: .old/b, {self.READS}}}\n- {{prefix: a/.old/, storage: a}}\n"
        )
        assert read_config(path)

    def test_ids_may_have_segments(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets:\n"
            f"- {{id: a/service-info, {self.READS}}}\n- {{prefix: a/, storage: a}}\n- {{id: a, {self.READS}}}\n"
            "- {prefix: '', storage: a}\n"
        )
        assert read_config(path)


class TestTracksInATrack:
    @pytest.mark.parametrize("tracks", ["[]", "[5]", "[{name: a}]", "[{url: a.bw}]", "{url: 'https://x.example/a'}"])
    def test_need_urls(self, tmp_path: Path, tracks: str) -> None:
        (found,) = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\n"
            f"datasets: [{{prefix: '', storage: a, tracks: [{{type: merged, tracks: {tracks}}}]}}]\n",
        )
        assert found.startswith("datasets[0].tracks[0]: ") and "url" in found


class TestOriginsAreSpelledOut:
    @pytest.mark.parametrize(
        "origin",
        [
            "https://*.example.org",
            "https://igv.org/",
            "https://igv.org/app",
            "https://a.org,https://b.org",
            "https://a.org https://b.org",
            "igv.org",
            "https://",
            "//igv.org",
            "https://user@igv.org",
            "https://igv.org:99999",
            "https://igv.org:",
            "https://igv.org:*/",
            "https://igv.org:8*",
            "https://igv.org:80:*",
            "https://*:*",
            "https://[1:2]",
            "https://b\u00fccher.example",
            ".*",
            "None",
            "",
        ],
    )
    @pytest.mark.parametrize("written", ["{!r}", "['https://a.example', {!r}]"])
    def test_what_browsers_never_send_is_refused(self, tmp_path: Path, origin: str, written: str) -> None:
        (found,) = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
            f"cors: {{origins: {written.format(origin)}}}\n",
        )
        assert found.startswith(f"cors.origins{'[1]' if '[' in written else ''}: {origin!r} ")

    def test_all_that_are_refused_are_named(self, tmp_path: Path) -> None:
        text = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
        found = faults(tmp_path, f"{text}cors: {{origins: [igv.org, 'https://a.example', 'https://b.example/']}}\n")
        assert [line.partition(" ")[0] for line in found] == ["cors.origins[0]:", "cors.origins[2]:"]


class TestPathsAreResolved:
    def test_from_the_files_own_folder(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        path = tmp_path / "config.yaml"
        path.write_text(
            "storages: {a: {type: local, root: data}}\ndatasets: [{prefix: '', storage: a}]\ncache: {folder: kept}\n"
        )
        config = read_config(path)
        assert local(config, "a").root == tmp_path / "data"
        assert config.cache.folder == tmp_path / "kept"

    def test_of_igv_js(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        common = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
        (tmp_path / "igv.js").touch()
        for given, found in (
            ("igv.js", str(tmp_path / "igv.js")),
            ("https://x.example/i.js", "https://x.example/i.js"),
        ):
            path.write_text(f"{common}browser: {{igv_js: '{given}'}}\n")
            assert read_config(path).browser.igv_js == found

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


class TestSecrets:
    SECRET = "a-secret-of-32-characters-0123456"

    def storage(self, tmp_path: Path, *settings: str) -> str:
        lines = ("type: local", f"root: {tmp_path}", *settings)
        return f"storages: {{lab: {{{', '.join(lines)}}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"

    def test_a_file_may_hold_one(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{self.SECRET}\n")
        path = tmp_path / "config.yaml"
        for secret in ("file:key", f"file:{tmp_path / 'key'}", self.SECRET):
            path.write_text(self.storage(tmp_path, "url: https://a.example/raw", f"secret: '{secret}'"))
            config = read_config(path)
            found = local(config, "lab").secret
            assert found is not None and found.get_secret_value() == self.SECRET
            assert self.SECRET not in repr(config) + str(config) + config.model_dump_json()

    def test_none_lies_where_all_may_fetch_it(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "key").write_text(self.SECRET)
        (tmp_path / "key").write_text(self.SECRET)
        settings = ("url: https://a.example/", "secret: 'file:data/key'")
        opened = "files: {storages: [lab]}\n"
        path = tmp_path / "config.yaml"
        path.write_text(self.storage(data, *settings))
        assert read_config(path)
        (found,) = faults(tmp_path, self.storage(data, *settings) + opened)
        assert found.startswith("files.storages[0]: ") and str(data / "key") in found
        settings = ("url: https://a.example/", "secret: file:key")
        path.write_text(self.storage(data, *settings) + opened)
        assert read_config(path)
        # The configuration itself, and the key, both lie in the folder above.
        assert len(faults(tmp_path, self.storage(tmp_path, *settings) + opened)) == 2

    @pytest.mark.parametrize(
        "settings",
        [
            ("secret: s3cret-with-$-in-it-and-more", "url: https://a.example/"),
            ("secret: s3cret", "url: https://a.example/"),
            ("secret: [s3cret-0123456789]", "url: https://a.example/"),
            ("secret: s3cret-0123456789",),
            ("url: https://a.example/",),
            ("secret: file:bad", "url: https://a.example/"),
            ("secret: file:none", "url: https://a.example/"),
            ("secret: s3cret-0123456789", "url: 'https://a.example/?s3cret'"),
            ("secret: s3cret-0123456789", "url: https://a.example/", "expires: 0"),
        ],
    )
    def test_a_fault_is_told_without_it(self, tmp_path: Path, settings: tuple[str, ...]) -> None:
        (tmp_path / "bad").write_text("s3cret-of-two\nlines-of-s3cret\n")
        found = faults(tmp_path, self.storage(tmp_path, *settings))
        assert len(found) == 1 and found[0].startswith("storages.lab")
        assert "s3cret" not in found[0]

    def test_nor_is_one_quoted_where_the_file_is_not_yaml(self, tmp_path: Path) -> None:
        text = self.storage(tmp_path, "secret: s3cret-0123456789: x", "url: https://a.example/")
        assert "not valid YAML" in "".join(faults(tmp_path, text)) and "s3cret" not in "".join(faults(tmp_path, text))


class TestWeakSecrets:
    RULES = "rules: [{ids: ['*'], public: true}]"

    def text(self, tmp_path: Path, secret: str) -> str:
        return (
            f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"
            f"auth: {{secrets: ['{secret}'], {self.RULES}}}\n"
        )

    @pytest.mark.parametrize(
        ("secret", "reason"),
        [
            ("change-me-0123456789", "placeholder"),
            ("CHANGE-ME-0123456789", "placeholder"),
            ("a" * 16, "different characters"),
            ("abcde" * 10, "different characters"),
            ("short-0123456", "16 to 256"),
        ],
    )
    @pytest.mark.parametrize("in_file", [False, True])
    def test_are_refused(self, tmp_path: Path, secret: str, reason: str, in_file: bool) -> None:
        (tmp_path / "key").write_text(secret + "\n")
        (found,) = faults(tmp_path, self.text(tmp_path, "file:key" if in_file else secret))
        assert found.startswith("auth.secrets[0]: ") and reason in found and secret not in found

    def test_a_client_secret_that_is_a_placeholder(self, tmp_path: Path) -> None:
        introspection = "introspection: {url: 'https://a/', client_id: b, client_secret: change-me}, rules"
        (found,) = faults(tmp_path, self.text(tmp_path, "s3cret-0123456789abc").replace("rules", introspection))
        assert found.startswith("auth.introspection.client_secret: is the placeholder")

    @pytest.mark.parametrize("length", [16, 32])
    def test_random_ones_are_not(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / "config.yaml"
        for _ in range(20):
            path.write_text(self.text(tmp_path, secrets.token_hex(length)))
            read_config(path)

    @pytest.mark.parametrize(
        ("mode", "remark", "fault"),
        [
            (0o600, "", ""),
            (0o640, "", ""),
            (0o644, "chmod o-r", ""),
            (0o602, "", "chmod o-w"),
            (0o666, "", "chmod o-w"),
        ],
    )
    def test_files_that_others_may_change_are_refused(self, tmp_path: Path, mode: int, remark: str, fault: str) -> None:
        key, path = tmp_path / "key", tmp_path / "config.yaml"
        key.write_text("s3cret-0123456789abc")
        key.chmod(mode)
        if fault:
            (found,) = faults(tmp_path, self.text(tmp_path, "file:key"))
            assert found.startswith("auth.secrets[0]: ") and fault in found
            return
        path.write_text(self.text(tmp_path, "file:key"))
        remarks = read_config(path).remarks
        assert len(remarks) == bool(remark)
        assert all(one.startswith("auth.secrets[0]: ") and remark in one for one in remarks)

    @pytest.mark.parametrize(("mode", "is_refused"), [(0o777, True), (0o1777, False), (0o755, False)])
    def test_so_are_those_that_others_may_replace(self, tmp_path: Path, mode: int, is_refused: bool) -> None:
        folder = tmp_path / "keys"
        folder.mkdir()
        (folder / "key").write_text("s3cret-0123456789abc")
        (folder / "key").chmod(0o600)
        folder.chmod(mode)
        path, text = tmp_path / "config.yaml", self.text(tmp_path, "file:keys/key")
        if is_refused:
            (found,) = faults(tmp_path, text)
            assert found.startswith("auth.secrets[0]: ") and found.endswith("keys: run `chmod o-w` on it")
        else:
            path.write_text(text)
            read_config(path)

    def test_so_is_a_key_set_that_others_may_change(self, tmp_path: Path) -> None:
        jwks = tmp_path / "jwks.json"
        jwks.write_text("{}")
        jwks.chmod(0o666)
        issuers = "issuers: [{issuer: a, audience: b, jwks: jwks.json}], rules"
        (found,) = faults(tmp_path, self.text(tmp_path, "s3cret-0123456789abc").replace("rules", issuers, 1))
        assert found.startswith("auth.issuers[0].jwks: ") and "chmod o-w" in found


class TestRemarks:
    def remarks(self, tmp_path: Path, auth: str) -> list[str]:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"
            f"auth: {{secrets: [s3cret-0123456789abc], {auth}}}\n"
        )
        return list(read_config(path).remarks)

    @pytest.mark.parametrize(
        ("host", "is_exposed"),
        [
            ("login.example.org", True),
            ("10.0.0.1:8080", True),
            ("[2001:db8::1]", True),
            ("localhost.example.org", True),
            ("127.0.0.1:8181", False),
            ("127.8.9.10", False),
            ("[::1]:8181", False),
            ("localhost", False),
        ],
    )
    def test_services_of_other_machines_without_tls(self, tmp_path: Path, host: str, is_exposed: bool) -> None:
        auth = (
            "issuers: [{issuer: a, audience: b, jwks: 'http://HOST/k', userinfo: 'http://HOST/u'}],"
            " introspection: {url: 'http://HOST/i', client_id: b, client_secret: c},"
            " passports: {visa_issuers: [{issuer: a, jwks: 'http://HOST/v'}]}, policy: {url: 'http://HOST/p?t=SECRET'}"
        )
        found = self.remarks(tmp_path, auth.replace("HOST", host))
        places = ["issuers[0].jwks", "issuers[0].userinfo", "introspection.url", "passports.visa_issuers[0].jwks"]
        expected = [f"auth.{place}" for place in [*places, "policy.url"]] if is_exposed else []
        assert [line.partition(": ")[0] for line in found] == expected
        assert "SECRET" not in "".join(found)
        assert not self.remarks(tmp_path, auth.replace("HOST", host).replace("http:", "https:"))

    def test_are_logged_where_a_web_server_makes_the_application(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.remarks(tmp_path, "policy: {url: 'http://policy.example.org/p'}")
        monkeypatch.setenv("HTSGET_FLASK_CONFIG", str(tmp_path / "config.yaml"))
        load_config()
        (record,) = caplog.records
        assert "auth.policy.url: http://policy.example.org/p is not https" in record.getMessage()

    def test_visas_that_several_issuers_may_sign(self, tmp_path: Path) -> None:
        auth = (
            "passports: {visa_issuers: [{issuer: a, jwks: 'https://a/'}, {issuer: b, jwks: 'https://b/'}]},"
            " rules: [{ids: [x], visas: [{value: v, issuer: a}, w]}]"
        )
        (found,) = self.remarks(tmp_path, auth)
        assert found.startswith("auth.rules[0].visas[1]: any of the 2 visa issuers opens this")
        assert not self.remarks(tmp_path, auth.replace(", {issuer: b, jwks: 'https://b/'}", ""))


class TestAccessControl:
    SECRET = "s3cret-0123456789abc"
    GOOD = f"secrets: [{SECRET}], rules: [{{ids: ['*'], public: true}}]"

    def text(self, tmp_path: Path, auth: str, *settings: str) -> str:
        storages = f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}"
        return "\n".join([storages, "datasets: [{prefix: '', storage: lab}]", f"auth: {{{auth}}}", *settings, ""])

    def test_is_off_by_default(self, tmp_path: Path) -> None:
        assert folder_config(tmp_path).auth is None

    @pytest.mark.parametrize(
        ("auth", "message"),
        [
            ("rules: [{ids: ['*']}]", "auth: needs secrets: without one the URLs of data blocks cannot be signed"),
            ("", "auth: needs secrets: without one the URLs of data blocks cannot be signed"),
            (f"secrets: [{SECRET}]", "auth: needs rules or a policy, and not both: they say who may see what"),
            (f"{GOOD}, policy: {{url: 'http://a/'}}", "auth: needs rules or a policy, and not both"),
            (f"{GOOD}, secret: x", "auth.secret: there is no such setting"),
            ("rules: [{ids: ['*']}], secrets: [short]", "auth.secrets[0]: must be file: and a path"),
            ("rules: [{ids: ['*']}], secrets: ['file:none']", "auth.secrets[0]: the file cannot be read"),
            (f"secrets: [{SECRET}], rules: [{{}}]", "auth.rules[0].ids: is missing"),
            (f"secrets: [{SECRET}], rules: [{{ids: [a], public: true, scopes: [b]}}]", "auth.rules[0]: what is public"),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], claims: {{b: {{}}}}}}]",
                "auth.rules[0].claims.b: needs one of",
            ),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], visas: [b]}}]",
                "auth.rules[0].visas: rules that name visas need",
            ),
            (f"secrets: [{SECRET}], rules: [{{ids: [a], regions: []}}]", "auth.rules[0].regions: List should have"),
            (f"secrets: [{SECRET}], rules: [{{ids: [a], endpoints: [page]}}]", "auth.rules[0].endpoints[0]: Input"),
            (
                f"{GOOD}, issuers: [{{issuer: a, audience: b, jwks: none.json}}]",
                "auth.issuers[0].jwks: there is no file",
            ),
            (
                f"{GOOD}, issuers: [{{issuer: a, audience: b, jwks: 'https://a/', algorithms: [HS256]}}]",
                "auth.issuers[0].algorithms[0]: Input should be",
            ),
            (f"{GOOD}, issuers: [{{issuer: a, jwks: 'https://a/'}}]", "auth.issuers[0].audience: is missing"),
            (f"{GOOD}, issuers: [{{issuer: a, audience: [], jwks: 'https://a/'}}]", "auth.issuers[0].audience"),
        ],
    )
    def test_faults(self, tmp_path: Path, auth: str, message: str) -> None:
        found = faults(tmp_path, self.text(tmp_path, auth))
        assert any(one.startswith(message) for one in found), found
        assert self.SECRET not in "".join(found)

    @pytest.mark.parametrize("section", ["auth:", "auth: null", "auth: ~\n", "auth:\n  # rules: [{ids: ['*']}]"])
    def test_an_empty_section_does_not_switch_it_off(self, tmp_path: Path, section: str) -> None:
        storages = f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}"
        (found,) = faults(tmp_path, f"{storages}\ndatasets: [{{prefix: '', storage: lab}}]\n{section}\n")
        assert found.startswith("auth: is empty: ")

    def test_paths_count_from_the_file_and_secrets_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(self.SECRET + "\n")
        (tmp_path / "client").write_text("any text: will do\n")
        (tmp_path / "jwks.json").write_text("{}")
        auth = (
            "secrets: ['file:key'], rules: [{ids: ['*']}], audit: audit.log, "
            "introspection: {url: 'https://a/', client_id: b, client_secret: 'file:client'}, "
            "issuers: [{issuer: a, audience: b, jwks: jwks.json}]"
        )
        path = tmp_path / "config.yaml"
        path.write_text(self.text(tmp_path, auth))
        found = read_config(path).auth
        assert found is not None and found.introspection is not None
        assert found.secrets[0].get_secret_value() == self.SECRET
        assert found.introspection.client_secret.get_secret_value() == "any text: will do"
        assert (found.audit, found.issuers[0].jwks) == (str(tmp_path / "audit.log"), str(tmp_path / "jwks.json"))
        assert self.SECRET not in repr(found) and "any text" not in repr(found)

    def test_no_secret_lies_where_it_can_be_fetched(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "key").write_text(self.SECRET)
        auth = "secrets: ['file:data/key'], rules: [{ids: ['*']}]"
        (found,) = faults(tmp_path, self.text(data, auth, "files: {storages: [lab]}"))
        assert found.startswith("files.storages[0]: ") and str(data / "key") in found
