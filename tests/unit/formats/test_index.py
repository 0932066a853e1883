"""Indexes against a brute-force model and against htslib."""

import random
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htsget_flask import array_file as sidecar
from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import (
    BAI_DEPTH,
    BAI_MIN_SHIFT,
    Chunk,
    bin_ranges,
    first_bin,
    max_position,
    merge_chunks,
    parent,
)
from htsget_flask.formats.index import Index
from htsget_flask.formats.index_reader import read_index
from tests.support.files import GOOD_BGZF
from tests.support.files.indexes import index_of
from tests.support.htslib import HtslibIndex

LIMIT = max_position(BAI_MIN_SHIFT, BAI_DEPTH)


def bin_of(start: int, end: int) -> int:
    """The smallest bin that holds positions start to end, from its definition (SAMv1 5.3)."""
    for level in range(BAI_DEPTH, -1, -1):
        size = 1 << (BAI_MIN_SHIFT + 3 * (BAI_DEPTH - level))
        if start // size == (end - 1) // size:
            return first_bin(level) + start // size
    raise AssertionError("beyond the index")


def bai(
    references: list[list[tuple[int, int]]], *, with_statistics: bool, fillers: int
) -> tuple[bytes, list[list[int]]]:
    """A BAI over records (start, end), sorted, each 1,000 virtual bytes long; and the records' virtual offsets."""
    offset, parts = 5 << 16, []
    offsets: list[list[int]] = []
    for records in references:
        bins: dict[int, list[tuple[int, int]]] = {}
        windows: dict[int, int] = {}
        offsets.append([])
        begin = offset
        for start, end in records:
            chunks = bins.setdefault(bin_of(start, end), [])
            following = offset + 1000 if (offset & 0xFFFF) < 60_000 else ((offset >> 16) + 20_000) << 16
            if chunks and chunks[-1][1] == offset:
                chunks[-1] = (chunks[-1][0], following)
            else:
                chunks.append((offset, following))
            for window in range(start >> 14, ((end - 1) >> 14) + 1):
                windows.setdefault(window, offset)
            offsets[-1].append(offset)
            offset = following
        listed = list(bins.items())
        random.Random(len(records)).shuffle(listed)
        part = struct.pack("<i", len(listed) + (with_statistics and bool(records)))
        for number, chunks in listed:
            part += struct.pack("<Ii", number, len(chunks)) + b"".join(struct.pack("<QQ", *chunk) for chunk in chunks)
        if with_statistics and records:
            part += struct.pack("<IiQQQQ", 37450, 2, begin, offset, len(records), 0)
        last = max(windows, default=-1) + 1
        part += struct.pack("<i", last) + b"".join(struct.pack("<Q", windows.get(window, 0)) for window in range(last))
        parts.append(part)
    data = b"BAI\1" + struct.pack("<i", len(references)) + b"".join(parts) + struct.pack("<Q", fillers)
    return data, offsets


positions = st.one_of(st.integers(0, LIMIT - 1), st.integers(0, 100_000), st.integers(0, 16_384 * 9))
lengths = st.one_of(st.integers(1, 500), st.integers(1, 200_000), st.integers(1, LIMIT))
record_lists = st.lists(
    st.builds(lambda start, length: (start, min(LIMIT, start + length)), positions, lengths), max_size=60
).map(sorted)


class TestBins:
    @given(positions, lengths)
    def test_those_of_a_range_are_all_that_overlap_it(self, start: int, length: int) -> None:
        end = min(LIMIT, start + length)
        ranges = bin_ranges(start, end, BAI_MIN_SHIFT, BAI_DEPTH)
        assert len(ranges) == BAI_DEPTH + 1
        for level, (first, last) in enumerate(ranges):
            size = LIMIT >> 3 * level
            for number in {first, last, max(first_bin(level), first - 1), min(first_bin(level + 1) - 1, last + 1)}:
                bin_start = (number - first_bin(level)) * size
                assert (first <= number <= last) == (bin_start < end and start < bin_start + size)

    @given(st.integers(1, first_bin(BAI_DEPTH + 1) - 1))
    def test_a_parent_holds_its_children(self, number: int) -> None:
        level = next(level for level in range(BAI_DEPTH + 1) if number < first_bin(level + 1))
        above = parent(number)
        assert first_bin(level - 1) <= above < first_bin(level)
        assert (above - first_bin(level - 1)) == (number - first_bin(level)) // 8


chunk_lists = st.lists(
    st.builds(lambda begin, length: Chunk(begin, begin + length), st.integers(0, 40 << 16), st.integers(0, 5 << 16))
)


class TestChunksAreMerged:
    @given(chunk_lists, st.integers(0, 3))
    def test_as_sets_of_virtual_offsets(self, chunks: list[Chunk], max_gap: int) -> None:
        merged = merge_chunks(chunks, max_gap=max_gap)
        assert merged == sorted(merged)
        for chunk in chunks:
            if chunk.begin < chunk.end:
                assert any(one.begin <= chunk.begin and chunk.end <= one.end for one in merged)
        for one, other in pairwise(merged):
            assert (other.begin >> 16) - (one.end >> 16) > max_gap
        edges = {chunk.begin for chunk in chunks} | {chunk.end for chunk in chunks}
        assert all(chunk.begin in edges and chunk.end in edges for chunk in merged)


class TestARegionsChunks:
    @pytest.mark.slow
    @settings(deadline=None, max_examples=150)
    @given(st.lists(record_lists, min_size=1, max_size=3), positions, lengths, st.booleans(), st.booleans(), st.data())
    def test_hold_its_records(
        self,
        references: list[list[tuple[int, int]]],
        start: int,
        length: int,
        open_end: bool,
        with_statistics: bool,
        data: st.DataObject,
    ) -> None:
        content, offsets = bai(references, with_statistics=with_statistics, fillers=7)
        index = read_index(content)
        reference_id = data.draw(st.integers(0, len(references) - 1))
        end = LIMIT if open_end else start + length
        chunks = index.chunks(reference_id, start, None if open_end else end)
        for offset, (record_start, record_end) in zip(offsets[reference_id], references[reference_id], strict=True):
            if record_start < end and start < record_end:
                assert any(chunk.begin <= offset < chunk.end for chunk in chunks)

    @pytest.mark.slow
    @settings(deadline=None, max_examples=150)
    @given(record_lists.filter(bool), st.booleans(), st.lists(st.tuples(positions, lengths), min_size=1, max_size=20))
    def test_are_those_of_htslib(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        records: list[tuple[int, int]],
        with_statistics: bool,
        queries: list[tuple[int, int]],
    ) -> None:
        content, _ = bai([records, []], with_statistics=with_statistics, fillers=0)
        path = tmp_path_factory.getbasetemp() / "random.bam.bai"
        path.write_bytes(content)
        index = read_index(content)
        with HtslibIndex(path.with_suffix(""), path) as oracle:
            for start, length in queries:
                for end in (start + length, LIMIT, 1 << 60):
                    assert index.chunks(0, start, end) == oracle.chunks(0, start, end)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(GOOD_BGZF))
    def test_are_those_of_htslib_for_real_files(self, name: str, tmp_path: Path) -> None:
        path = GOOD_BGZF[name](tmp_path)
        index_path = index_of(path)
        assert index_path is not None
        index = read_index(index_path.read_bytes())
        rng = random.Random(name)
        with HtslibIndex(path, index_path) as oracle:
            assert index.reference_count == oracle.n_refs
            assert list(index.reference_names()) == oracle.names()
            for reference_id in range(index.reference_count):
                for _ in range(60):
                    start = int(10 ** rng.uniform(0, 9))
                    end = start + int(10 ** rng.uniform(0, 8))
                    assert index.chunks(reference_id, start, end) == oracle.chunks(reference_id, start, end)
                assert index.chunks(reference_id, 0, None) == oracle.chunks(reference_id, 0, 1 << 60)

    def test_are_those_of_htslib_where_there_are_many(self, tmp_path: Path) -> None:
        rng = random.Random(8)
        records = sorted((start, start + rng.randrange(1, 50_000)) for start in rng.sample(range(3_000_000), 3000))
        content, _ = bai([records], with_statistics=True, fillers=0)
        path = tmp_path / "many.bam.bai"
        path.write_bytes(content)
        index = read_index(content)
        with HtslibIndex(path.with_suffix(""), path) as oracle:
            for _ in range(300):
                start = rng.randrange(3_000_000)
                end = start + rng.randrange(1, 1_000_000)
                assert index.chunks(0, start, end) == oracle.chunks(0, start, end)

    def test_are_none_outside(self) -> None:
        index = read_index(bai([[(5, 10)]], with_statistics=True, fillers=0)[0])
        for reference_id, start, end in ((1, 0, 5), (-1, 0, 5), (0, 5, 5), (0, 9, 3), (0, LIMIT, None)):
            assert index.chunks(reference_id, start, end) == []


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A BAI, a TBI and a CSI with and without names; decompressed, so that no checksum hides damage."""
    import gzip

    folder = tmp_path_factory.mktemp("indexes")
    contents_ = []
    for name in ("bam_normal", "vcf_normal", "vcf_csi", "bcf_normal", "bam_csi"):
        index = index_of(GOOD_BGZF[name](folder))
        assert index is not None
        data = index.read_bytes()
        contents_.append(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    return contents_


class TestADamagedIndexIsRefused:
    def test_every_truncation(self, contents: list[bytes]) -> None:
        for content in contents:
            complete = read_index(content)
            for length in [*range(min(600, len(content))), *range(600, len(content) - 8, 97)]:
                with pytest.raises(FormatError):
                    read_index(content[:length])
            # The number of records without coordinates may be missing: old writers leave it out.
            assert (read_index(content[:-8]).bins == complete.bins).all()

    @pytest.mark.slow
    def test_changed_bytes_raise_nothing_else(self, contents: list[bytes]) -> None:
        rng = random.Random(9)
        for content in contents:
            for _ in range(400):
                changed = bytearray(content)
                for _ in range(rng.randrange(1, 4)):
                    changed[rng.randrange(min(len(changed), 2000))] = rng.choice(
                        (0, 1, 127, 128, 255, rng.randrange(256))
                    )
                try:
                    index = read_index(bytes(changed))
                except FormatError:
                    continue
                index.chunks(0, 0, None)
                index.chunks(0, 1000, 5000)

    def test_a_compressed_one_that_is_cut_short(self, tmp_path: Path) -> None:
        index = index_of(GOOD_BGZF["vcf_normal"](tmp_path))
        assert index is not None
        data = index.read_bytes()
        for length in range(2, len(data) - 30, 7):
            with pytest.raises(FormatError):
                read_index(data[:length])


class TestSidecars:
    @pytest.fixture
    def index(self) -> Index:
        return read_index(bai([[(5, 10), (100, 200_000)], [], [(7, 8)]], with_statistics=True, fillers=3)[0])

    def test_hold_what_was_put_in(self, index: Index, tmp_path: Path) -> None:
        sidecar.store(tmp_path / "new" / "file", "version 1", index.arrays())
        arrays = sidecar.load(tmp_path / "new" / "file", "version 1")
        assert arrays is not None
        for name, array in index.arrays().items():
            assert arrays[name].dtype == array.dtype
            assert np.array_equal(arrays[name], array)
        assert Index.from_arrays(arrays).chunks(0, 0, None) == index.chunks(0, 0, None)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]

    def test_of_another_version_are_not_read(self, index: Index, tmp_path: Path) -> None:
        sidecar.store(tmp_path / "file", "version 1", index.arrays())
        assert sidecar.load(tmp_path / "file", "version 2") is None
        assert sidecar.load(tmp_path / "none", "version 1") is None

    @pytest.mark.slow
    def test_damaged_anywhere_are_not_read(self, index: Index, tmp_path: Path) -> None:
        path = tmp_path / "file"
        sidecar.store(path, "v", index.arrays())
        content = path.read_bytes()
        for offset in range(len(content)):
            path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
            assert sidecar.load(path, "v") is None
        for length in range(0, len(content), 13):
            path.write_bytes(content[:length])
            assert sidecar.load(path, "v") is None

    def test_an_interrupted_write_leaves_nothing(
        self, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            sidecar.store(tmp_path / "file", "v", index.arrays())
        assert list(tmp_path.iterdir()) == []
