"""BCF as VCF: header and lines are those of bcftools."""

import io
import random
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pysam
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import read_blocks, split_offset
from htsget_flask.formats.headers import Header, read_bcf_header
from htsget_flask.formats.records import BCF_RECORDS
from htsget_flask.records.bcf import format_bcf, vcf_header
from htsget_flask.records.decoder import Decoder
from tests.support.files import GOOD_BCF

pytestmark = pytest.mark.slow

REAL_FOLDER = Path(__file__).parents[4] / "shared" / "data" / "variants"
REAL = ("spec-v4.3.bcf", "sample1-bcbio-cancer.bcf")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(1)


@pytest.fixture(scope="module", params=[*GOOD_BCF, *REAL])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param not in REAL:
        return GOOD_BCF[str(request.param)](tmp_path_factory.mktemp(request.param))
    if not REAL_FOLDER.exists():
        pytest.skip("the real files are not here")
    return REAL_FOLDER / str(request.param)


def header_of(path: Path) -> Header:
    with path.open("rb") as file:
        return read_bcf_header(file)


def data_of(blocks: bytes) -> bytes:
    return b"".join(block.data for block in read_blocks(io.BytesIO(blocks), 0))


def records_of(path: Path) -> list[bytes]:
    """The uncompressed records of a BCF file."""
    coffset, uoffset = split_offset(header_of(path).end)
    data, position, records = data_of(path.read_bytes()[coffset:])[uoffset:], 0, []
    while size := BCF_RECORDS.size(data, position):
        records.append(data[position : position + size])
        position += size
    assert position == len(data)
    return records


def formatted(path: Path, records: Iterable[bytes], decoder: Decoder, *, is_text: bool) -> bytes:
    with tempfile.TemporaryFile(buffering=0) as target:
        format_bcf(header_of(path).raw, records, decoder, target, is_text=is_text)
        target.seek(0)
        return target.read()


def view(path: Path, *options: str) -> bytes:
    command = ["bcftools", "view", "--no-version", *options, str(path)]
    # Without an EOF marker bcftools writes all lines, and fails then.
    return subprocess.run(command, capture_output=True, check=path.stem != "no_eof").stdout


class TestAFile:
    def test_has_the_header_of_bcftools(self, path: Path, decoder: Decoder) -> None:
        assert vcf_header(header_of(path).raw, decoder) == view(path, "-h")

    def test_has_the_lines_of_bcftools(self, path: Path, decoder: Decoder) -> None:
        lines, records = view(path, "-H"), records_of(path)
        assert formatted(path, records, decoder, is_text=True) == lines
        blocks = formatted(path, [b"".join(records)], decoder, is_text=False)
        assert data_of(blocks) == lines
        assert (lines != b"") == (records != [])

    def test_some_records_are_the_same_lines(self, path: Path, decoder: Decoder) -> None:
        rng = random.Random(path.name)
        lines, records = view(path, "-H").splitlines(keepends=True), records_of(path)
        assert len(lines) == len(records)
        for _ in range(5):
            chosen = sorted(rng.sample(range(len(records)), min(len(records), rng.randrange(20))))
            text = formatted(path, [records[number] for number in chosen], decoder, is_text=True)
            assert text == b"".join(lines[number] for number in chosen)


class TestTexts:
    def test_that_are_not_utf8_are_unchanged(self, tmp_path: Path, decoder: Decoder) -> None:
        lines = (
            b"##fileformat=VCFv4.2\n"
            b'##INFO=<ID=X,Number=1,Type=String,Description="d\xe9j\xe0">\n'
            b"##contig=<ID=1,length=9>\n"
            b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
            b"1\t5\t.\tA\tC\t.\t.\tX=na\xefve\n"
        )
        (tmp_path / "x.vcf").write_bytes(lines)
        path = tmp_path / "x.bcf"
        subprocess.run(["bcftools", "view", "--no-version", "-Ob", "-o", path, tmp_path / "x.vcf"], check=True)
        text = vcf_header(header_of(path).raw, decoder) + formatted(path, records_of(path), decoder, is_text=True)
        assert text == view(path)
        assert b"d\xe9j\xe0" in text and b"na\xefve" in text


class TestDamagedRecords:
    @pytest.mark.parametrize("cut", [1, 7, 9, 30])
    def test_that_are_not_whole_are_a_fault(self, tmp_path: Path, decoder: Decoder, cut: int) -> None:
        path = GOOD_BCF["bcf_normal"](tmp_path)
        records = records_of(path)
        with pytest.raises(FormatError, match="damaged"):
            formatted(path, [*records[:3], records[3][:-cut]], decoder, is_text=True)

    def test_with_any_other_bytes_are_lines_or_a_fault(self, tmp_path: Path, decoder: Decoder) -> None:
        path, rng = GOOD_BCF["bcf_normal"](tmp_path), random.Random("damaged")
        records, outcomes = records_of(path)[:20], set()
        expected = formatted(path, records, decoder, is_text=True)
        for _ in range(40):
            record = bytearray(rng.choice(records))
            for _ in range(rng.choice([1, 1, 4])):
                record[rng.randrange(8, len(record))] = rng.choice([rng.randrange(256), 0, 0x7F, 0xFF])
            try:
                text = formatted(path, [*records, bytes(record)], decoder, is_text=True)
                assert text.startswith(expected)
                outcomes.add("lines")
            except FormatError as error:
                outcomes.add(str(error))
        assert len(outcomes) > 1
        assert formatted(path, records, decoder, is_text=True) == expected


def test_the_lines_are_those_of_pysam(tmp_path: Path, decoder: Decoder) -> None:
    path = GOOD_BCF["bcf_normal"](tmp_path)
    with pysam.VariantFile(str(path)) as file:
        lines = "".join(str(record) for record in file)
    assert formatted(path, records_of(path), decoder, is_text=True).decode() == lines
