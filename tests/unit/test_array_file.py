"""Files of arrays: what was stored is loaded, or nothing."""

from pathlib import Path

import numpy as np
import pytest

from htsget_flask import array_file
from htsget_flask.formats.index import Index
from htsget_flask.formats.index_reader import read_index
from tests.support.bai import bai


class TestArrayFiles:
    @pytest.fixture
    def index(self) -> Index:
        return read_index(bai([[(5, 10), (100, 200_000)], [], [(7, 8)]], with_statistics=True, fillers=3)[0])

    def test_hold_the_stored_arrays(self, index: Index, tmp_path: Path) -> None:
        array_file.store(tmp_path / "new" / "file", "version 1", index.arrays())
        arrays = array_file.load(tmp_path / "new" / "file", "version 1")
        assert arrays is not None
        for name, array in index.arrays().items():
            assert arrays[name].dtype == array.dtype
            assert np.array_equal(arrays[name], array)
        assert Index.from_arrays(arrays).chunks(0, 0, None) == index.chunks(0, 0, None)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]

    def test_of_another_version_are_not_read(self, index: Index, tmp_path: Path) -> None:
        array_file.store(tmp_path / "file", "version 1", index.arrays())
        assert array_file.load(tmp_path / "file", "version 2") is None
        assert array_file.load(tmp_path / "none", "version 1") is None

    @pytest.mark.slow
    def test_with_any_damage_are_not_read(self, index: Index, tmp_path: Path) -> None:
        path = tmp_path / "file"
        array_file.store(path, "v", index.arrays())
        content = path.read_bytes()
        for offset in range(len(content)):
            path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
            assert array_file.load(path, "v") is None
        for length in range(0, len(content), 13):
            path.write_bytes(content[:length])
            assert array_file.load(path, "v") is None

    def test_an_interrupted_write_leaves_nothing(
        self, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            array_file.store(tmp_path / "file", "v", index.arrays())
        assert list(tmp_path.iterdir()) == []
