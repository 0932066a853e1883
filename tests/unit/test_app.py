from pathlib import Path

import pytest

from htsget_flask.app import load_config


def test_remarks_are_logged_when_a_web_server_creates_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"
        "auth: {secrets: [s3cret-0123456789abc], policy: {url: 'http://policy.example.org/p'}}\n"
    )
    monkeypatch.setenv("HTSGET_FLASK_CONFIG", str(path))
    load_config()
    (record,) = caplog.records
    assert "auth.policy.url: http://policy.example.org/p is not https" in record.getMessage()
