"""Plans without a file: header, index and tail decide."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from htsget_flask.htsget.region_grants import plan_records

from htsget_flask.datasets.edges import Containers
from htsget_flask.errors import NotFound
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.references import Reference, collect_references
from htsget_flask.formats.table import FORMATS
from htsget_flask.htsget.data_blocks import FilePart, Records
from htsget_flask.htsget.plan import plan, windows_of
from htsget_flask.htsget.query import Query
from htsget_flask.ranges import ByteRange
from htsget_flask.regions import Region, RegionSet

HEADER_END, TAIL = 1000 << 16, 900_000


class Index:
    """An index with one chunk of 100,000 bytes for each reference and million positions."""

    views = SimpleNamespace(min_shift=14)

    def chunks(self, reference_id: int, start: int, end: int | None) -> list[Chunk]:
        first = reference_id * 400_000 + start // 10 + 1000
        last = (reference_id + 1) * 400_000 if end is None else reference_id * 400_000 + end // 10 + 1000
        return [Chunk(first << 16 | 7, last << 16 | 9)] if first < last else []

    def last_offset(self) -> int:
        return 850_000 << 16


def open_file(format_name: str, references: Mapping[str, int | None], **more: Any) -> Any:
    def cached(key: object, make: Callable[[], object], size_of: object = None) -> object:
        return make()

    return SimpleNamespace(
        source=SimpleNamespace(id="lab/a", format=FORMATS[format_name]),
        header=SimpleNamespace(end=HEADER_END if format_name != "CRAM" else 1000),
        tail=TAIL,
        references=collect_references((Reference(name, number) for name, number in references.items()), "the header"),
        block_end=lambda start: start + 3000,
        index_file=None,
        cached=cached,
        **more,
    )


def bam() -> Any:
    return open_file("BAM", {"chr1": 0, "chr2": 1, "chrM": None}, index=Index())


def cram() -> Any:
    entries = np.array([[0, 0, 500, 0], [0, 500, 900, 1], [1, 0, 100, 2], [1, 0, 700, 3]], np.int64)
    references, starts, ends, indices = entries.T
    crai = Crai(references, starts, ends, indices, np.array([1000, 3000, 6000, 9000], np.int64))
    return open_file("CRAM", {"chr1": 0, "chr2": 1}, crai=crai)


def spans(file: Any, *regions: Region) -> Sequence[Any]:
    planned = plan(Query(None, False, regions or None), file)
    assert planned[-1] is FilePart.EOF
    return planned[:-1]


class TestPlansOfBlocks:
    def test_the_header_alone(self) -> None:
        assert plan(Query(None, True, None), bam()) == ()

    def test_the_whole(self) -> None:
        assert spans(bam()) == (Chunk(HEADER_END, TAIL << 16),)

    def test_a_region(self) -> None:
        assert spans(bam(), Region("chr1", 1_000_000, 2_000_000)) == (Chunk(101_000 << 16 | 7, 201_000 << 16 | 9),)

    def test_regions_in_file_order_each_record_once(self) -> None:
        regions = (Region("chr2", 0, 1_000_000), Region("chr1", 0, 1_000_000), Region("chr1", 500_000, 1_500_000))
        assert spans(bam(), *regions) == (
            Chunk(1000 << 16 | 7, 151_000 << 16 | 9),
            Chunk(401_000 << 16 | 7, 501_000 << 16 | 9),
        )

    def test_the_reads_without_a_position(self) -> None:
        assert spans(bam(), Region("*")) == (Chunk(850_000 << 16, TAIL << 16),)

    def test_a_reference_without_records(self) -> None:
        assert spans(bam(), Region("chrM")) == ()

    @pytest.mark.parametrize(("name", "suggestion"), [("1", "did you mean chr1?"), ("none", "it has chr1, chr2, chrM")])
    def test_a_reference_that_the_file_does_not_have(self, name: str, suggestion: str) -> None:
        with pytest.raises(NotFound) as caught:
            plan(Query(None, False, (Region(name),)), bam())
        assert caught.value.message == f"'lab/a' has no reference {name!r}; {suggestion}"

    def test_regions_in_the_same_windows_are_equal(self) -> None:
        windows = {windows_of(Region("chr1", start, start + 10), bam()) for start in (0, 5, 16_000)}
        assert windows == {("chr1", 0, 0)}
        assert windows_of(Region("chr1", 5, 5), bam()) != windows_of(Region("chr1", 5, 6), bam())
        assert windows_of(Region("chr1", 5), bam()) == ("chr1", 0, None)


class TestPlansOfContainers:
    def test_the_whole(self) -> None:
        assert spans(cram()) == (ByteRange(1000, TAIL),)

    def test_a_region(self) -> None:
        assert spans(cram(), Region("chr1", 600, 700)) == (Containers(3000, 6000),)

    def test_the_last_container(self) -> None:
        assert spans(cram(), Region("chr2", 200, 300)) == (Containers(9000, 12_000),)

    def test_regions_that_share_containers(self) -> None:
        assert spans(cram(), Region("chr2", 0, 10), Region("chr1", 400, 600)) == (Containers(1000, 12_000),)


class TestPlansForGrants:
    def test_records_of_the_granted_parts_in_file_order(self) -> None:
        granted = RegionSet([Region("chr2", 0, 50), Region("chr1", 10, 20), Region("chr1", 30, 40)])
        for file in (bam(), cram()):
            assert plan_records(Query(None, False, None), granted, file) == (
                Records(0, 10, 20, 0),
                Records(0, 30, 40, 20),
                Records(1, 0, 50, 0),
                FilePart.EOF,
            )

    def test_no_records_outside(self) -> None:
        query = Query(None, False, (Region("*"), Region("chr1", 500, 600)))
        assert plan_records(query, RegionSet([Region("chr1", 10, 20)]), bam()) == (FilePart.EOF,)
