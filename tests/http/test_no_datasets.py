"""A configuration without datasets: plain files alone, or reference sequences alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from htsget_flask.app import create_app
from htsget_flask.cli import main
from htsget_flask.commands.serve import example_urls
from htsget_flask.config import read_config
from htsget_flask.services import create_services
from tests.support.client import FlaskHttp
from tests.support.sequences import expected, run_ingest

LETTERS = b"ACGTTGCA" * 100
SEQUENCE = f"/sequence/{expected(LETTERS).md5}"

PARTS: dict[str, Any] = {
    "files": {"files": {"storages": ["data"]}},
    "listed files": {"files": {"storages": ["data"], "listing": True}},
    "FASTA files": {"refget": {"fastas": [{"storage": "data", "prefix": ""}]}},
    "a store": {"refget": {"store": {"storage": "data", "prefix": "store/"}}},
}
OPENED = {
    "files": ["/files/data/a.fa"],
    "listed files": ["/files/data/a.fa", "/files/data/"],
    "FASTA files": [SEQUENCE],
    "a store": [SEQUENCE],
}
LETTERS_URL = f"{SEQUENCE[1:]}?start=0&end=60"
PRINTED = {"listed files": ["files/data/"], "FASTA files": [LETTERS_URL], "a store": [LETTERS_URL]}


@pytest.fixture(params=PARTS)
def part(request: pytest.FixtureRequest) -> str:
    """The part of the service that is configured."""
    name: str = request.param
    return name


@pytest.fixture
def config(part: str, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.fa").write_bytes(b">a\n" + LETTERS + b"\n")
    if part == "a store":
        run_ingest(folder / "a.fa", folder / "store", tmp_path / "cache")
    path = tmp_path / "config.yaml"
    storages = {"data": {"type": "local", "root": "data"}}
    path.write_text(yaml.safe_dump({"storages": storages, "cache": {"folder": "cache"}, **PARTS[part]}))
    return path


class TestWithoutDatasetsTheRestIsServed:
    def test_alone(self, config: Path, part: str) -> None:
        http = FlaskHttp(create_app(read_config(config)).test_client())
        everything = {path for paths in OPENED.values() for path in paths}
        assert {path for path in everything if http.get(path).status == 200} == set(OPENED[part])
        for path in ("/", "/health", "/reads/service-info", "/variants/service-info", "/services"):
            assert http.get(path).status == 200, path
        for path in ("/reads/a", "/variants/a", "/page/dataset?id=a"):
            assert http.get(path).status == 404, path
        page = json.loads(http.get("/page/datasets").body)
        assert (page["datasets"], page["total"]) == ([], 0)

    def test_and_printed_at_the_start(self, config: Path, part: str) -> None:
        printed = list(example_urls(create_services(read_config(config)), ""))
        assert printed == PRINTED.get(part, [])

    @pytest.mark.parametrize("command", ["check", "index"])
    def test_and_commands_succeed(self, config: Path, command: str) -> None:
        result = CliRunner().invoke(main, [command, "--config", str(config)])
        assert result.exit_code == 0, result.output
