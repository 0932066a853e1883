"""The contract of all storages; the tests of each backend subclass `StorageContract`."""

import io
from collections.abc import Callable

import pytest

from htsget_flask.errors import NotFound
from htsget_flask.storage import Storage, VersionError

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../a.bam",
    "folder/../../a.bam",
    "folder/..",
    ".",
    "./a.bam",
    "folder//b.bam",
    "folder/",
    "a.bam/",
    "a.bam\0",
    "a.bam\n",
    "a\n.bam",
    "a\x7f.bam",
    "\0",
    "\ud800",
    "x" * 2000,
    "é" * 700,
    "folder/" * 200 + "a.bam",
]


def keys(storage: Storage, prefix: str = "", *, after: str = "") -> list[str]:
    """The listed keys."""
    return [key for key, _ in storage.entries(prefix, after=after)]


class StorageContract:
    """Subclasses provide `storage`, and `put`, which writes a file into it."""

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    @pytest.fixture
    def put(self) -> Callable[[str, bytes], None]:
        raise NotImplementedError

    def test_a_file_has_its_size_and_an_etag(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        put("folder/a b#%.bam", b"12345")
        stat = storage.stat("folder/a b#%.bam")
        assert stat.size == 5
        assert stat.modified > 0
        assert stat.etag
        assert '"' not in stat.etag
        assert storage.stat("folder/a b#%.bam") == stat

    def test_its_bytes_can_be_read_anywhere(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        content = bytes(range(256)) * 1000
        put("a.bam", content)
        with storage.open("a.bam") as file:
            assert file.read() == content
            file.seek(1000)
            assert file.read(10) == content[1000:1010]
            file.seek(-5, io.SEEK_END)
            assert file.read() == content[-5:]
            assert file.read(1) == b""

    def test_open_takes_the_version_to_open(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        put("a.bam", b"old")
        old = storage.stat("a.bam").etag
        with storage.open("a.bam", etag=old) as file:
            assert file.read() == b"old"
        put("a.bam", b"newer")
        assert storage.stat("a.bam").etag != old
        with pytest.raises(VersionError):
            storage.open("a.bam", etag=old)

    @pytest.mark.parametrize("key", ["b.bam", "a.bam/b", "folder", "folder/b", "A.BAM", *BAD_KEYS])
    def test_only_absence_is_not_found(self, storage: Storage, put: Callable[[str, bytes], None], key: str) -> None:
        put("a.bam", b"1")
        put("folder/c.bam", b"1")
        with pytest.raises(NotFound):
            storage.stat(key)
        with pytest.raises(NotFound):
            storage.open(key)

    def test_files_are_listed_with_their_versions(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        for key in ("a.bam", "folder/b.bam", "folder/deep/c.bam", "folder2/d.bam"):
            put(key, key.encode())
        assert keys(storage) == ["a.bam", "folder/b.bam", "folder/deep/c.bam", "folder2/d.bam"]
        for key, stat in storage.entries():
            assert stat == storage.stat(key)

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["-", "a b", "a-", "a.bam", "a/b/c", "a/b0", "a/\uffee", "a0", "b", "é", "\U0001f600"]),
            ("a", ["a b", "a-", "a.bam", "a/b/c", "a/b0", "a/\uffee", "a0"]),
            ("a/", ["a/b/c", "a/b0", "a/\uffee"]),
            ("a/b", ["a/b/c", "a/b0"]),
            ("a/b/", ["a/b/c"]),
            ("b", ["b"]),
            ("b/", []),
            ("none/", []),
            ("/", []),
            ("../", []),
            ("a/../", []),
            ("a//", []),
            ("\0/", []),
            ("\ud800", []),
            ("x" * 5000, []),
        ],
    )
    def test_in_the_order_of_their_keys_by_prefix_and_from_anywhere(
        self, storage: Storage, put: Callable[[str, bytes], None], prefix: str, expected: list[str]
    ) -> None:
        for key in ("a0", "b", "a/b0", "\U0001f600", "a-", "é", "a/b/c", "-", "a.bam", "a b", "a/\uffee"):
            put(key, b"1")
        assert keys(storage, prefix) == expected
        for position, key in enumerate(expected):
            assert keys(storage, prefix, after=key) == expected[position + 1 :]
        for after in ("\0", "A", "a", "a/", "a/b", "a/b/", "a/b/zzz", "a/zzz", "b/x", "\U0010ffff"):
            assert keys(storage, prefix, after=after) == [key for key in expected if key > after]

    def test_a_folder_holds_files_and_folders(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        for key in ("a.bam", "folder/b.bam", "folder/deep/c.bam", "folder/deep/d.bam", "folder2/d.bam"):
            put(key, key.encode())
        assert list(storage.children()) == [
            ("a.bam", storage.stat("a.bam")),
            ("folder/", None),
            ("folder2/", None),
        ]
        assert list(storage.children("folder/")) == [
            ("folder/b.bam", storage.stat("folder/b.bam")),
            ("folder/deep/", None),
        ]

    @pytest.mark.parametrize(
        ("folder", "expected"),
        [
            ("", ["-", "a b", "a-", "a.bam", "a/", "a0", "b", "é", "é\uffee/", "\U0001f600"]),
            ("a/", ["a/b/", "a/b0", "a/\uffee"]),
            ("a/b/", ["a/b/\U0010ffff", "a/b/\U0010ffffc/"]),
        ],
    )
    def test_a_folder_is_listed_in_the_order_of_the_keys_from_anywhere(
        self, storage: Storage, put: Callable[[str, bytes], None], folder: str, expected: list[str]
    ) -> None:
        for key in ("a0", "b", "a/b0", "\U0001f600", "a-", "é", "-", "a.bam", "a b", "a/\uffee", "é\uffee/x"):
            put(key, b"1")
        for key in ("a/b/\U0010ffff", "a/b/\U0010ffffc/d"):
            put(key, b"1")
        assert [child.key for child in storage.children(folder)] == expected
        for position, key in enumerate(expected):
            assert [child.key for child in storage.children(folder, after=key)] == expected[position + 1 :]
        for after in ("\0", "A", "a", "a/a", "a/b", "a/b/zzz", "a/zzz", "b/x", "é\uffee/a", "\U0010ffff"):
            children = [child.key for child in storage.children(folder, after=after)]
            # A folder that contains `after` is included, even if nothing follows in it.
            name, slash, _ = after.removeprefix(folder).partition("/")
            inside = f"{folder}{name}/" if slash and after.startswith(folder) else None
            assert [key for key in children if key != inside] == [key for key in expected if key > after]
            assert inside not in expected or children[0] == inside

    @pytest.mark.parametrize("folder", ["b/", "a.bam/", "/", "../", "a/../", "a//", "\0/", "\ud800/", "x" * 5000 + "/"])
    def test_a_folder_that_is_absent_is_not_found(
        self, storage: Storage, put: Callable[[str, bytes], None], folder: str
    ) -> None:
        put("a.bam", b"1")
        put("a/b", b"1")
        with pytest.raises(NotFound):
            list(storage.children(folder))

    def test_hidden_files_are_not_listed(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        for key in (".a.bam", ".git/config", "folder/.snapshot/b.bam", "folder/..c", "folder/d."):
            put(key, b"1")
        assert keys(storage) == ["folder/d."]
        for prefix in (".", ".git/", "folder/.", "folder/.snapshot/"):
            assert keys(storage, prefix) == []
        assert list(storage.children()) == [("folder/", None)]
        assert [child.key for child in storage.children("folder/")] == ["folder/d."]
        for hidden in (".git/", "folder/.snapshot/"):
            with pytest.raises(NotFound):
                list(storage.children(hidden))
        # Its key still opens it.
        assert storage.stat(".git/config").size == 1

    def test_a_location_names_the_file(self, storage: Storage) -> None:
        assert storage.location("folder/a.bam").endswith("folder/a.bam")

    def test_a_version_may_be_remembered_for_a_while(self, storage: Storage, put: Callable[[str, bytes], None]) -> None:
        put("a.bam", b"old")
        old = storage.stat("a.bam", max_age=60)
        put("a.bam", b"newer")
        assert storage.stat("a.bam", max_age=60) == old
        new = storage.stat("a.bam")
        assert new != old
        assert storage.stat("a.bam", max_age=60) == new
        with pytest.raises(NotFound):
            storage.stat("b.bam", max_age=60)
        put("b.bam", b"1")
        assert storage.stat("b.bam", max_age=60).size == 1
