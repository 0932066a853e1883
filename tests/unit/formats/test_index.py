"""Indexes against a brute-force model and against htslib."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, max_position
from htsget_flask.formats.index_reader import read_index
from tests.support.bai import bai
from tests.support.files import GOOD_BGZF
from tests.support.files.indexes import index_of
from tests.support.htslib import HtslibIndex

LIMIT = max_position(BAI_MIN_SHIFT, BAI_DEPTH)

positions = st.one_of(st.integers(0, LIMIT - 1), st.integers(0, 100_000), st.integers(0, 16_384 * 9))
lengths = st.one_of(st.integers(1, 500), st.integers(1, 200_000), st.integers(1, LIMIT))
record_lists = st.lists(
    st.builds(lambda start, length: (start, min(LIMIT, start + length)), positions, lengths), max_size=60
).map(sorted)


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

    def test_are_those_of_htslib_by_the_loop_and_by_numpy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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
                expected = oracle.chunks(0, start, end)
                for few in (0, 1 << 30):
                    monkeypatch.setattr("htsget_flask.formats.index._FEW_CHUNKS", few)
                    assert index.chunks(0, start, end) == expected

    def test_are_none_outside(self) -> None:
        index = read_index(bai([[(5, 10)]], with_statistics=True, fillers=0)[0])
        for reference_id, start, end in ((1, 0, 5), (-1, 0, 5), (0, 5, 5), (0, 9, 3), (0, LIMIT, None)):
            assert index.chunks(reference_id, start, end) == []


class TestTheStartsOfRecords:
    def test_are_those_of_all_chunks(self) -> None:
        rng = random.Random(2)
        references = [sorted((start, start + 90) for start in rng.sample(range(10**6), 200)) for _ in range(2)]
        content, offsets = bai(references, with_statistics=True, fillers=0)
        index = read_index(content)
        starts = index.record_starts(0, 1 << 62)
        assert starts == sorted(set(index.chunk_begins.tolist()) - {0})
        assert {offset for some in offsets for offset in some}.issuperset(starts)
        for _ in range(50):
            begin, end = sorted(rng.choices([*starts, starts[0] + 1, starts[-1] + 1], k=2))
            assert index.record_starts(begin, end) == [start for start in starts if begin < start < end]
        assert index.record_starts(starts[0], starts[0]) == []

    def test_are_none_without_records(self) -> None:
        assert read_index(bai([[]], with_statistics=True, fillers=0)[0]).record_starts(0, 1 << 62) == []
