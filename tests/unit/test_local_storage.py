import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from htsget_flask.errors import NotFound
from htsget_flask.storage import Storage
from htsget_flask.storage.local import LocalStorage
from tests.contract import StorageContract


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        (tmp_path / "root").mkdir()
        return LocalStorage(tmp_path / "root")

    @pytest.fixture
    def put(self, tmp_path: Path) -> Callable[[str, bytes], None]:
        def write(key: str, content: bytes) -> None:
            path = tmp_path / "root" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        return write


class TestLinks:
    def test_none_leads_out(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "in").mkdir(parents=True)
        (tmp_path / "root-not").mkdir()
        for path in (tmp_path / "secret", tmp_path / "root-not" / "secret", root / "in" / "file"):
            path.write_bytes(b"x")
        (root / "out").symlink_to(tmp_path / "secret")
        (root / "up").symlink_to("..")
        (root / "sibling").symlink_to("../root-not")
        (root / "loop").symlink_to("loop")
        (root / "dangling").symlink_to("nowhere")
        (root / "in" / "again").symlink_to("../in")
        (root / "good").symlink_to("in/file")
        storage = LocalStorage(root)
        for key in ("out", "up/secret", "sibling/secret", "up/root/in/file/x", "loop", "dangling", "in/again"):
            with pytest.raises(NotFound):
                storage.stat(key)
            with pytest.raises(NotFound):
                storage.open(key)
        for key in ("good", "in/again/file", "in/again/again/file"):
            assert storage.stat(key).size == 1
            storage.open(key).close()

    def test_a_root_may_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a").write_bytes(b"x")
        (tmp_path / "link").symlink_to("real")
        assert LocalStorage(tmp_path / "link").stat("a").size == 1

    def test_the_whole_disk_may_be_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        assert LocalStorage(Path("/")).stat(f"{tmp_path}/a"[1:]).size == 1


class TestWhatIsNoFile:
    def test_is_not_found_and_blocks_nobody(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        storage = LocalStorage(tmp_path)
        done = threading.Event()

        def look() -> None:
            for key in ("pipe", "folder"):
                with pytest.raises(NotFound):
                    storage.stat(key)
                with pytest.raises(NotFound):
                    storage.open(key)
            done.set()

        threading.Thread(target=look, daemon=True).start()
        assert done.wait(5)

    def test_no_descriptor_is_left_open(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        storage = LocalStorage(tmp_path)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(Exception, match="a"):
                storage.open("a", etag="other")
        assert len(os.listdir("/proc/self/fd")) == before


class TestAFailureIsNotAMiss:
    @pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(5, "broken"), OSError(24, "too many")])
    def test_errors_stay_what_they_are(self, tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a").write_bytes(b"x")
        storage = LocalStorage(tmp_path)

        def fail(*_: object, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("os.open", fail)
            with pytest.raises(OSError, match=error.strerror):
                storage.open("a")
        with monkeypatch.context() as patch:
            patch.setattr("os.lstat", fail)
            with pytest.raises(OSError, match=error.strerror):
                storage.stat("a")
