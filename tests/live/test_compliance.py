"""The cases of GA4GH's htsget compliance suite, implemented again: its requests, and the files that it expects."""

import shutil
from pathlib import Path

import pytest

from tests.live.conftest import Serve
from tests.support.client import SUFFIXES, fetch, fetch_ticket
from tests.support.live.server import Server
from tests.support.live.tools import DATA, real_data, view
from tests.support.live.wire import ask, error

pytestmark = pytest.mark.live

IDS = {"reads": "htsnexus_test_NA12878", "variants": "spec-v4.3"}
CASES = [
    ("reads", None, "BAM"),
    ("reads", "BAM", "BAM"),
    ("reads", "CRAM", "CRAM"),
    ("variants", None, "VCF"),
    ("variants", "VCF", "VCF"),
    ("variants", "BCF", "BCF"),
]


@pytest.fixture(scope="module")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with the suite's reads and variants in one folder."""
    folder = tmp_path_factory.mktemp("compliance")
    for kind in IDS:
        for path in real_data(kind).iterdir():
            shutil.copyfile(path, folder / path.name)
    return serve(folder)


class TestEveryCaseOfTheSuitePasses:
    # The suite also sends the scheme to servers that do not support it, and accepts plain data as an answer.
    @pytest.mark.parametrize("scheme", [None, "c4gh"])
    @pytest.mark.parametrize(("endpoint", "requested", "returned"), CASES)
    def test_the_file(
        self, server: Server, tmp_path: Path, endpoint: str, requested: str | None, returned: str, scheme: str | None
    ) -> None:
        path = f"/{endpoint}/{IDS[endpoint]}"
        ticket = fetch_ticket(server.http, path, format=requested, encryptionScheme=scheme)
        assert ticket["htsget"]["format"] == returned
        body = fetch(server.http, path, format=requested, encryptionScheme=scheme)
        name = IDS[endpoint] + SUFFIXES[returned]
        (tmp_path / name).write_bytes(body)
        assert view(tmp_path / name, cwd=tmp_path) == view(DATA / endpoint / name, cwd=tmp_path) != []

    @pytest.mark.parametrize("endpoint", sorted(IDS))
    @pytest.mark.parametrize("dataset", ["notfound123456789", "notfound987654321"])
    def test_an_unknown_id(self, server: Server, endpoint: str, dataset: str) -> None:
        answer = ask(server, "GET", f"/{endpoint}/{dataset}")
        assert (answer.status, error(answer)) == (404, "NotFound")
