import contextlib
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from htsget_flask.errors import NotFound
from htsget_flask.storage import Storage
from htsget_flask.storage.local import LocalStorage
from tests.support.contract import StorageContract, keys


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
    def test_are_never_followed_out_of_the_root(self, tmp_path: Path) -> None:
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

    def test_the_root_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a").write_bytes(b"x")
        (tmp_path / "link").symlink_to("real")
        assert LocalStorage(tmp_path / "link").stat("a").size == 1

    def test_the_whole_disk_may_be_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        assert LocalStorage(Path("/")).stat(f"{tmp_path}/a"[1:]).size == 1


@pytest.mark.slow
class TestAFolderThatBecomesALink:
    """Another process repeatedly exchanges a folder for a link out of the root."""

    TRIES = 2_000
    EXCHANGE = """
import os, sys
folder, link = sys.argv[1:]
print(flush=True)
while os.getppid() == int(os.environ["PARENT"]):
    os.rename(folder, folder + ".folder")
    os.rename(link, folder)
    os.rename(folder, link)
    os.rename(folder + ".folder", folder)
"""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[Path]:
        """The root, in which `drop/d` is exchanged."""
        root = tmp_path / "root"
        for folder in (root / "drop" / "d" / "deep", tmp_path / "outside" / "deep"):
            folder.mkdir(parents=True)
            (folder / "file").write_bytes(folder.relative_to(tmp_path).parts[0].encode())
        (root / "drop" / "link").symlink_to(tmp_path / "outside")
        command = [sys.executable, "-c", self.EXCHANGE, str(root / "drop" / "d"), str(root / "drop" / "link")]
        with subprocess.Popen(
            command, env={**os.environ, "PARENT": str(os.getpid())}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                assert process.stdout is not None and process.stdout.readline() == b"\n"
                yield root
                assert process.poll() is None
            finally:
                process.kill()

    def test_is_exchanged_between_check_and_open(self, root: Path) -> None:
        """The other tests mean something only if the exchange can come at the wrong time."""
        path, leaked = root / "drop" / "d" / "deep" / "file", 0
        for _ in range(100 * self.TRIES):
            try:
                if os.path.realpath(path, strict=True) == str(path):
                    leaked += path.read_bytes() == b"outside"
            except OSError:
                continue
            if leaked:
                return
        raise AssertionError("the exchange never came between check and open")

    @pytest.mark.parametrize("key", ["drop/d/deep/file", "in/file"])
    def test_does_not_open_files_outside(self, root: Path, key: str) -> None:
        # A link that stays inside the root, through the folder.
        (root / "in").symlink_to("drop/d/deep")
        storage = LocalStorage(root)

        def read() -> bytes:
            with storage.open(key) as file:
                return file.read()

        assert self.outcomes(read) == {None, b"root"}

    def test_does_not_report_the_status_of_files_outside(self, root: Path) -> None:
        storage = LocalStorage(root)
        assert self.outcomes(lambda: storage.stat("drop/d/deep/file").size) == {None, len("root")}

    def outcomes(self, act: Callable[[], object]) -> set[object]:
        """The results of many tries, None for an absent file; of more tries until both have occurred."""
        results: set[object] = set()
        for tries in range(100 * self.TRIES):
            if tries >= self.TRIES and len(results) > 1:
                break
            try:
                results.add(act())
            except NotFound:
                results.add(None)
        return results


class TestAFolderThatBecomesALinkWhileItIsListed:
    def test_does_not_list_names_outside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The name exists outside when the folder is read, and inside when the file is checked."""
        root, outside = tmp_path / "root", tmp_path / "outside"
        (root / "d").mkdir(parents=True)
        outside.mkdir()
        (root / "d" / "file").touch()
        (outside / "secret").touch()
        scan, folder, aside = os.scandir, root / "d", root / ".aside"

        def exchange(path: str | int) -> object:
            os.rename(folder, aside)
            folder.symlink_to(outside)
            with scan(path) as entries:
                results = list(entries)
            folder.unlink()
            os.rename(aside, folder)
            (folder / "secret").touch()
            return contextlib.nullcontext(results)

        storage = LocalStorage(root)
        monkeypatch.setattr("os.scandir", exchange)
        assert keys(storage, "d/") == ["d/file"]


class TestOtherKindsOfFiles:
    def test_are_not_found_and_do_not_block(self, tmp_path: Path) -> None:
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


class TestOnlyRegularFilesAreListed:
    def test_no_links_out_no_folders_no_pipes(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "in" / "empty").mkdir(parents=True)
        (tmp_path / "secret").mkdir()
        for path in (root / "in" / "file", root / "line\nbreak", tmp_path / "secret" / "file"):
            path.write_bytes(b"x")
        Path(os.fsdecode(bytes(root) + b"/not-utf8-\xff")).write_bytes(b"x")
        os.mkfifo(root / "pipe")
        (root / "up").symlink_to("..")
        (root / "out").symlink_to("../secret/file")
        (root / "outside").symlink_to("../secret")
        (root / "good").symlink_to("in/file")
        (root / "again").symlink_to("in")
        (root / "in" / "round").symlink_to("..")
        storage = LocalStorage(root)
        assert keys(storage) == ["good", "in/file"]
        for prefix in ("up/", "up/root/", "outside/", "outside", "pipe/", "good/", "in/round/", "in/empty/", "again/"):
            assert keys(storage, prefix) == []
        assert keys(LocalStorage(Path("/")), f"{root}/in/"[1:]) == [f"{root}/in/file"[1:]]
        assert [child.key for child in storage.children()] == ["good", "in/"]
        assert [child.key for child in storage.children("in/")] == ["in/empty/", "in/file"]
        assert list(storage.children("in/empty/")) == []
        for folder in ("up/", "up/root/", "outside/", "pipe/", "good/", "in/round/", "again/"):
            with pytest.raises(NotFound):
                list(storage.children(folder))

    def test_a_folder_that_may_not_be_read_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("a", "lost+found"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_bytes(b"x")
        open_file = os.open

        def refuse(path: str, flags: int, *, dir_fd: int | None = None) -> int:
            if path.endswith("/lost+found"):
                raise PermissionError(13, "denied")
            return open_file(path, flags, dir_fd=dir_fd)

        monkeypatch.setattr("os.open", refuse)
        assert keys(LocalStorage(tmp_path)) == ["a/file"]
        assert list(LocalStorage(tmp_path).children("lost+found/")) == []

    @pytest.mark.parametrize("error", [PermissionError(13, "denied"), FileNotFoundError(2, "none"), OSError(5, "bad")])
    def test_a_root_that_cannot_be_read_is_a_fault(
        self, tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: str) -> object:
            raise error

        monkeypatch.setattr("os.scandir", fail)
        with pytest.raises(OSError, match=error.strerror):
            keys(LocalStorage(tmp_path))
        with pytest.raises(OSError, match=error.strerror):
            list(LocalStorage(tmp_path).children())


class TestALargeFolderIsListedInSteps:
    @pytest.mark.slow
    def test_all_of_it_once_and_in_order(self, tmp_path: Path) -> None:
        names = [f"{number:05}" for number in range(12_000)]
        for number, name in enumerate(names):
            if number % 1000 == 999:
                (tmp_path / name).mkdir()
                names[number] = f"{name}/file"
            (tmp_path / names[number]).touch()
        storage = LocalStorage(tmp_path)
        assert keys(storage) == names
        assert keys(storage, after="04321") == names[4322:]
        assert keys(storage, "1199") == names[11_990:]
        children = [name.removesuffix("file") for name in names]
        assert [child.key for child in storage.children()] == children
        assert [child.key for child in storage.children(after="04321")] == children[4322:]

    @pytest.mark.slow
    def test_the_first_ones_cost_little_memory(self, tmp_path: Path) -> None:
        for number in range(20_000):
            (tmp_path / f"{number:0200}").touch()
        entries = LocalStorage(tmp_path).entries()
        tracemalloc.start()
        try:
            assert next(entries).key == "0" * 200
            # All names together have five megabytes.
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


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
