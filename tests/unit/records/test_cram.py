"""CRAM as BAM and as CRAM: whole records are those of samtools, for all of a file, regions and selections of fields."""

import io
import itertools
import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pysam
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.fields import EVERYTHING, FIELDS, FieldSelection, select_fields
from htsget_flask.formats.bgzf import EOF_BLOCK, deflate, read_blocks
from htsget_flask.formats.cram.container import read_cram_header
from htsget_flask.formats.cram.crai import Crai, read_crai
from htsget_flask.formats.headers import Header
from htsget_flask.ranges import ByteRange
from htsget_flask.records import cram_job
from htsget_flask.records.bam_fields import select_bam_fields
from htsget_flask.records.bam_header import bam_header
from htsget_flask.records.cram import (
    Bounds,
    CramSource,
    Letters,
    can_encode,
    decode_containers,
    needs_bases,
)
from htsget_flask.records.cram_job import run_cram_job
from htsget_flask.records.decoder import Decoder
from htsget_flask.records.region import UNPLACED_ID, RegionFilter
from tests.support import referenced
from tests.support.files import GOOD_CRAM
from tests.support.sequences import expected

pytestmark = pytest.mark.slow

REAL = Path(__file__).parents[4] / "shared" / "data" / "reads" / "htsnexus_test_NA12878.cram"
REFERENCED = tuple(referenced.OPTIONS)
NAMES = (*GOOD_CRAM, *REFERENCED, "real")
TAGS = ("NM", "MD", "RG", "XA", "XB", "XC")


def bam_data(blocks: bytes) -> bytes:
    """The data of BGZF blocks."""
    return b"".join(block.data for block in read_blocks(io.BytesIO(blocks), 0))


class Record(NamedTuple):
    """A record: its reference, start and end, and its data in BAM."""

    reference_id: int
    start: int
    end: int
    data: bytes


@dataclass
class Cram:
    """A CRAM file with its index, and its records in BAM as samtools makes them."""

    path: Path
    header: Header
    index: Crai
    records: list["Record"]

    def data(self, selection: FieldSelection = EVERYTHING) -> bytes:
        """What is selected of all records."""
        return select_bam_fields(b"".join(record.data for record in self.records), selection)

    def end(self) -> int:
        """The byte offset after the last container."""
        content = self.path.read_bytes()
        eof = self.header.eof_marker
        return len(content) - len(eof) if content.endswith(eof) else len(content)

    def spans(self) -> list[ByteRange]:
        """All containers."""
        return [ByteRange(self.header.end, self.end())]

    def decode(
        self,
        decoder: Decoder,
        *,
        spans: list[ByteRange] | None = None,
        region: RegionFilter | None = None,
        selection: FieldSelection = EVERYTHING,
        format_name: str = "BAM",
        letters: Letters | None = None,
        bounds: Bounds | None = None,
    ) -> bytes:
        """The block of these records."""
        with self.path.open("rb") as file, tempfile.TemporaryFile(buffering=0) as target:
            decode_containers(
                CramSource(file, self.header, self.path.name),
                self.spans() if spans is None else spans,
                region,
                selection,
                format_name,
                letters or (referenced_letters if needs_bases(selection) else no_letters),
                bounds or self.index.bounds,
                decoder,
                target,
            )
            target.seek(0)
            return target.read()


def sam_lines(path: Path) -> list[str]:
    """The records of a file that needs no reference, as text."""
    return str(pysam.samtools.view("--no-PG", str(path))).splitlines()


LETTERS = [expected(text).letters for text in referenced.sequences().values()]


def referenced_letters(reference_id: int, start: int, end: int) -> Iterator[bytes]:
    """The bases of the references of `referenced`."""
    middle = (start + end) // 2
    yield LETTERS[reference_id][start:middle]
    yield LETTERS[reference_id][middle:end]


def no_letters(_: int, __: int, ___: int) -> Iterator[bytes]:
    """No base is needed."""
    raise AssertionError("a reference is used")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return referenced.write_reference(tmp_path_factory.mktemp("reference") / "reference.fa")


@pytest.fixture(scope="module", params=NAMES)
def cram(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, reference: Path) -> Cram:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "real":
        if not REAL.exists():
            pytest.skip("the real files are not here")
        path = REAL
    elif request.param in REFERENCED:
        path = referenced.write_cram(request.param, folder / f"{request.param}.cram", reference)
    else:
        path = GOOD_CRAM[request.param](folder)
    # samtools 1.16 has other signs of TLEN where both reads of a pair start and end at the same positions.
    options = ["-T", str(reference)] if request.param in REFERENCED else []
    pysam.samtools.view("-u", "--no-PG", *options, "-o", str(folder / "truth.bam"), str(path), catch_stdout=False)
    with path.open("rb") as file:
        header = read_cram_header(file)
    index = read_crai(Path(f"{path}.crai").read_bytes())
    data = bam_data((folder / "truth.bam").read_bytes())
    head = bam_data(bam_header(header))
    assert data.startswith(head)
    return Cram(path, header, index, [*records_of(folder / "truth.bam", data[len(head) :])])


def records_of(path: Path, data: bytes) -> Iterator[Record]:
    """The records of a BAM file; `data` are those of its records."""
    position = 0
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        for record in file.fetch(until_eof=True):
            end = position + 4 + int.from_bytes(data[position : position + 4], "little")
            last = record.reference_end or record.reference_start + 1
            yield Record(record.reference_id, record.reference_start, last, data[position:end])
            position = end
    assert position == len(data)


@pytest.fixture
def rng(cram: Cram) -> random.Random:
    return random.Random(cram.path.name)


def random_selection(rng: random.Random) -> FieldSelection:
    """Fields and tags as a request selects them."""
    fields = rng.choice([None, [], rng.sample(FIELDS, rng.randrange(1, 9))])
    tags = rng.choice([None, [], rng.sample(TAGS, rng.randrange(1, 4))])
    return select_fields(fields, tags, rng.choice([(), rng.sample(TAGS, 2)]) if tags is None else ())


class TestAsBam:
    def test_all_records_are_those_of_samtools(self, cram: Cram, decoder: Decoder) -> None:
        assert bam_data(cram.decode(decoder)) == cram.data()

    def test_the_containers_of_a_span_have_their_part_of_them(
        self, cram: Cram, decoder: Decoder, rng: random.Random
    ) -> None:
        edges = [*cram.index.containers.tolist(), cram.end()]
        cuts = sorted(rng.sample(edges, min(len(edges), 3)))
        spans = [ByteRange(*pair) for pair in itertools.pairwise([cram.header.end, *cuts, cram.end()])]
        parts = [cram.decode(decoder, spans=[span]) for span in spans]
        assert bam_data(b"".join(parts)) == cram.data()
        assert cram.decode(decoder, spans=spans[:1]) == parts[0]

    def test_only_the_selected_fields_are_there(self, cram: Cram, decoder: Decoder, rng: random.Random) -> None:
        for _ in range(3):
            selection = random_selection(rng)
            assert bam_data(cram.decode(decoder, selection=selection)) == cram.data(selection), selection

    def test_the_records_of_a_region_are_those_of_samtools(
        self, cram: Cram, decoder: Decoder, rng: random.Random
    ) -> None:
        placed = [record for record in cram.records if record.reference_id >= 0]
        for _ in range(5 if placed else 0):
            reference_id, start, _, _ = rng.choice(placed)
            start = max(0, start + rng.randrange(-300, 300))
            end = rng.choice([None, start + rng.randrange(1, 9_000)])
            after = rng.choice([0, start, start + 10])
            spans = cram.index.byte_ranges(cram.index.overlapping(reference_id, start, end), cram.end())
            selection = rng.choice([EVERYTHING, random_selection(rng)])
            region = RegionFilter(reference_id, start, end, after)
            within = b"".join(
                record.data
                for record in placed
                if record.reference_id == reference_id
                and record.end > start
                and record.start >= after
                and (end is None or record.start < end)
            )
            data = bam_data(cram.decode(decoder, spans=spans, region=region, selection=selection))
            assert data == select_bam_fields(within, selection), (region, selection)

    def test_the_unplaced_records_are_those_of_samtools(self, cram: Cram, decoder: Decoder) -> None:
        within = b"".join(record.data for record in cram.records if record.reference_id < 0)
        spans = cram.index.byte_ranges(cram.index.unplaced(), cram.end())
        assert bam_data(cram.decode(decoder, spans=spans, region=RegionFilter(UNPLACED_ID, 0, None, 0))) == within


class TestAsCram:
    def test_selected_records_are_those_of_the_bam(
        self, cram: Cram, decoder: Decoder, rng: random.Random, tmp_path: Path
    ) -> None:
        for selection in (EVERYTHING, random_selection(rng)):
            if not can_encode(cram.header, selection):
                assert cram.header.raw[4] == 2
                continue
            path = tmp_path / "answer.cram"
            body = cram.decode(decoder, selection=selection, format_name="CRAM")
            path.write_bytes(cram.header.raw + body + cram.header.eof_marker)
            (tmp_path / "truth.bam").write_bytes(bam_header(cram.header) + deflate(cram.data(selection)) + EOF_BLOCK)
            assert sam_lines(path) == sam_lines(tmp_path / "truth.bam"), selection


class InlineDecoder:
    """Runs jobs in this process."""

    @contextmanager
    def reserve(self) -> Iterator["InlineDecoder"]:
        yield self

    def run(self, job: dict[str, Any], files: list[BinaryIO]) -> None:
        run_cram_job(json.loads(json.dumps(job)), files)


class TestMemory:
    @pytest.mark.parametrize("cram", ["cram_multi_ref", "several_in_slices"], indirect=True)
    def test_has_some_of_the_records_at_a_time(self, cram: Cram, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cram_job, "_MAX_BAM_SIZE", 1)
        for selection in (EVERYTHING, select_fields([], ["NM"])):
            assert bam_data(cram.decode(cast("Decoder", InlineDecoder()), selection=selection)) == cram.data(selection)


class TestTheHeader:
    def test_is_that_of_samtools(self, cram: Cram) -> None:
        data = bam_data(bam_header(cram.header))
        text = str(pysam.samtools.view("-H", "--no-PG", str(cram.path))).encode()
        assert data[: 8 + len(text)] == b"BAM\1" + len(text).to_bytes(4, "little") + text

    @pytest.mark.parametrize("cram", ["version_3_0"], indirect=True)
    def test_has_read_groups_that_a_tag_can_state(self, cram: Cram, decoder: Decoder) -> None:
        other = replace(cram, header=replace(cram.header, read_groups=("one", "tw\ufffd")))
        with pytest.raises(FormatError, match="not UTF-8"):
            other.decode(decoder)
        assert other.decode(decoder, format_name="CRAM")


class TestReferences:
    @pytest.mark.parametrize("cram", ["version_2_1", "version_3_0", "version_3_1", "slices"], indirect=True)
    def test_with_other_letters_are_a_fault(self, cram: Cram, decoder: Decoder) -> None:
        with pytest.raises(FormatError, match="references are not those"):
            cram.decode(decoder, letters=lambda _, start, end: iter([b"A" * (end - start)]))

    @pytest.mark.parametrize("cram", ["version_3_0", "several_references"], indirect=True)
    def test_that_are_too_short_are_a_fault(self, cram: Cram, decoder: Decoder) -> None:
        with pytest.raises(FormatError, match="not as long"):
            cram.decode(decoder, letters=lambda _, start, end: iter([b"A" * (end - start - 1)]))

    @pytest.mark.parametrize("cram", ["several_references", "several_in_slices"], indirect=True)
    def test_are_used_where_the_index_lacks_bounds(
        self, cram: Cram, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert bam_data(cram.decode(decoder, bounds=lambda _: {})) == cram.data()
        monkeypatch.setattr("htsget_flask.records.cram._MAX_UNKNOWN_BASES", 1)
        with pytest.raises(FormatError, match="does not state which references"):
            cram.decode(decoder, bounds=lambda _: {})

    @pytest.mark.parametrize("cram", ["several_references", "several_in_slices"], indirect=True)
    def test_of_records_outside_of_the_bounds_are_a_fault(self, cram: Cram, decoder: Decoder) -> None:
        with pytest.raises(FormatError, match="a record lies outside"):
            cram.decode(decoder, bounds=lambda _: {0: (0, 100)})
        with pytest.raises(FormatError, match="not in the header"):
            cram.decode(decoder, bounds=lambda _: {6: (0, 100)})
