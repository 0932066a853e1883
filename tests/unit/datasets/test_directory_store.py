"""Segments in the cache folder, for other workers."""

import logging
from pathlib import Path

import pytest

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.directory_store import is_worth_storing, load_segment, store_segment
from htsget_flask.records.directory import NO_ROWS, Row
from tests.support.opened import CountingFile

ROWS = [Row(number << 20, (number + 1) << 20, 0, number, number + 1, number + 9) for number in range(50)]
SEGMENT = NO_ROWS.extend(ROWS)


class TestAStoredSegment:
    def test_is_found_again(self, tmp_path: Path) -> None:
        folder = tmp_path / "new"
        store_segment(folder, "a.bam", 2, "v1", SEGMENT)
        segment = load_segment(folder, "a.bam", 2, "v1")
        assert [segment.find(row.begin) for row in ROWS] == ROWS
        further = Row(5, 6, 0, 1, 1, 2)
        assert segment.extend([further]).find(5) == further
        for location, number, etag in (("b.bam", 2, "v1"), ("a.bam", 3, "v1"), ("a.bam", 2, "v2")):
            assert len(load_segment(folder, location, number, etag)) == 0
        store_segment(folder, "a.bam", 2, "v2", NO_ROWS.extend([further]))
        assert len(load_segment(folder, "a.bam", 2, "v1")) == 0
        assert len(load_segment(folder, "a.bam", 2, "v2")) == 1
        assert len(list(folder.iterdir())) == 1

    @pytest.mark.parametrize("change", [b"", b"HTSGETF1", b"x", b"x" * 5000])
    def test_that_is_damaged_is_none(self, tmp_path: Path, change: bytes) -> None:
        store_segment(tmp_path, "a.bam", 0, "v1", SEGMENT)
        (path,) = tmp_path.iterdir()
        content = path.read_bytes()
        for damaged in (change, content[: len(content) // 2], content[:-1], content[:-9] + b"\1" + content[-8:]):
            path.write_bytes(damaged)
            assert len(load_segment(tmp_path, "a.bam", 0, "v1")) == 0

    def test_that_others_may_have_written_is_none(self, tmp_path: Path) -> None:
        store_segment(tmp_path, "a.bam", 0, "v1", SEGMENT)
        (path,) = tmp_path.iterdir()
        path.chmod(0o666)
        assert len(load_segment(tmp_path, "a.bam", 0, "v1")) == 0

    def test_that_cannot_be_stored_is_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "file").write_bytes(b"")
        for folder in (tmp_path / "file", tmp_path / "file" / "x"):
            with caplog.at_level(logging.WARNING):
                store_segment(folder, "a.bam", 0, "v1", SEGMENT)
            assert "the cache folder cannot be written" in caplog.text
            caplog.clear()
            assert len(load_segment(folder, "a.bam", 0, "v1")) == 0

    def test_is_nowhere_without_a_folder(self) -> None:
        store_segment(None, "a.bam", 0, "v1", SEGMENT)
        assert load_segment(None, "a.bam", 0, "v1") is NO_ROWS

    def test_is_stored_as_it_grows(self) -> None:
        stores, before = 0, 0
        for after in range(1, 2001):
            if is_worth_storing(before, after):
                stores += 1
            before = after
        assert stores < 40
        assert is_worth_storing(0, 2)
        assert is_worth_storing(100, 130)
        assert not is_worth_storing(100, 100)


def write_data(folder: Path) -> Path:
    """A file that has a size and a version: its content is of no importance here."""
    path = folder / "x.bam"
    path.write_bytes(bytes(1000))
    return path


class TestWorkers:
    def test_share_segments_by_the_folder(self, tmp_path: Path) -> None:
        path, folder = write_data(tmp_path), tmp_path / "cache"
        with CountingFile(path, ByteCache(1 << 20), folder) as file:
            load, extend = file.segments
            assert len(load(1)) == 0
            extend(1, ROWS[:20])
            assert len(load(1)) == 20
            extend(1, ROWS)
            assert load(1).find(ROWS[40].begin) == ROWS[40]
        with CountingFile(path, ByteCache(1 << 20), folder) as file:
            assert file.segments.load(1).find(ROWS[40].begin) == ROWS[40]
            assert len(file.segments.load(0)) == 0
        path.write_bytes(bytes(1001))
        with CountingFile(path, ByteCache(1 << 20), folder) as file:
            assert len(file.segments.load(1)) == 0

    def test_keep_them_in_memory_without_a_folder(self, tmp_path: Path) -> None:
        path, cache = write_data(tmp_path), ByteCache(1 << 20)
        with CountingFile(path, cache) as file:
            file.segments.extend(1, ROWS)
        with CountingFile(path, cache) as file:
            assert len(file.segments.load(1)) == 50

    def test_work_with_a_cache_that_is_too_small(self, tmp_path: Path) -> None:
        path, folder = write_data(tmp_path), tmp_path / "cache"
        with CountingFile(path, ByteCache(10), folder) as file:
            file.segments.extend(1, ROWS[:9])
            file.segments.extend(1, ROWS)
            assert len(file.segments.load(1)) == 50
