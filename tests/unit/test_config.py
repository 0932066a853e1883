import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from htsget_flask.config import ConfigError, default_cache_folder, folder_config, read_config
from htsget_flask.config.access import (
    AuthConfig,
    ClaimConfig,
    IntrospectionConfig,
    IssuerConfig,
    PolicyConfig,
    RegionConfig,
    RuleConfig,
    SignerConfig,
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
    def test_example(self) -> None:
        config = read_config(ROOT / "config" / "example.yaml")
        assert local(config, "lab").root == ROOT / "config" / "lab"

    def test_policy(self) -> None:
        config = read_config(ROOT / "config" / "policy.yaml")
        assert config.auth is not None and config.auth.policy is not None

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
            "datasets[3].id",
            "datasets[3].storage",
            "datasets[3]",
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
        ],
    )
    def test_or_is_refused(self, tmp_path: Path, entries: str, found: list[str]) -> None:
        text = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{entries}]\n"
        told = faults(tmp_path, text)
        assert len(told) == len(found)
        assert all(map(str.startswith, told, found))

    def test_ids_may_have_segments(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets:\n"
            f"- {{id: a/service-info, {self.READS}}}\n- {{prefix: a/, storage: a}}\n- {{prefix: '', storage: a}}\n"
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
        assert found.startswith(f"cors.origins: {origin!r} ")


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
            (f"secrets: [{SECRET}], rules: [{{ids: [a], visas: [b]}}]", "auth: rules that name visas need passports"),
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
