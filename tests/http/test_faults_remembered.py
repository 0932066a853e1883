"""A fault of one version of a file is found once; temporary failures are tried again."""

import errno
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from htsget_flask.storage.local import LocalStorage
from tests.support import files
from tests.support.app import http_for
from tests.support.client import FlaskHttp
from tests.support.files.indexes import index_of

REGION = "referenceName=chr1&start=1000&end=300000"


class StorageLog:
    """The keys that a storage opened; while `broken` it fails."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.broken = False


@pytest.fixture
def storage_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageLog]:
    noted, real = StorageLog(), LocalStorage.open

    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        def seek(self, offset: int, whence: int = 0) -> int:
            return offset

    def note(self: LocalStorage, key: str, *, etag: str | None = None) -> BinaryIO:
        noted.keys.append(key)
        return Broken() if noted.broken else real(self, key, etag=etag)  # type: ignore[return-value]

    monkeypatch.setattr(LocalStorage, "open", note)
    yield noted


def sample(folder: Path, maker: str) -> Path:
    sources = folder / "made"
    sources.mkdir()
    source = files.GOOD[maker](sources)
    index = index_of(source)
    assert index is not None
    data = folder / "data"
    data.mkdir()
    name = "sample" + ("".join(source.suffixes) if source.suffix == ".gz" else source.suffix)
    (data / name).write_bytes(source.read_bytes())
    (data / (name + index.suffix)).write_bytes(index.read_bytes())
    return data


def served_soon(http: FlaskHttp, path: str) -> bool:
    """Whether a request succeeds once a version is no longer remembered, which takes a second."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if http.get(path).status == 200:
            return True
        time.sleep(0.1)
    return False


class TestAFaultOfAFileIsFoundOnce:
    @pytest.mark.parametrize(
        ("maker", "endpoint"),
        [("bam_normal", "reads"), ("cram_3_0", "reads"), ("vcf_normal", "variants"), ("bcf_normal", "variants")],
    )
    def test_in_its_header(self, maker: str, endpoint: str, tmp_path: Path, storage_log: StorageLog) -> None:
        folder = sample(tmp_path, maker)
        path = next(path for path in folder.iterdir() if path.suffix not in (".bai", ".crai", ".tbi", ".csi"))
        whole = path.read_bytes()
        path.write_bytes(whole[:100])
        http = http_for(folder)
        answers = [http.get(f"/{endpoint}/sample?class=header") for _ in range(3)]
        assert [answer.status for answer in answers] == [500] * 3
        assert len({answer.body for answer in answers}) == 1
        assert storage_log.keys == [path.name]
        path.write_bytes(whole)
        assert served_soon(http, f"/{endpoint}/sample?class=header")

    def test_in_its_index(self, tmp_path: Path, storage_log: StorageLog, caplog: pytest.LogCaptureFixture) -> None:
        folder = sample(tmp_path, "vcf_normal")
        path = folder / "sample.vcf.gz.tbi"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        http = http_for(folder)
        answers = [http.get(f"/variants/sample?{REGION}") for _ in range(3)]
        assert [answer.status for answer in answers] == [500] * 3
        assert storage_log.keys.count(path.name) == 1
        assert caplog.text.count(str(path)) == 3
        path.write_bytes(whole)
        assert served_soon(http, f"/variants/sample?{REGION}")


class TestATemporaryFailureIsTriedAgain:
    def test_a_broken_disk(self, tmp_path: Path, storage_log: StorageLog) -> None:
        folder = sample(tmp_path, "vcf_normal")
        http = http_for(folder)
        storage_log.broken = True
        assert http.get(f"/variants/sample?{REGION}").status == 500
        storage_log.broken = False
        assert http.get(f"/variants/sample?{REGION}").status == 200
