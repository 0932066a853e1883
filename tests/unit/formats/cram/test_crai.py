import gzip
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.crai import read_crai

entries = st.lists(
    st.tuples(st.integers(-1, 4), st.integers(1, 500), st.integers(1, 200), st.integers(0, 12)), max_size=40
)


def text(rows: list[tuple[int, int, int, int]]) -> bytes:
    lines = (
        f"{reference}\t{start}\t{span}\t{container * 1000}\t20\t300\n" for reference, start, span, container in rows
    )
    return "".join(lines).encode()


class TestContainersOfARegion:
    @pytest.mark.slow
    @settings(deadline=None)
    @given(entries, st.integers(0, 4), st.integers(0, 600), st.one_of(st.none(), st.integers(0, 900)), st.booleans())
    def test_are_those_of_the_lines_that_overlap_it(
        self, rows: list[tuple[int, int, int, int]], reference: int, start: int, end: int | None, compressed: bool
    ) -> None:
        index = read_crai(gzip.compress(text(rows)) if compressed else text(rows))
        expected = {
            container * 1000
            for number, one_based, span, container in rows
            if number == reference
            and one_based - 1 + span > start
            and (end is None or (one_based - 1 < end and start < end))
        }
        indices = index.overlapping(reference, start, end)
        assert {int(index.containers[position]) for position in indices} == expected
        for container in {row[3] for row in rows}:
            bounds: dict[int, tuple[int, int]] = {}
            for number in {row[0] for row in rows if row[0] >= 0 and row[3] == container}:
                same = [row for row in rows if row[0] == number and row[3] == container]
                bounds[number] = min(row[1] - 1 for row in same), max(row[1] - 1 + row[2] for row in same)
            assert index.bounds(container * 1000) == bounds
        assert index.bounds(500) == {}
        unplaced = {container * 1000 for number, _, _, container in rows if number == -1}
        assert {int(index.containers[position]) for position in index.unplaced()} == unplaced
        first = next((container * 1000 for number, *_, container in rows if number == reference), None)
        assert index.first_container(reference) == first
        starts = sorted({container * 1000 for *_, container in rows})
        covered = {byte for span in index.byte_ranges(indices, 99_000) for byte in range(span.start, span.end, 500)}
        for container, following in zip(starts, [*starts, 99_000][1:], strict=True):
            assert (container in covered) == (container in expected)
            assert (following - 500 in covered) == (container in expected)

    def test_include_those_of_unknown_extent(self) -> None:
        index = read_crai(b"0\t0\t0\t100\t5\t5\n0\t5000\t10\t200\t5\t5\n-2\t0\t0\t300\t5\t5\n")
        assert [int(index.containers[position]) for position in index.overlapping(0, 70, 80)] == [100, 300]
        assert [int(index.containers[position]) for position in index.overlapping(3, 70, 80)] == [300]
        assert (index.first_container(0), index.first_container(3)) == (100, 300)


class TestContainersWithinARegion:
    def test_have_no_records_outside(self) -> None:
        rng = random.Random(3)
        for _ in range(200):
            rows = [
                (rng.randrange(-1, 3), rng.randrange(1, 400), rng.randrange(1, 200), rng.randrange(6))
                for _ in range(rng.randrange(12))
            ]
            index = read_crai(text(rows))
            start, end = rng.randrange(300), rng.choice((None, rng.randrange(300, 800)))
            expected = {
                container * 1000
                for container in {row[3] for row in rows}
                if all(
                    number == 1 and one_based - 1 >= start and (end is None or one_based - 1 + span <= end)
                    for number, one_based, span, other in rows
                    if other == container
                )
            }
            within = index.within(1, start, end)
            assert {int(index.containers[container]) for container in within} == expected
            if end is None or start < end:
                assert within <= set(index.overlapping(1, start, end))

    def test_are_none_of_unknown_extent(self) -> None:
        index = read_crai(b"0\t0\t0\t100\t5\t5\n0\t50\t10\t200\t5\t5\n-2\t0\t0\t300\t5\t5\n0\t60\t1\t300\t5\t5\n")
        assert [int(index.containers[number]) for number in index.within(0, 0, 1000)] == [200]
        assert sorted(int(index.containers[number]) for number in index.within(0, 0, None)) == [100, 200]


class TestADamagedIndexIsRefused:
    @pytest.mark.parametrize(
        "content",
        [
            b"x",
            b"1\t2\n",
            b"1\t2\t3\t4\t5\tsix\n",
            b"1\t2\t3\t4\t5\t6\t7\n",
            b"1 2 3 4 5 6.5\n",
            b"1\t2\t3\t-4\t5\t6\n",
            b"-3\t2\t3\t4\t5\t6\n",
            b"1\t2\t3\t99999999999999999999999\t5\t6\n",
            gzip.compress(b"1\t2\t3\t4\t5\t6\n", mtime=0)[:-4],
            gzip.compress(b"1\t2\t3\t4\t5\t6\n", mtime=0)[:12],
            b"\x1f\x8b\x08\x00noise",
        ],
    )
    def test_that_is_short(self, content: bytes) -> None:
        with pytest.raises(FormatError):
            read_crai(content)

    def test_that_is_long(self) -> None:
        rng = random.Random(4)
        rows = [(rng.randrange(5), rng.randrange(1, 10**6), 100, position) for position in range(5000)]
        content = text(rows)
        assert len(content) > 1 << 16
        assert len(read_crai(content).containers) == 5000
        for damaged in (content[:-9], content + b"x\n", content.replace(b"\t20\t", b"\t2.\t", 1), content + b"1\t2\n"):
            with pytest.raises(FormatError):
                read_crai(damaged)
