"""Plain files: whole, in part, under conditions, and never another file."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.client import FlaskHttp, Response
from tests.http.app import http_for

CONTENT = bytes(range(256)) * 1000
MODIFIED = 1_600_000_000
LAST_MODIFIED = "Sun, 13 Sep 2020 12:26:40 GMT"
ORIGIN = {"Origin": "https://igv.example"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def http(folder: Path) -> FlaskHttp:
    """A client of a server that opens the folder, in which `a.bam` lies."""
    put(folder, "a.bam", CONTENT)
    return http_for(folder, files={"storages": ["data"]})


def put(folder: Path, key: str, content: bytes = b"x") -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (MODIFIED, MODIFIED))


def error(answer: Response) -> str:
    assert answer.headers["content-type"].startswith("application/vnd.ga4gh.htsget")
    return answer.body.decode().split('"')[5]


class TestAFileIsItsBytes:
    def test_whole(self, http: FlaskHttp) -> None:
        answer = http.get("/files/data/a.bam")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["last-modified"] == LAST_MODIFIED
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["etag"].startswith('"')

    @pytest.mark.parametrize(
        ("value", "start", "end"),
        [("0-0", 0, 1), ("5-99", 5, 100), ("100000-", 100_000, 256_000), ("-7", 255_993, 256_000)],
    )
    def test_in_part(self, http: FlaskHttp, value: str, start: int, end: int) -> None:
        answer = http.get("/files/data/a.bam", {"Range": f"bytes={value}"})
        assert (answer.status, answer.body) == (206, CONTENT[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/256000"

    @pytest.mark.parametrize(
        "key",
        ["a b.bam", "a#b?.bam", "a%2Fb", "a+b&c=d.bam", "größe/名前.bam", "a/b/c.d", "-", "x\\y", "a:b*c|d", "a..b/c."],
    )
    def test_whatever_its_name(self, http: FlaskHttp, folder: Path, key: str) -> None:
        put(folder, key, key.encode())
        answer = http.get(f"/files/data/{quote(key)}")
        assert (answer.status, answer.body) == (200, key.encode())
        if "/" in key:
            assert http.get(f"/files/data/{quote(key, safe='')}").body == key.encode()


class TestStoragesThatAreNotOpenedAreNotThere:
    def test_none_by_default(self, folder: Path) -> None:
        put(folder, "a.bam")
        closed = http_for(folder).get("/files/data/a.bam")
        missing = http_for(folder, files={"storages": ["data"]}).get("/files/other/a.bam")
        assert (closed.status, closed.body) == (missing.status, missing.body)
        assert (closed.status, error(closed)) == (404, "NotFound")
