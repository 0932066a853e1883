"""The records of single BGZF blocks, against those that were written."""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import BgzfBlock
from htsget_flask.formats.records import BAM_RECORDS, BCF_RECORDS, VCF_RECORDS, RecordLayout
from htsget_flask.records.block_records import BlockRecords, find_record, read_block_records
from tests.support.files.bam import INSERTION, MATCH, UNMAPPED, Read, bam_record
from tests.support.files.bgzf import cut_unevenly

RNG = random.Random(4)
SIZE = 1000


def reads(starts: Sequence[int], reference_id: int = 0) -> list[bytes]:
    """A read of 30 bases at each of these positions."""
    return [bam_record(Read(f"r{start}", 0, reference_id, start, ((MATCH, 30),), 30), RNG) for start in starts]


def lines(starts: Sequence[int], name: str = "chr1") -> list[bytes]:
    return [f"{name}\t{start + 1}\t.\tACGT\tC\t.\t.\tDP=1\n".encode() for start in starts]


def blocks_of(*data: bytes) -> Callable[[int], BgzfBlock]:
    """A reader of blocks at multiples of 1,000."""

    def read(coffset: int) -> BgzfBlock:
        number, rest = divmod(coffset, SIZE)
        assert not rest
        if number >= len(data):
            raise FormatError("no BGZF block where one should start")
        return BgzfBlock(data[number], SIZE)

    return read


def read(begin: int, *data: bytes, layout: RecordLayout = BAM_RECORDS, limit: int | None = None) -> BlockRecords | None:
    return read_block_records(blocks_of(*data), begin, len(data) * SIZE if limit is None else limit, layout, 2)


def voffset(block: int, uoffset: int = 0) -> int:
    return block * SIZE << 16 | uoffset


class TestTheRecordsOfABlock:
    @pytest.mark.parametrize(("make", "layout"), [(reads, BAM_RECORDS), (lines, VCF_RECORDS)])
    def test_follow_those_of_the_block_before(
        self, make: Callable[[Sequence[int]], list[bytes]], layout: RecordLayout
    ) -> None:
        starts = sorted(random.Random(1).choices(range(5000), k=300))
        records = make(starts)
        for largest in (30, 200, 3000):
            data = list(cut_unevenly(b"".join(records), 20, largest, "x"))
            data.insert(3, b"")
            data.append(b"")
            ends = [0, *accumulate(map(len, data))]
            begin, found, positions = 0, [], []
            while (block := read(begin, *data, layout=layout)) is not None:
                assert begin in (block.begin, (begin >> 16) + 1 << 16) or data[(begin >> 16) // SIZE] == b""
                found += [block.data[a:b] for a, b in zip(block.offsets, block.offsets[1:], strict=False)]
                positions += block.starts.tolist()
                number, uoffset = (block.begin >> 16) // SIZE, block.begin & 0xFFFF
                # All that start in the block.
                assert (
                    ends[number] + uoffset + block.offsets[-2]
                    < ends[number + 1]
                    <= (ends[(block.next >> 16) // SIZE] + (block.next & 0xFFFF))
                )
                assert block.memory >= len(block.data)
                begin = block.next
            assert (found, positions) == (records, starts)

    def test_are_selected_by_position(self) -> None:
        records = reads([10, 20, 30, 40, 70])
        block = read(0, b"".join(records))
        assert block is not None
        assert block.select(45, 0) == records[1:4]
        assert block.select(45, 21) == records[2:4]
        assert block.select(71, 0) == records[4:]
        assert block.select(200, 0) == block.select(10, 0) == []
        sizes = [0, *accumulate(map(len, records))]
        assert [block.offset_of(position) for position in (0, 10, 11, 70, 71)] == [0, 0, sizes[1], sizes[4], None]

    def test_that_start_before_the_reference_are_selected(self) -> None:
        records = reads([-1, 10])
        block = read(0, b"".join(records))
        assert block is not None
        assert block.select(5, 0) == records[:1]
        assert block.select(5, 1) == []

    def test_end_at_another_reference(self) -> None:
        first, second = reads([10, 900]), reads([5, 6], 1)
        data = b"".join(first + second)
        block = read(0, data)
        assert block is not None
        assert (block.reference, block.starts.tolist(), block.next) == (0, [10, 900], len(b"".join(first)))
        rest = read(block.next, data)
        assert rest is not None
        assert (rest.reference, rest.starts.tolist(), rest.next) == (1, [5, 6], voffset(1))
        text = b"".join(lines([10, 900]) + lines([5], "chr10"))
        named = read(0, text, layout=VCF_RECORDS)
        assert named is not None
        assert (named.reference, named.starts.tolist()) == (b"chr1", [10, 900])

    def test_are_none_at_the_end(self) -> None:
        data = b"".join(reads([1]))
        for begin in (voffset(1), voffset(0, len(data)), voffset(5)):
            assert read(begin, data) is None
            assert read(begin, data, b"", limit=SIZE) is None
        assert read(0, b"", b"") is None

    def test_of_vcf_may_lack_the_last_newline(self) -> None:
        text = b"".join(lines([1, 2]))[:-1]
        for data in ((text,), (text[:-5], text[-5:]), (text[:40], b"", text[40:], b"")):
            starts = []
            begin = 0
            while block := read(begin, *data, layout=VCF_RECORDS):
                starts += block.starts.tolist()
                begin = block.next
            assert starts == [1, 2]


class TestDamage:
    def test_in_the_middle_of_a_record(self) -> None:
        data = b"".join(reads(range(20)))
        with pytest.raises(FormatError, match="no record starts where it points"):
            read(voffset(0, 7), data)
        with pytest.raises(FormatError, match="no record starts where it points"):
            read(voffset(0, len(data) + 1), data)
        text = b"".join(lines(range(5)))
        with pytest.raises(FormatError, match="no record starts where it points"):
            read(voffset(0, 7), text, layout=VCF_RECORDS)

    def test_unsorted(self) -> None:
        for data, layout in ((reads([5, 4]), BAM_RECORDS), (lines([5, 4]), VCF_RECORDS)):
            with pytest.raises(FormatError, match="not sorted"):
                read(0, b"".join(data), layout=layout)

    @pytest.mark.parametrize("missing", [1, 3, 30, 60, 70])
    def test_truncated(self, missing: int) -> None:
        data = b"".join(reads(range(3)))
        with pytest.raises(FormatError):
            read(0, data[: len(data) - missing])

    @pytest.mark.parametrize("size", [0, 31, 70 << 20, (1 << 32) - 1])
    def test_with_an_impossible_size(self, size: int) -> None:
        first, second = reads([1, 2])
        changed = size.to_bytes(4, "little") + second[4:]
        for data in ((first + changed,), (first + changed[:3], changed[3:]), (first, changed)):
            begin = 0
            with pytest.raises(FormatError):
                while block := read(begin, *data):
                    begin = block.next

    def test_a_record_without_end(self) -> None:
        line = b"chr1\t1\t.\tA\tC\t.\t.\t" + b"x" * 30_000
        with pytest.raises(FormatError, match="exceeds 64 MiB"):
            read(0, line, *[b"x" * 65_000] * 1100, b"\n", layout=VCF_RECORDS)

    @pytest.mark.parametrize("data", [(b"", *reads([1])), reads([1])])
    def test_with_too_many_empty_blocks(self, data: Sequence[bytes]) -> None:
        first, rest = data[0][:10], data[0][10:]
        with pytest.raises(FormatError, match=r"more than 20,000 BGZF blocks"):
            read(0, first, *[b""] * 20_000, rest, *data[1:])


def tail_offsets(records: list[bytes], start: int) -> set[int]:
    """Where records start in the data from an offset on, relative to it."""
    return {end - start for end in accumulate(map(len, records)) if end >= start}


class TestFindRecord:
    def test_in_the_middle_of_records(self) -> None:
        rng = random.Random(2)
        records = []
        for number in range(400):
            bases = rng.choice((30, 150, 151))
            cigar = ((MATCH, bases),) if number % 3 else ((MATCH, bases - 20), (INSERTION, 20))
            records.append(bam_record(Read(f"r{number}", 0, number % 30, number, cigar, bases), rng))
        data = b"".join(records)
        for start in range(1, 30_000, 297):
            found = find_record(data[start : start + 20_000], BAM_RECORDS, 4000)
            assert found == min(tail_offsets(records, start))

    def test_never_within_a_long_cigar(self) -> None:
        """Its operations are small numbers, as the fields of records are."""
        rng = random.Random(6)
        cigar = tuple((rng.choice((1, 2, 5, 12, 33)), rng.choice((MATCH, INSERTION, MATCH, 2))) for _ in range(60_000))
        cigar = tuple((operation, length) for length, operation in cigar)
        bases = sum(length for operation, length in cigar if operation in (MATCH, INSERTION))
        record = bam_record(Read("long", 0, 3, 7, cigar, bases), rng)
        following = reads(range(3))
        for start in range(100, 230_000, 29_973):
            assert find_record(record[start : start + 3_000], BAM_RECORDS, 3366) is None
        end = 40 + 4 * 60_000
        assert find_record(record[end - 8000 : end], BAM_RECORDS, 3366) is None
        tail = record[-2000:] + b"".join(following * 2)
        assert find_record(tail, BAM_RECORDS, 3366) == 2000

    def test_never_within_numbers(self) -> None:
        numbers = b"".join(number.to_bytes(4, "little") for number in [40] * 2000)
        assert find_record(numbers, BAM_RECORDS, 3366) is None
        assert find_record(numbers, BCF_RECORDS, 3366) is None
        small = random.Random(8)
        for _ in range(10):
            numbers = b"".join(small.choice((0, 1, 7, 23, 33, 40, 55, 90)).to_bytes(4, "little") for _ in range(1000))
            assert find_record(numbers, BAM_RECORDS, 3366) is None
            assert find_record(numbers, BCF_RECORDS, 3366) is None

    def test_never_within_a_line(self) -> None:
        text = b"".join(lines(range(50)))
        assert find_record(text[3:], VCF_RECORDS, 1) == text.index(b"\n") + 1 - 3
        assert find_record(text[3:40], VCF_RECORDS, 1) is None

    def test_of_reads_without_a_position(self) -> None:
        records = [bam_record(Read(f"u{number}", UNMAPPED, -1, -1, (), 100), RNG) for number in range(100)]
        data = b"".join(records)
        for start in (1, 50, 999, 4321):
            assert find_record(data[start:], BAM_RECORDS, 0) == min(tail_offsets(records, start))

    def test_takes_linear_time(self) -> None:
        # Each offset could start a record, and each chain of records breaks at the end only.
        unit = (33 + 2).to_bytes(4, "little") + bytes(8) + b"\x02" + bytes(19) + b"\0" * 4 + b"x\0\0"
        assert find_record(unit * 800 + b"\xff" * 40, BAM_RECORDS, 10) is None
