"""Plans without a file: header, index and tail decide."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from htsget_flask.auth.decision import Grant
from htsget_flask.datasets.edges import Containers
from htsget_flask.errors import NotFound
from htsget_flask.fields import select_fields
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.references import Reference, collect_references
from htsget_flask.formats.table import FORMATS
from htsget_flask.htsget.data_blocks import TEXT, ConvertedPart, FilePart, Records
from htsget_flask.htsget.plan import Terms, plan, windows_of
from htsget_flask.htsget.query import Query
from htsget_flask.ranges import ByteRange
from htsget_flask.records.region import UNPLACED_ID, RegionFilter
from htsget_flask.regions import Region, RegionSet

HEADER_END, TAIL = 1000 << 16, 900_000
CHUNKS = Terms(exact=False)
FEW_FIELDS = Records(None, selection=select_fields(["POS"], None))
BAM_OF_CRAM = Records(None, format_name="BAM")


class Index:
    """An index with one chunk of 100,000 bytes for each reference and million positions, and the starts of records."""

    views = SimpleNamespace(min_shift=14)

    def __init__(self, record_starts: Sequence[int] = ()) -> None:
        self.starts = np.array(record_starts, np.uint64)

    def chunks(self, reference_id: int, start: int, end: int | None) -> list[Chunk]:
        first = reference_id * 400_000 + start // 10 + 1000
        last = (reference_id + 1) * 400_000 if end is None else reference_id * 400_000 + end // 10 + 1000
        return [Chunk(first << 16 | 7, last << 16 | 9)] if first < last else []

    def record_starts(self, begin: int, end: int) -> Any:
        return self.starts[(self.starts >= begin) & (self.starts < end)]

    def last_offset(self) -> int:
        return 850_000 << 16


def open_file(format_name: str, references: Mapping[str, int | None], *, tail: int = TAIL, **more: Any) -> Any:
    def cached(key: object, make: Callable[[], object], size_of: object = None) -> object:
        return make()

    return SimpleNamespace(
        source=SimpleNamespace(id="lab/a", format=FORMATS[format_name]),
        header=SimpleNamespace(end=HEADER_END if format_name != "CRAM" else 1000),
        tail=tail,
        references=collect_references((Reference(name, number) for name, number in references.items()), "the header"),
        block_end=lambda start: start + 3000,
        index_file=None,
        cached=cached,
        **more,
    )


def bam(format_name: str = "BAM", *, tail: int = TAIL, record_starts: Sequence[int] = ()) -> Any:
    index = Index(record_starts)
    references = {"chr1": 0, "chr2": 1, "chrM": None}
    return open_file(format_name, references, tail=tail, index=index, chunks=index.chunks)


def cram(containers: Sequence[int] = (1000, 3000, 6000, 9000)) -> Any:
    entries = np.array([[0, 0, 500, 0], [0, 500, 900, 1], [1, 0, 100, 2], [1, 0, 700, 3]], np.int64)
    references, starts, ends, indices = entries.T
    crai = Crai(references, starts, ends, indices, np.array(containers, np.int64))
    return open_file("CRAM", {"chr1": 0, "chr2": 1}, crai=crai)


def spans(file: Any, *regions: Region, terms: Terms = CHUNKS) -> Sequence[Any]:
    """The spans before the end of file."""
    planned = plan(Query(None, False, regions or None), file, terms)
    assert planned[-1] is FilePart.EOF
    return planned[:-1]


@pytest.mark.parametrize("file", [bam(), cram()], ids=["BAM", "CRAM"])
@pytest.mark.parametrize("terms", [Terms(), CHUNKS, Terms(grant=Grant(RegionSet([])))])
def test_the_header_alone(file: Any, terms: Terms) -> None:
    assert plan(Query(None, True, None), file, terms) == ()


class TestPlansOfChunks:
    def test_the_whole(self) -> None:
        for terms in (Terms(), CHUNKS, Terms(exact="all")):
            assert spans(bam(), terms=terms) == (Chunk(HEADER_END, TAIL << 16),)

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

    @pytest.mark.parametrize("terms", [CHUNKS, Terms(), Terms(grant=Grant(RegionSet([Region("chr1")])))])
    @pytest.mark.parametrize(("name", "suggestion"), [("1", "did you mean chr1?"), ("none", "it has chr1, chr2, chrM")])
    def test_a_reference_that_the_file_does_not_have(self, name: str, suggestion: str, terms: Terms) -> None:
        with pytest.raises(NotFound) as caught:
            plan(Query(None, False, (Region(name),)), bam(), terms)
        assert caught.value.message == f"'lab/a' has no reference {name!r}; {suggestion}"

    def test_regions_in_the_same_windows_are_equal(self) -> None:
        windows = {windows_of(Region("chr1", start, start + 10), bam()) for start in (0, 5, 16_000)}
        assert windows == {("chr1", 0, 0)}
        assert windows_of(Region("chr1", 5, 5), bam()) != windows_of(Region("chr1", 5, 6), bam())
        assert windows_of(Region("chr1", 5), bam()) == ("chr1", 0, None)


class TestPlansOfContainers:
    def test_the_whole(self) -> None:
        for terms in (Terms(), CHUNKS, Terms(exact="all")):
            assert spans(cram(), terms=terms) == (ByteRange(1000, TAIL),)

    @pytest.mark.parametrize("terms", [Terms(), CHUNKS])
    def test_a_region(self, terms: Terms) -> None:
        assert spans(cram(), Region("chr1", 600, 700), terms=terms) == (Containers(3000, 6000),)

    def test_the_last_container(self) -> None:
        assert spans(cram(), Region("chr2", 200, 300)) == (Containers(9000, 12_000),)

    def test_regions_that_share_containers(self) -> None:
        assert spans(cram(), Region("chr2", 0, 10), Region("chr1", 400, 600)) == (Containers(1000, 12_000),)


class TestPlansOfRegions:
    """Exact ones: of files of BGZF blocks by default, of all files with `exact: all`."""

    def test_one(self) -> None:
        region = Region("chr1", 1_000_000, 2_000_000)
        assert spans(bam(), region, terms=Terms()) == (Records(RegionFilter(0, 1_000_000, 2_000_000, 0)),)
        assert spans(bam(), Region("chr2"), terms=Terms()) == (Records(RegionFilter(1, 0, None, 0)),)

    def test_each_record_once_in_file_order(self) -> None:
        regions = (Region("chr2", 0, 50), Region("chr1", 30, 40), Region("chr1", 10, 20), Region("chr1", 15, 25))
        assert spans(bam(), *regions, terms=Terms()) == (
            Records(RegionFilter(0, 10, 25, 0)),
            Records(RegionFilter(0, 30, 40, 25)),
            Records(RegionFilter(1, 0, 50, 0)),
        )

    def test_reads_without_a_position_are_last(self) -> None:
        unplaced = Chunk(850_000 << 16, TAIL << 16)
        assert spans(bam(), Region("*"), terms=Terms()) == (unplaced,)
        planned = spans(bam(), Region("*"), Region("chr1", 0, 20), terms=Terms())
        assert planned == (Records(RegionFilter(0, 0, 20, 0)), unplaced)

    def test_without_records(self) -> None:
        for region in (Region("chrM"), Region("chr1", 5, 5)):
            assert spans(bam(), region, terms=Terms()) == ()

    def test_containers_within_are_not_cut(self) -> None:
        terms = Terms(exact="all")
        assert spans(cram(), Region("chr1"), terms=terms) == (Containers(1000, 6000),)
        assert spans(cram(), Region("chr1", 400), terms=terms) == (
            Records(RegionFilter(0, 400, None, 0), ByteRange(1000, 3000)),
            Containers(3000, 6000),
        )
        assert spans(cram(), Region("chr1", 400, 600), terms=terms) == (
            Records(RegionFilter(0, 400, 600, 0), ByteRange(1000, 6000)),
        )


class TestPlansForGrants:
    """The index does not decide which records are in granted regions."""

    GRANTED = RegionSet([Region("chr2", 0, 50), Region("chr1", 10, 20), Region("chr1", 29, 40)])

    @pytest.mark.parametrize("exact", [True, False, "all"])
    def test_records_of_the_granted_parts_in_file_order(self, exact: Any) -> None:
        terms = Terms(exact, Grant(self.GRANTED))
        filters = [RegionFilter(0, 10, 20, 0), RegionFilter(0, 29, 40, 20), RegionFilter(1, 0, 50, 0)]
        assert spans(bam(), terms=terms) == tuple(map(Records, filters))
        ranges = [ByteRange(1000, 3000), ByteRange(1000, 3000), ByteRange(6000, 12_000)]
        assert spans(cram(), terms=terms) == tuple(map(Records, filters, ranges))

    def test_containers_within_are_cut(self) -> None:
        terms = Terms("all", Grant(RegionSet([Region("chr1")])))
        assert spans(cram(), terms=terms) == (Records(RegionFilter(0, 0, None, 0), ByteRange(1000, 6000)),)

    def test_regions_are_restricted(self) -> None:
        for query in ((Region("chr1", 15, 39),), (Region("chr1", 15, 33), Region("chr1", 33, 39))):
            assert spans(bam(), *query, terms=Terms(grant=Grant(self.GRANTED))) == (
                Records(RegionFilter(0, 15, 20, 0)),
                Records(RegionFilter(0, 29, 39, 20)),
            )

    def test_no_records_outside(self) -> None:
        terms = Terms(grant=Grant(RegionSet([Region("chr1", 10, 20)])))
        assert spans(bam(), Region("*"), Region("chr1", 500, 600), terms=terms) == ()
        assert spans(cram(), Region("*"), Region("chr2"), terms=terms) == ()

    def test_of_fields_are_of_all_records(self) -> None:
        selection = FEW_FIELDS.selection
        terms = Terms(grant=Grant(None, selection), records=FEW_FIELDS)
        unplaced = Records(None, Chunk(850_000 << 16, TAIL << 16), selection)
        assert spans(bam(), Region("*"), terms=terms) == (unplaced,)


class TestPlansOfChangedRecords:
    """With fewer fields, or in another format."""

    def test_of_regions(self) -> None:
        region, one = Region("chr1", 10, 20), RegionFilter(0, 10, 20, 0)
        for exact in (True, False):
            terms = Terms(exact, records=FEW_FIELDS)
            assert spans(bam(), region, terms=terms) == (FEW_FIELDS._replace(region=one),)
            planned = plan(Query(None, False, (region,)), cram(), Terms(exact, records=BAM_OF_CRAM))
            assert planned == (
                BAM_OF_CRAM._replace(region=one, span=ByteRange(1000, 3000)),
                ConvertedPart(FilePart.EOF, "BAM"),
            )

    def test_of_containers_within(self) -> None:
        """They are not tested, but decoded."""
        terms = Terms(records=BAM_OF_CRAM)
        planned = plan(Query(None, False, (Region("chr1", 400),)), cram(), terms)
        assert planned[:-1] == (
            BAM_OF_CRAM._replace(region=RegionFilter(0, 400, None, 0), span=ByteRange(1000, 3000)),
            BAM_OF_CRAM._replace(span=ByteRange(3000, 6000)),
        )

    def test_text_has_no_end(self) -> None:
        text = Records(None, format_name=TEXT)
        planned = plan(Query(None, False, (Region("chr1", 10, 20),)), bam("BCF"), Terms(records=text))
        assert list(planned) == [text._replace(region=RegionFilter(0, 10, 20, 0))]

    def test_the_whole_in_blocks_that_start_with_a_record(self) -> None:
        starts = [20 << 36 | 7, 40 << 36 | 8]  # Two of them after multiples of 16 MiB, at 20 and 40 MiB.
        file = bam(tail=45 << 20, record_starts=[HEADER_END, *starts, 41 << 36])
        bounds = [HEADER_END, *starts, 45 << 36]
        assert spans(file, terms=Terms(records=FEW_FIELDS)) == tuple(
            FEW_FIELDS._replace(span=Chunk(*pair)) for pair in pairwise(bounds)
        )

    def test_the_whole_in_runs_of_containers(self) -> None:
        file = cram((1000, 5 << 20, 9 << 20, 17 << 20))
        planned = plan(Query(None, False, None), file, Terms(records=BAM_OF_CRAM))
        bounds = [1000, 9 << 20, 17 << 20, (17 << 20) + 3000]
        assert planned[:-1] == tuple(BAM_OF_CRAM._replace(span=ByteRange(*pair)) for pair in pairwise(bounds))

    def test_reads_without_a_position(self) -> None:
        entries = np.array([[-1, 0, 9, 1], [0, 0, 500, 0], [0, 500, 900, 1]], np.int64)
        references, starts, ends, indices = entries.T
        crai = Crai(references, starts, ends, indices, np.array([1000, 3000], np.int64))
        file = open_file("CRAM", {"chr1": 0}, crai=crai)
        planned = plan(Query(None, False, (Region("*"),)), file, Terms(records=BAM_OF_CRAM))
        unplaced = RegionFilter(UNPLACED_ID, 0, None, 0)
        assert planned[:-1] == (BAM_OF_CRAM._replace(region=unplaced, span=ByteRange(3000, 6000)),)
