"""Faults between settings that are valid one by one, and remarks on valid configurations."""

from pathlib import Path

import pytest

from htsget_flask.config import describe_risks, read_config
from tests.support.config import faults


class TestEachDatasetCanBeReached:
    READS = "reads: {BAM: {storage: a, key: a.bam}}"

    @pytest.mark.parametrize(
        ("entries", "expected"),
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
    def test_or_is_refused(self, tmp_path: Path, entries: str, expected: list[str]) -> None:
        text = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{entries}]\n"
        lines = faults(tmp_path, text)
        assert len(lines) == len(expected)
        assert all(map(str.startswith, lines, expected))

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


class TestRemarks:
    def risks(self, tmp_path: Path, auth: str) -> list[str]:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"
            f"auth: {{secrets: [s3cret-0123456789abc], {auth}}}\n"
        )
        return list(describe_risks(read_config(path)))

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
        lines = self.risks(tmp_path, auth.replace("HOST", host))
        paths = ["issuers[0].jwks", "issuers[0].userinfo", "introspection.url", "passports.visa_issuers[0].jwks"]
        expected = [f"auth.{path}" for path in [*paths, "policy.url"]] if is_exposed else []
        assert [line.partition(": ")[0] for line in lines] == expected
        assert "SECRET" not in "".join(lines)
        assert not self.risks(tmp_path, auth.replace("HOST", host).replace("http:", "https:"))

    def test_visas_that_several_issuers_may_sign(self, tmp_path: Path) -> None:
        auth = (
            "passports: {visa_issuers: [{issuer: a, jwks: 'https://a/'}, {issuer: b, jwks: 'https://b/'}]},"
            " rules: [{ids: [x], visas: [{value: v, issuer: a}, w]}]"
        )
        (line,) = self.risks(tmp_path, auth)
        assert line.startswith("auth.rules[0].visas[1]: any of the 2 visa issuers can grant this")
        assert not self.risks(tmp_path, auth.replace(", {issuer: b, jwks: 'https://b/'}", ""))
