import array
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pysam
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.fields import EVERYTHING, FIELDS, FieldSelection, select_fields
from htsget_flask.formats.bgzf import read_blocks
from htsget_flask.records.bam_fields import select_bam_fields
from tests.support.files import GOOD_BAM
from tests.support.files.bam import MATCH, SKIP, UNMAPPED, Read, Reference, bam_header, bam_record
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf

REFERENCES = (Reference("chr1", 200_000_000), Reference("chr2", 9_000_000))
HEADER = bam_header(REFERENCES)
NOTHING = select_fields((), ())
# Columns of SAM that have another value than "*" when the field is left out.
UNAVAILABLE = {"PNEXT": "0", "TLEN": "0"}
FIXED = struct.Struct("<iiiBBHHHiiii")


def model(line: str, selection: FieldSelection) -> str:
    """A line of SAM with the selected fields and tags."""
    columns = line.split("\t")
    fields = [
        column if field in selection.fields else UNAVAILABLE.get(field, "*")
        for field, column in zip(FIELDS, columns, strict=False)
    ]
    return "\t".join((*fields, *(tag for tag in columns[11:] if selection.has_tag(tag[:2]))))


def lines_of(folder: Path, records: bytes, header: bytes = HEADER) -> list[str]:
    """The lines that htslib makes of BAM records."""
    path = folder / "some.bam"
    write_bgzf(path, [*cut(header, MAX_BLOCK_DATA), *cut(records, MAX_BLOCK_DATA)], level=1)
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        return [read.to_string() for read in file.fetch(until_eof=True)]


def parts_of(path: Path) -> tuple[bytes, bytes]:
    """The uncompressed header of a BAM file, and its records."""
    with path.open("rb") as file:
        data = b"".join(block.data for block in read_blocks(file, 0))
    end = 8 + int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[end : end + 4], "little")
    end += 4
    for _ in range(count):
        end += 8 + int.from_bytes(data[end : end + 4], "little")
    return data[:end], data[end:]


def some_tags(rng: random.Random) -> Iterator[tuple[str, object, str | None]]:
    """Tags of all types, for a read of pysam."""
    text = "".join(rng.choices("ACGT:;,-^ 019", k=rng.choice((0, 1, 5, 40))))
    numbers = [rng.randrange(100) for _ in range(rng.choice((1, 4, 9)))]
    choices: list[tuple[str, object, str | None]] = [
        ("NM", rng.randrange(200), None),
        ("AS", -rng.randrange(1, 40_000), None),
        ("XL", rng.randrange(1 << 31, 1 << 32), None),
        ("MD", text, "Z"),
        ("RG", "one", "Z"),
        ("XH", "0AFF", "H"),
        ("XA", rng.choice("ABC"), "A"),
        ("de", 0.5, "f"),
        ("CG", 3, "i"),
        *(("B" + code, array.array(code, numbers), None) for code in "bBhHiIf"),
    ]
    return iter(rng.sample(choices, rng.randrange(len(choices))))


def some_records(folder: Path, rng: random.Random, count: int) -> bytes:
    """Records as htslib writes them, with all fields and types of tags; and without names, bases or qualities."""
    path = folder / "made.bam"
    header = pysam.AlignmentHeader.from_references([name for name, _ in REFERENCES], [size for _, size in REFERENCES])
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for number in range(count):
            read = pysam.AlignedSegment(header)
            bases = rng.choice((0, 1, 2, 7, 50, 151))
            read.query_name = rng.choice(("*", "r", f"read:{number}", "x" * 254))
            read.flag = rng.choice((0, 16, 99, 147, 1024))
            read.reference_id, read.reference_start = rng.randrange(2), rng.randrange(1_000_000)
            read.mapping_quality = rng.randrange(256)
            if bases:
                # A read that is clipped whole looks like the placeholder of a long CIGAR.
                read.cigartuples = rng.choice(
                    ([(4, bases)], [(0, bases)], [(5, 3), (0, bases), (2, 9)][: 2 + bases % 2])
                )
                read.query_sequence = "".join(rng.choices("ACGTN", k=bases))
                read.query_qualities = rng.choice((None, array.array("B", [number % 60] * bases)))
            read.next_reference_id, read.next_reference_start = rng.randrange(-1, 2), rng.randrange(-1, 1_000_000)
            read.template_length = rng.randrange(-500, 500)
            read.set_tags(list(some_tags(rng)))
            file.write(read)
    return parts_of(path)[1]


def some_selection(rng: random.Random) -> FieldSelection:
    names = ["NM", "AS", "XL", "MD", "RG", "XH", "XA", "de", "CG", "Bb", "BI", "Bf", "ZZ"]
    fields = rng.sample(FIELDS, rng.randrange(len(FIELDS) + 1))
    tags = rng.choice((None, rng.sample(names, rng.randrange(len(names)))))
    return select_fields(fields, tags, rng.sample(names, rng.randrange(4)) if tags is None else ())


def a_record(tags: bytes = b"", read: Read | None = None) -> bytes:
    """One sound record; these tags are appended to its first one."""
    record = bam_record(read or Read("read", 0, 0, 99, ((MATCH, 20),), 20), random.Random(1)) + tags
    return struct.pack("<i", len(record) - 4) + record[4:]


def long_cigar(name: str, start: int) -> bytes:
    """A record whose CIGAR is in the tag CG, after the tag NM."""
    return a_record(read=Read(name, 0, 0, start, ((MATCH, 1), (SKIP, 3)) * 40_000, 40_000))


class TestRecordsHaveWhatIsSelected:
    """Compared with what htslib reads of the original."""

    def test_of_random_records(self, tmp_path: Path) -> None:
        rng = random.Random("random records")
        records = some_records(tmp_path, rng, 500)
        original = lines_of(tmp_path, records)
        assert len({line.split("\t")[5] for line in original}) > 3
        for _ in range(60):
            selection = some_selection(rng)
            selected = lines_of(tmp_path, select_bam_fields(records, selection))
            assert selected == [model(line, selection) for line in original], selection

    @pytest.mark.parametrize("name", [name for name in GOOD_BAM if "tiny" not in name])
    def test_of_each_file(self, name: str, tmp_path: Path) -> None:
        header, records = parts_of(GOOD_BAM[name](tmp_path))
        original = lines_of(tmp_path, records, header)
        for selection in (NOTHING, some_selection(random.Random(name))):
            selected = lines_of(tmp_path, select_bam_fields(records, selection), header)
            assert selected == [model(line, selection) for line in original], selection

    def test_of_parts_as_of_the_whole(self, tmp_path: Path) -> None:
        rng = random.Random("parts")
        records = some_records(tmp_path, rng, 40)
        selection = select_fields(("SEQ",), ("MD", "NM", "BI"))
        parts, start = [], 0
        while start < len(records):
            end = start + 4 + int.from_bytes(records[start : start + 4], "little")
            parts.append(select_bam_fields(records[start:end], selection))
            start = end
        assert b"".join(parts) == select_bam_fields(records, selection)

    def test_the_bin_stays(self) -> None:
        record = a_record(read=Read("read", 0, 0, 123_456, ((MATCH, 20),), 20))
        before, after = FIXED.unpack_from(record), FIXED.unpack_from(select_bam_fields(record, NOTHING))
        assert before[5] == after[5] != 0
        assert after == (38, *before[1:3], 2, *before[4:8], 0, -1, -1, 0)

    def test_everything_is_the_record(self) -> None:
        assert select_bam_fields(a_record(), EVERYTHING) == a_record()
        assert select_bam_fields(b"", NOTHING) == b""

    def test_selecting_twice_is_selecting_once(self, tmp_path: Path) -> None:
        rng = random.Random("twice")
        records = some_records(tmp_path, rng, 100) + long_cigar("long", 5)
        for _ in range(20):
            selection = some_selection(rng)
            once = select_bam_fields(records, selection)
            assert select_bam_fields(once, selection) == once


class TestALongCigarIsAField:
    @pytest.mark.parametrize(
        "selection",
        [
            NOTHING,
            select_fields((), None),
            select_fields((), None, ("CG",)),
            select_fields(("SEQ",), ("NM",)),
            select_fields(("QNAME",), ("CG",)),
            select_fields(None, None, ("CG", "NM")),
            select_fields(None, ()),
        ],
        ids=str,
    )
    def test_whatever_is_selected(self, selection: FieldSelection, tmp_path: Path) -> None:
        short = a_record(b"CGBI" + struct.pack("<iI", 1, 5))
        records = short + long_cigar("one", 200) + short + long_cigar("two", 300)
        original = lines_of(tmp_path, records)
        assert [line.split("\t")[5].count("M") for line in original] == [1, 40_000, 1, 40_000]
        assert "CG:B:I" in original[0]
        selected = select_bam_fields(records, selection)
        assert lines_of(tmp_path, selected) == [model(line, selection) for line in original]

    def test_of_a_record_without_bases(self, tmp_path: Path) -> None:
        records = select_bam_fields(long_cigar("one", 200), select_fields((), None))
        again = select_bam_fields(records, NOTHING)
        assert lines_of(tmp_path, again) == [model(line, NOTHING) for line in lines_of(tmp_path, records)]

    def test_which_a_tag_of_another_type_is_not(self, tmp_path: Path) -> None:
        for tag in (b"CGBf" + struct.pack("<if", 1, 5), b"CGi" + struct.pack("<i", 5)):
            records = a_record(tag, Read("read", 0, 0, 99, ((4, 20),), 20))
            assert "CG" in lines_of(tmp_path, records)[0]
            selected = lines_of(tmp_path, select_bam_fields(records, NOTHING))
            assert selected == [model(lines_of(tmp_path, records)[0], NOTHING)]


class TestDamageIsAnError:
    TAGS = select_fields(None, ("NM",))

    def assert_damaged(self, records: bytes, selection: FieldSelection = TAGS) -> None:
        for data in (records, a_record() + records, records + a_record(), a_record() + records + a_record()):
            with pytest.raises(FormatError, match="a record is damaged"):
                select_bam_fields(data, selection)

    @pytest.mark.parametrize("size", [-(1 << 31), -5, -4, -1, 0, 31, 20_000, (1 << 31) - 1])
    def test_in_a_record_size(self, size: int) -> None:
        self.assert_damaged(struct.pack("<i", size) + a_record()[4:])

    def test_in_a_last_record(self) -> None:
        record = a_record()
        for size in range(1, len(record)):
            with pytest.raises(FormatError):
                select_bam_fields(record + record[:size], NOTHING)

    @pytest.mark.parametrize(
        ("offset", "value"),
        [(12, b"\0"), (12, b"\xff"), (16, b"\xff\xff"), (20, b"\0\0\0\x80"), (20, b"\xff\xff\xff\x7f")],
    )
    def test_in_the_length_of_a_field(self, offset: int, value: bytes) -> None:
        record = a_record()
        self.assert_damaged(record[:offset] + value + record[offset + len(value) :])

    @pytest.mark.parametrize(
        "tag",
        [
            b"X",
            b"XY",
            b"XYZ",
            b"XYi\0",
            b"XYi\0\0\0",
            b"XYd" + bytes(7),
            b"XY?\0",
            b"XY\0\0",
            b"XYZabc",
            b"XYB",
            b"XYBI",
            b"XYBI\1\0\0",
            b"XYBI\1\0\0\0\0\0\0",
            b"XYBI\xff\xff\xff\xff",
            b"XYBd\xff\xff\xff\xff",
            b"XYBZ\1\0\0\0a\0",
            b"XYBB\0\0\0\0",
            b"XY?\1\0\0\0a\0",
        ],
    )
    def test_in_a_tag(self, tag: bytes) -> None:
        self.assert_damaged(a_record(tag))

    def test_in_a_string_that_ends_in_the_next_record(self) -> None:
        self.assert_damaged(a_record(b"XYZabc") + a_record(b"XYZabc\0"))

    def test_in_the_tags_of_a_long_cigar(self) -> None:
        self.assert_damaged(a_record(b"XYZabc", Read("read", 0, 0, 99, ((4, 20),), 20)), NOTHING)

    def test_or_sound_where_bytes_are_random(self) -> None:
        rng = random.Random("random bytes")
        records = b"".join(a_record(b"XYZabc\0XZBs\3\0\0\0abcdef") for _ in range(4))
        refused = 0
        for _ in range(3_000):
            data = bytearray(records)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                select_bam_fields(bytes(data), some_selection(rng))
            except FormatError:
                refused += 1
        assert 200 < refused < 2_500

    def test_in_no_time(self) -> None:
        """One record of 4 MiB with the smallest tags; and 4 MiB of the smallest records."""
        start = time.process_time()
        self.assert_damaged(a_record(b"NMA1" * (1 << 20)))
        smallest = a_record(read=Read("", UNMAPPED, -1, -1, (), 0))[:37]
        smallest = struct.pack("<i", 33) + smallest[4:]
        assert select_bam_fields(smallest * 110_000, self.TAGS) == smallest * 110_000
        assert time.process_time() - start < 5
