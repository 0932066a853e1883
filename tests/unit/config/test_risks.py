"""Remarks on valid configurations."""

from pathlib import Path

import pytest

from htsget_flask.app import load_config
from htsget_flask.config import describe_risks, read_config


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

    def test_remarks_are_logged_when_a_web_server_creates_the_application(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.risks(tmp_path, "policy: {url: 'http://policy.example.org/p'}")
        monkeypatch.setenv("HTSGET_FLASK_CONFIG", str(tmp_path / "config.yaml"))
        load_config()
        (record,) = caplog.records
        assert "auth.policy.url: http://policy.example.org/p is not https" in record.getMessage()

    def test_visas_that_several_issuers_may_sign(self, tmp_path: Path) -> None:
        auth = (
            "passports: {visa_issuers: [{issuer: a, jwks: 'https://a/'}, {issuer: b, jwks: 'https://b/'}]},"
            " rules: [{ids: [x], visas: [{value: v, issuer: a}, w]}]"
        )
        (line,) = self.risks(tmp_path, auth)
        assert line.startswith("auth.rules[0].visas[1]: any of the 2 visa issuers can grant this")
        assert not self.risks(tmp_path, auth.replace(", {issuer: b, jwks: 'https://b/'}", ""))
