"""The settings of access control."""

from pathlib import Path

import pytest

from htsget_flask.config import folder_config, read_config
from tests.support.config import faults


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
            (f"secrets: [{SECRET}]", "auth: needs either rules or a policy: they define who has access to what"),
            (f"{GOOD}, policy: {{url: 'http://a/'}}", "auth: needs either rules or a policy"),
            (f"{GOOD}, secret: x", "auth.secret: there is no such setting"),
            ("rules: [{ids: ['*']}], secrets: [short]", "auth.secrets[0]: must be file: and a path"),
            ("rules: [{ids: ['*']}], secrets: ['file:none']", "auth.secrets[0]: the file cannot be read"),
            (f"secrets: [{SECRET}], rules: [{{}}]", "auth.rules[0].ids: is missing"),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], public: true, scopes: [b]}}]",
                "auth.rules[0]: a public rule",
            ),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], claims: {{b: {{}}}}}}]",
                "auth.rules[0].claims.b: needs one of",
            ),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], visas: [b]}}]",
                "auth.rules[0].visas: rules that name visas need",
            ),
            (f"secrets: [{SECRET}], rules: [{{ids: [a], regions: []}}]", "auth.rules[0].regions: List should have"),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], endpoints: [reads], fields: [seq]}}]",
                "auth.rules[0].fields[0]: must be one of QNAME,",
            ),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], endpoints: [reads], tags: [NM, M]}}]",
                "auth.rules[0].tags[1]: must be a letter and",
            ),
            (
                f"secrets: [{SECRET}], rules: [{{ids: [a], endpoints: [reads], notags: [{', '.join(['NM'] * 251)}]}}]",
                "auth.rules[0].notags: List should have at most 250 items",
            ),
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
        lines = faults(tmp_path, self.text(tmp_path, auth))
        assert any(one.startswith(message) for one in lines), lines
        assert self.SECRET not in "".join(lines)

    @pytest.mark.parametrize("name", ["regions", "fields", "tags", "notags"])
    def test_an_empty_limit_does_not_switch_it_off(self, tmp_path: Path, name: str) -> None:
        rule = f"{{ids: [a], endpoints: [reads], {name}: }}"
        (line,) = faults(tmp_path, self.text(tmp_path, f"secrets: [{self.SECRET}], rules: [{rule}]"))
        assert line.startswith(f"auth.rules[0]: {name} is empty")

    @pytest.mark.parametrize("limit", ["fields: [SEQ]", "tags: []", "notags: [MD]"])
    @pytest.mark.parametrize("endpoints", ["", "endpoints: [variants], ", "endpoints: [reads, files], "])
    def test_a_limit_to_fields_or_tags_is_for_reads(self, tmp_path: Path, endpoints: str, limit: str) -> None:
        rule = f"{{ids: [a], {endpoints}{limit}}}"
        (line,) = faults(tmp_path, self.text(tmp_path, f"secrets: [{self.SECRET}], rules: [{rule}]"))
        assert line.startswith(f"auth.rules[0]: a rule with {limit.partition(':')[0]} needs endpoints: [reads]")

    @pytest.mark.parametrize("section", ["auth:", "auth: null", "auth: ~\n", "auth:\n  # rules: [{ids: ['*']}]"])
    def test_an_empty_section_does_not_switch_it_off(self, tmp_path: Path, section: str) -> None:
        storages = f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}"
        (line,) = faults(tmp_path, f"{storages}\ndatasets: [{{prefix: '', storage: lab}}]\n{section}\n")
        assert line.startswith("auth: is empty: ")

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
        config = read_config(path).auth
        assert config is not None and config.introspection is not None
        assert config.secrets[0].get_secret_value() == self.SECRET
        assert config.introspection.client_secret.get_secret_value() == "any text: will do"
        assert (config.audit, config.issuers[0].jwks) == (str(tmp_path / "audit.log"), str(tmp_path / "jwks.json"))
        assert self.SECRET not in repr(config) and "any text" not in repr(config)

    def test_no_secret_lies_where_it_can_be_fetched(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "key").write_text(self.SECRET)
        auth = "secrets: ['file:data/key'], rules: [{ids: ['*']}]"
        (line,) = faults(tmp_path, self.text(data, auth, "files: {storages: [lab]}"))
        assert line.startswith("files.storages[0]: ") and str(data / "key") in line
