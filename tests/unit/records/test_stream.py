"""Batches of records, and BGZF blocks of them."""

import io
import random
from collections.abc import Iterator
from itertools import accumulate

import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import MAX_BLOCK_DATA, read_blocks, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.records import BAM_RECORDS, VCF_RECORDS, RecordLayout
from htsget_flask.records import stream
from htsget_flask.records.stream import batch_records, read_data, write_bgzf
from tests.support.files.bam import MATCH, Read, bam_record
from tests.support.files.bgzf import BGZF_EOF, bgzf_block, cut_unevenly

RNG = random.Random(5)


def records(count: int, bases: int) -> list[bytes]:
    return [bam_record(Read(f"r{n}", 0, 0, n, ((MATCH, bases),), bases), RNG) for n in range(count)]


def lines(count: int, width: int) -> list[bytes]:
    return [b"chr1\t%d\t%s\n" % (n, b"x" * RNG.randrange(width)) for n in range(count)]


class TestBatches:
    @pytest.mark.parametrize(
        ("parts", "layout"),
        [
            (records(3000, 900), BAM_RECORDS),
            (records(40, 60_000), BAM_RECORDS),
            (records(4, 2_500_000), BAM_RECORDS),
            (lines(9000, 600), VCF_RECORDS),
        ],
        ids=["short", "long", "longer", "lines"],
    )
    def test_are_whole_records_however_the_data_come(self, parts: list[bytes], layout: RecordLayout) -> None:
        data = b"".join(parts)
        ends = {0, *accumulate(map(len, parts))}
        longest = max(map(len, parts))
        for smallest, largest in ((1, 300_000), (60_000, 65_280)):
            batches = list(batch_records(cut_unevenly(data, smallest, largest, "x"), layout))
            assert b"".join(batches) == data
            assert ends.issuperset(accumulate(map(len, batches)))
            assert min(map(len, batches)) > 0
            assert max(map(len, batches)) <= (1 << 20) + 300_000 + 3 * longest

    def test_are_none_of_no_data(self) -> None:
        assert list(batch_records([], BAM_RECORDS)) == list(batch_records([b"", b""], BAM_RECORDS)) == []

    @pytest.mark.parametrize("missing", [1, 40, 60])
    def test_of_data_that_end_in_mid_record_are_a_fault(self, missing: int) -> None:
        data = b"".join(records(5, 10))
        with pytest.raises(FormatError, match="goes beyond the end"):
            list(batch_records([data[:-missing]], BAM_RECORDS))

    def test_of_a_record_without_end_are_a_fault(self) -> None:
        read = 0

        def endless() -> Iterator[bytes]:
            nonlocal read
            yield (1 << 31).to_bytes(4, "little")
            while True:
                read += 1 << 20
                yield bytes(1 << 20)

        with pytest.raises(FormatError, match="exceeds 64 MiB"):
            list(batch_records(endless(), BAM_RECORDS))
        assert read <= 160 << 20


class TestBgzf:
    def test_is_the_same_however_the_data_are_divided(self) -> None:
        data = b"".join(lines(9000, 90)) + RNG.randbytes(200_000)
        outputs = set()
        for smallest, largest in ((1, 9), (1, 200_000), (MAX_BLOCK_DATA, MAX_BLOCK_DATA), (len(data), len(data))):
            target = io.BytesIO()
            write_bgzf(cut_unevenly(data, smallest, largest, "x"), target)
            outputs.add(target.getvalue())
        assert len(outputs) == 1
        blocks = list(read_blocks(io.BytesIO(outputs.pop()), 0))
        assert b"".join(block.data for block in blocks) == data
        assert {len(block.data) for block in blocks[:-1]} == {MAX_BLOCK_DATA}

    def test_of_no_data_is_empty(self) -> None:
        target = io.BytesIO()
        write_bgzf([], target)
        assert target.getvalue() == b""


class TestTheDataOfAChunk:
    PARTS = (b"header", b"abcdef", b"", b"ghi", b"jklmnop")

    def read(self, begin: tuple[int, int], end: tuple[int, int]) -> bytes:
        """The data between positions, each the number of a block and an offset in its data."""
        blocks = [bgzf_block(part, level=6 if part else 0) for part in self.PARTS]
        starts = [0, *accumulate(map(len, blocks))]
        chunk = Chunk(*(virtual_offset(starts[number], uoffset) for number, uoffset in (begin, end)))
        return b"".join(read_data(io.BytesIO(b"".join(blocks) + BGZF_EOF), chunk))

    def test_are_those_between_its_ends(self) -> None:
        data = b"".join(self.PARTS)
        ends = [0, *accumulate(map(len, self.PARTS))]
        positions = [(number, uoffset) for number, part in enumerate(self.PARTS) for uoffset in range(len(part) + 1)]
        positions.append((len(self.PARTS), 0))
        for rank, begin in enumerate(positions):
            for end in positions[rank:]:
                assert self.read(begin, end) == data[ends[begin[0]] + begin[1] : ends[end[0]] + end[1]]

    @pytest.mark.parametrize(("begin", "end"), [((1, 7), (4, 1)), ((1, 0), (1, 7)), ((0, 0), (3, 4))])
    def test_beyond_a_block_are_a_fault(self, begin: tuple[int, int], end: tuple[int, int]) -> None:
        with pytest.raises(FormatError, match="no record starts where it points"):
            self.read(begin, end)

    def test_of_another_file_are_a_fault(self) -> None:
        block = bgzf_block(b"abc")
        file = io.BytesIO(block * 3)
        size = len(block)
        for begin, end in ((0, size + 1), (0, 4 * size), (1, size)):
            with pytest.raises(FormatError):
                list(read_data(file, Chunk(begin << 16, end << 16)))

    def test_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "_MAX_DATA", 10)
        with pytest.raises(FormatError, match="has more than"):
            self.read((0, 0), (4, 0))
