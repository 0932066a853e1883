"""Programs that read the pages of folders: rclone, wget and fsspec list and copy exactly the storage's files."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import fsspec
import pytest

from tests.support.live.buckets import STORAGE, serving_bucket
from tests.support.live.server import serving
from tests.support.live.tools import lines, run, write_config
from tests.support.s3 import S3Server

pytestmark = pytest.mark.live

ODD = "größe #1/100% <b>&amp;.txt"
KEYS = ("a.bam", "a.bam.bai", "trio/child.cram", "trio/deep/er/x.vcf.gz", ODD, "c:d e'f\"g?h=1", "empty.txt")
HIDDEN = (".hidden", "trio/.snapshot/x")


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    """The served files by key."""
    return {key: b"" if key == "empty.txt" else key.encode() * 1000 for key in KEYS}


@pytest.fixture(scope="module", params=["local", "s3"])
def url(
    request: pytest.FixtureRequest, content: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the page of a folder with these files."""
    folder = tmp_path_factory.mktemp("mirrors")
    objects = {**content, **dict.fromkeys(HIDDEN, b"hidden")}
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("versitygw")
        bucket = s3.create_bucket(objects)
        with serving_bucket(s3, bucket, folder) as server:
            yield f"{server.url}/files/{STORAGE}/"
        return
    for key, data in objects.items():
        path = folder / "root" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "root" / "nothing").mkdir()
    config = write_config(folder / "config.yaml", folder / "root", "files: {storages: [here], listing: true}")
    with serving("--config", config, folder=folder) as server:
        yield f"{server.url}/files/here/"


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def readable_by_rclone(content: dict[str, bytes]) -> dict[str, bytes]:
    """The files that rclone reads: it skips links to names with a question mark, even if it is encoded."""
    return {key: data for key, data in content.items() if "?" not in key}


class TestRclone:
    REMOTE = ("--config", "", "--http-url")

    def test_lists(self, url: str, content: dict[str, bytes], tmp_path: Path) -> None:
        rows = lines("rclone", "lsf", "-R", "--files-only", "--format", "sp", *self.REMOTE, url, ":http:", cwd=tmp_path)
        assert {row.partition(";")[2]: int(row.partition(";")[0]) for row in rows} == {
            key: len(data) for key, data in readable_by_rclone(content).items()
        }
        rows = lines("rclone", "lsf", *self.REMOTE, url, ":http:trio", cwd=tmp_path)
        assert rows == ["child.cram", "deep/"]

    def test_copies(self, url: str, content: dict[str, bytes], tmp_path: Path) -> None:
        run("rclone", "copy", *self.REMOTE, url, ":http:", tmp_path / "copy", cwd=tmp_path)
        assert files_below(tmp_path / "copy") == readable_by_rclone(content)


class TestWget:
    def test_copies(self, url: str, content: dict[str, bytes], tmp_path: Path) -> None:
        options = ("-r", "-np", "-nH", "--cut-dirs=2", "-q", "-e", "robots=off", "--restrict-file-names=nocontrol")
        run("wget", *options, "--reject", "index.html*", url, cwd=tmp_path)
        assert files_below(tmp_path) == content

    def test_copies_one_folder(self, url: str, content: dict[str, bytes], tmp_path: Path) -> None:
        options = ("-r", "-np", "-nH", "--cut-dirs=3", "-q", "-e", "robots=off")
        run("wget", *options, "--reject", "index.html*", f"{url}trio/", cwd=tmp_path)
        assert files_below(tmp_path) == {
            "child.cram": content["trio/child.cram"],
            "deep/er/x.vcf.gz": content["trio/deep/er/x.vcf.gz"],
        }


class TestFsspec:
    def test_lists_and_reads(self, url: str, content: dict[str, bytes]) -> None:
        files = fsspec.filesystem("http", skip_instance_cache=True)
        copies = {unquote(path.removeprefix(url)): files.cat_file(path) for path in files.find(url)}
        assert copies == content
        assert sorted(files.ls(f"{url}trio/", detail=False)) == [f"{url}trio/child.cram", f"{url}trio/deep/"]
        types = {row["name"]: row["type"] for row in files.ls(url)}
        assert types[f"{url}trio/"] == "directory"
        assert types[url + quote("c:d e'f\"g?h=1")] == "file"
