"""Record blocks hold each record once, are bounded, and are the same for all regions except at their ends."""

import itertools
import random
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pytest

from htsget_flask.datasets.edges import Containers, read_parts
from htsget_flask.datasets.region_records import earlier_records, extent_of
from htsget_flask.formats.bgzf import read_blocks, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget import record_spans
from htsget_flask.htsget.block_bytes import parts_of
from htsget_flask.htsget.data_blocks import Records
from htsget_flask.htsget.record_spans import is_short_region, split_containers, split_records, split_region
from htsget_flask.ranges import ByteRange
from htsget_flask.records.region import UNPLACED_ID, RegionFilter
from htsget_flask.records.stream import read_data
from tests.support.files import GOOD_BAM, GOOD_CRAM
from tests.support.files.bam import bam_deep
from tests.support.opened import CountingFile, offsets_by_pysam

STEP = 300_000
END = 5_100_900


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bam_deep(tmp_path_factory.mktemp("deep"))


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_spans, "_BGZF_STEP", STEP)
    monkeypatch.setattr(record_spans, "_CRAM_STEP", 5_000)


def changed(region: RegionFilter | None) -> Records:
    return Records(region, format_name="BAM")


def chunks_of(blocks: Iterable[object]) -> list[Chunk]:
    """The spans of record blocks."""
    return [block.span for block in blocks if isinstance(block, Records) and isinstance(block.span, Chunk)]


def read_region(file: CountingFile, region: RegionFilter) -> bytes:
    extent = extent_of(file, region)
    if extent is None:
        return b""
    return b"".join((*earlier_records(file, region, extent), *read_data(file.content, extent.chunk)))


class TestTheWholeFile:
    def test_in_blocks_that_follow_each_other(self, deep: Path) -> None:
        offsets = offsets_by_pysam(deep)
        with CountingFile(deep) as file:
            blocks = split_records(file, changed(None))
            chunks = chunks_of(blocks)
            assert len(chunks) == len(blocks) > 20
            assert (chunks[0].begin, chunks[-1].end) == (offsets[0], virtual_offset(file.tail, 0))
            for one, following in itertools.pairwise(chunks):
                assert one.end == following.begin
                assert one.end in offsets
            assert max((end >> 16) - (begin >> 16) for begin, end in chunks) <= 2 * STEP
            assert {block.region for block in blocks if isinstance(block, Records)} == {None}
            assert split_records(file, Records(None)) == [Chunk(offsets[0], virtual_offset(file.tail, 0))]

    def test_of_reads_without_a_position(self, deep: Path) -> None:
        with CountingFile(deep) as file:
            whole = chunks_of(split_records(file, changed(None)))
            unplaced = chunks_of(split_records(file, changed(RegionFilter(UNPLACED_ID, 0, None, 0))))
            assert unplaced[0].begin == file.index.last_offset()
            assert len(unplaced) > 3
            assert set(unplaced[1:]) <= set(whole)

    def test_without_records(self, tmp_path: Path) -> None:
        with CountingFile(GOOD_BAM["bam_empty"](tmp_path)) as file:
            assert split_records(file, changed(None)) == split_records(file, Records(None)) == []
            assert split_records(file, changed(RegionFilter(UNPLACED_ID, 0, None, 0))) == []


class TestARegion:
    def test_in_the_blocks_of_the_whole_file(self, deep: Path) -> None:
        rng = random.Random(4)
        with CountingFile(deep) as file:
            whole = chunks_of(split_records(file, changed(None)))
            for _ in range(40):
                start, end = sorted(rng.sample(range(END), 2))
                region = RegionFilter(0, start, rng.choice((end, None)), rng.choice((0, start)))
                blocks = split_records(file, changed(region))
                if len(blocks) == 1 and isinstance(blocks[0], Records) and blocks[0].span is None:
                    assert blocks == [changed(region)]
                    continue
                extent = extent_of(file, region)
                assert extent is not None
                chunks = chunks_of(blocks)
                # The first one has the records before the region, too.
                assert blocks[0] == changed(region)._replace(span=Chunk(0, chunks[0].end))
                assert set(chunks[1:-1]) <= set(whole)
                first, chunks[0] = chunks[0], Chunk(extent.chunk.begin, chunks[0].end)
                assert first.begin == 0
                assert [end for _, end in chunks] == [begin for begin, _ in chunks[1:]] + [extent.chunk.end]
                assert max((end >> 16) - (begin >> 16) for begin, end in chunks) <= 2 * STEP

    def test_without_records(self, deep: Path) -> None:
        with CountingFile(deep) as file:
            assert split_records(file, changed(RegionFilter(0, 10_000_000, 10_000_005, 0))) in (
                [],
                [changed(RegionFilter(0, 10_000_000, 10_000_005, 0))],
            )

    def test_as_data_blocks_of_a_ticket(self, deep: Path) -> None:
        rng = random.Random(9)
        with CountingFile(deep) as file:
            for _ in range(40):
                start = rng.randrange(END)
                end = start + int(10 ** rng.uniform(0, 6.5))
                region = RegionFilter(0, start, end, rng.choice((0, start)))
                longest, has_room = rng.choice((0, 50_000, 4 << 20)), rng.random() < 0.5
                content = b""
                for block in split_region(file, Records(region), longest, 200_000, has_room=has_room):
                    match block:
                        case ByteRange():
                            file.content.seek(block.start)
                            content += file.content.read(len(block))
                            assert len(block) <= 200_000 + (1 << 16)
                        case Chunk() | Records():
                            content += read_parts(lambda: file.content, parts_of(file, block))
                            if isinstance(block, Records):
                                is_short_region(file, block)
                        case _:
                            raise AssertionError(block)
                found = b"".join(block.data for block in read_blocks(BytesIO(content), 0))
                assert found == read_region(file, region), region


class TestContainers:
    @pytest.mark.parametrize("name", ["cram_3_0", "cram_multi_slice", "cram_multi_ref", "cram_2_1"])
    def test_are_each_in_one_block(self, name: str, tmp_path: Path) -> None:
        rng = random.Random(name)
        path = GOOD_CRAM[name](tmp_path)
        with CountingFile(path) as file:
            index = file.crai
            last_end = file.block_end(int(index.containers[-1]))
            ends = [*index.containers.tolist()[1:], last_end]
            whole = split_containers(file, changed(None), index_decides=True)
            for _ in range(60):
                start = rng.randrange(3_000_000)
                end = rng.choice((None, start + int(10 ** rng.uniform(0, 6.5))))
                region = RegionFilter(rng.choice((UNPLACED_ID, 0, 0, 1)), start, end, 0)
                records = rng.choice((changed(region), Records(region)))
                decides = rng.random() < 0.5
                blocks = split_containers(file, records, index_decides=decides)
                expected = index.unplaced() if region.reference_id == UNPLACED_ID else index.overlapping(*region[:3])
                within = index.within(*region[:3]) if decides else frozenset()
                found = []
                for rank, block in enumerate(blocks):
                    span = block if isinstance(block, Containers) else block.span
                    assert isinstance(span, Containers | ByteRange)
                    numbers = [n for n, at in enumerate(index.containers.tolist()) if span.start <= at < span.end]
                    assert (span.start, span.end) == (index.containers[numbers[0]], ends[numbers[-1]])
                    found += numbers
                    if isinstance(block, Containers):
                        assert records.is_cut_only
                        assert within.issuperset(numbers)
                    else:
                        assert (block.region is None) == within.issuperset(numbers)
                        assert block.region in (None, region)
                        # At most a step, and the rest of the last container.
                        assert index.containers[numbers[-1]] - span.start < 5_000
                        if 1 < rank < len(blocks) - 2 and block.region is None and not records.is_cut_only:
                            assert block in whole
                assert found == expected

    def test_of_a_file_without_records(self, tmp_path: Path) -> None:
        with CountingFile(GOOD_CRAM["cram_empty"](tmp_path)) as file:
            assert split_containers(file, changed(None), index_decides=True) == []
