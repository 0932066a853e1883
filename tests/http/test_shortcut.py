"""The shortcut past Flask gives the answers that Flask gives; flask-cors' rules apply to both."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_cors import CORS

from htsget_flask.app import create_app
from htsget_flask.config import Config, folder_config
from htsget_flask.services import EXTENSION
from htsget_flask.web.cors import Cors, cors_options
from tests.support.files.bam import bam_normal

PLAIN = "/files/data/sample.bam"
TICKET = "/reads/sample"
LONG = {"Range": "bytes=1-100000"}
ORIGINS = (
    "https://page.example",
    "https://page.example:8443",
    "http://localhost:80",
    "HTTPS://PAGE.EXAMPLE",
    "null",
    "",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    bam_normal(folder).rename(folder / "sample.bam")
    (folder / "sample.bam.fai").write_text("chr1\n")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> FlaskClient:
    return create_app(folder_config(folder)).test_client()


@pytest.fixture(scope="module")
def flask_client(folder: Path) -> FlaskClient:
    """A client of the same application without the shortcut."""
    app = create_app(folder_config(folder))
    app.wsgi_app = Cors(  # type: ignore[method-assign]
        lambda *call: Flask.wsgi_app(app, *call), app, app.extensions[EXTENSION].config
    )
    return app.test_client()


def block(client: FlaskClient) -> str:
    entries = client.get(TICKET).get_json()["htsget"]["urls"]
    return str(next(entry["url"] for entry in entries if entry["url"].startswith("http")))


class TestAnAnswerIsTheSameWithFlaskAndWithout:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            (TICKET, {}),
            (f"{TICKET}?class=header", {}),
            (f"{TICKET}?start=1", {}),
            ("/reads/absent", {}),
            ("/reads/service-info", {}),
            ("/services", {}),
            ("/nothing", {}),
            ("/health", {}),
            ("/", {}),
            ("/page/datasets", {}),
            ("/page/dataset?id=sample", {}),
            ("/page/dataset?id=absent", {}),
            ("/page/static/page.js", {}),
            ("/page/static/page.js", {"If-Modified-Since": "Fri, 01 Jan 2038 00:00:00 GMT"}),
            ("/page/static/absent", {}),
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
            ("/files/data/", {}),
        ],
    )
    @pytest.mark.parametrize("origin", [{}, {"Origin": "https://page.example"}])
    def test_in_every_field(
        self,
        client: FlaskClient,
        flask_client: FlaskClient,
        method: str,
        target: str,
        headers: dict[str, str],
        origin: dict[str, str],
    ) -> None:
        url = block(client) if target == "block" else target
        answers = []
        for way in (client, flask_client):
            with way.open(url, method=method, headers={**headers, **origin}) as answer:
                fields = sorted(field for field in answer.headers if field[0] not in ("Allow", "Date"))
                answers.append((answer.status, fields, answer.data))
        shortcut, flask = answers
        assert shortcut == flask
        assert ("X-Content-Type-Options", "nosniff") in shortcut[1]
        assert bool(origin) == any(name == "Access-Control-Allow-Origin" for name, _ in shortcut[1])


class TestSlashesAtTheStart:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/", "/health", TICKET, PLAIN, "/nothing", "/files//data"])
    def test_count_as_one(self, client: FlaskClient, method: str, path: str) -> None:
        answers = []
        for slashes in ("", "/", "//", "///"):
            with client.open(method=method, environ_overrides={"PATH_INFO": slashes + path[1:]}) as answer:
                fields = sorted(field for field in answer.headers if field[0] != "Allow")
                answers.append((answer.status, fields, answer.data))
        assert answers[1:] == answers[:1] * 3


class TestCorsFieldsAreThoseOfFlaskCors:
    @pytest.fixture(params=["*", ["https://page.example", "http://localhost:*"]])
    def clients(self, request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[FlaskClient, FlaskClient]]:
        """A client of the application, and one of Flask with flask-cors' own extension and the same options."""
        data = folder_config(folder).model_dump()
        config = Config.model_validate({**data, "cors": {"origins": request.param}})
        reference = Flask(__name__)
        reference.add_url_rule("/health", "health", lambda: "", methods=["GET", "POST"])
        CORS(reference, **cors_options(config))
        yield create_app(config).test_client(), reference.test_client()

    PREFLIGHTS: tuple[dict[str, str], ...] = (
        {},
        {"Access-Control-Request-Method": "GET"},
        {"Access-Control-Request-Method": "PUT"},
        {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range, Authorization"},
        {"Access-Control-Request-Method": "GET", "Access-Control-Request-Private-Network": "true"},
    )

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
    def test_for_every_origin(self, clients: tuple[FlaskClient, FlaskClient], method: str) -> None:
        for origin, preflight in product((*ORIGINS, None), self.PREFLIGHTS):
            headers = preflight if origin is None else {"Origin": origin, **preflight}
            fields = [self.cors_fields(client, method, headers) for client in clients]
            assert fields[0] == fields[1], headers

    def cors_fields(self, client: FlaskClient, method: str, headers: dict[str, str]) -> list[tuple[str, str]]:
        with client.open("/health", method=method, headers=headers) as answer:
            return sorted(field for field in answer.headers if field[0] == "Vary" or field[0].startswith("Access-"))


class TestAnErrorOutsideOfFlask:
    def test_is_raised_once_and_logged_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        bam_normal(tmp_path).rename(tmp_path / "sample.bam")
        client = create_app(folder_config(tmp_path)).test_client()
        calls = []

        def fail(*_: object, **__: object) -> None:
            calls.append(1)
            raise RuntimeError("damaged")

        monkeypatch.setattr("htsget_flask.htsget.answer.plan", fail)
        answer = client.get(TICKET)
        assert answer.status_code == 500
        assert answer.get_json()["htsget"]["error"] == "InternalServerError"
        assert (len(calls), caplog.text.count("RuntimeError: damaged")) == (1, 1)
