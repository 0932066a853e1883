"""Most answers are made without Flask: they are the same as those that pass through it."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from htsget_flask.app import create_app
from htsget_flask.config import folder_config
from tests.support import files

# What comes from a page of another origin passes through Flask, for flask-cors.
PAGE = {"Origin": "https://page.example"}
PLAIN = "/files/data/sample.bam"
TICKET = "/reads/sample"
LONG = {"Range": "bytes=1-100000"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    folder = tmp_path_factory.mktemp("data")
    files.bam_normal(folder).rename(folder / "sample.bam")
    (folder / "sample.bam.fai").write_text("chr1\n")
    return create_app(folder_config(folder)).test_client()


def block(client: FlaskClient) -> str:
    entries = client.get(TICKET).get_json()["htsget"]["urls"]
    return str(next(entry["url"] for entry in entries if entry["url"].startswith("http")))


class TestAnAnswerIsTheSameWithFlaskAndWithout:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            (TICKET, {}),
            (f"{TICKET}?class=header", {}),
            (f"{TICKET}?start=1", {}),
            ("/reads/absent", {}),
            ("/nothing", {}),
            ("/health", {}),
            ("block", {}),
            ("block", LONG),
            ("block", {"Range": "bytes=1-10"}),
            (PLAIN, {}),
            (PLAIN, LONG),
            (f"{PLAIN}.fai", {}),
            (PLAIN, {"Range": "bytes=999999999-"}),
            (PLAIN, {"If-None-Match": "*"}),
            (PLAIN, {"If-Match": '"other"'}),
            ("/files/data/absent", {}),
            ("//files//data", {}),
        ],
    )
    def test_but_for_cors(self, client: FlaskClient, method: str, target: str, headers: dict[str, str]) -> None:
        url = block(client) if target == "block" else target
        seen = []
        for more in ({}, PAGE):
            with client.open(url, method=method, headers={**headers, **more}) as answer:
                fields = {name: value for name, value in answer.headers if not name.startswith("Access-Control-")}
                fields.pop("Vary", None)
                seen.append((answer.status, fields, answer.data))
        assert seen[0] == seen[1]
        assert seen[0][1]["X-Content-Type-Options"] == "nosniff"


class TestWhatFailsWithoutFlask:
    def test_is_tried_once_and_logged_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        files.bam_normal(tmp_path).rename(tmp_path / "sample.bam")
        client = create_app(folder_config(tmp_path)).test_client()
        tries = []

        def fail(*_: object, **__: object) -> None:
            tries.append(1)
            raise RuntimeError("damaged")

        monkeypatch.setattr("htsget_flask.htsget.views.plan", fail)
        answer = client.get(TICKET)
        assert answer.status_code == 500
        assert answer.get_json()["htsget"]["error"] == "InternalServerError"
        assert (len(tries), caplog.text.count("RuntimeError: damaged")) == (1, 1)
