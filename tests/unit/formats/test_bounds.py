"""The cost of reading any header or index: time linear in its size, and bounded memory."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from htsget_flask.datasets.index_store import IndexFile, load_index
from htsget_flask.formats.cram import container as cram
from htsget_flask.formats.cram.container import read_cram_header
from htsget_flask.formats.cram.crai import read_crai
from htsget_flask.formats.fasta import read_lengths
from htsget_flask.formats.headers import read_bam_header, read_bcf_header, read_vcf_header
from htsget_flask.formats.index_reader import read_index
from htsget_flask.storage import Stat
from tests.support.bounded import outcome
from tests.support.files.bgzf import MAX_BLOCK_DATA, bgzf_block

pytestmark = pytest.mark.slow

MIB = 1 << 20
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LETTERS = b"a" * 1_000_000


def write_bgzf_file(path: Path, chunks: Iterable[bytes]) -> Path:
    """Write a BGZF file of these chunks; equal ones are compressed once."""
    blocks: dict[bytes, bytes] = {}
    with path.open("wb") as file:
        for chunk in chunks:
            if chunk not in blocks:
                parts = range(0, len(chunk), MAX_BLOCK_DATA)
                blocks[chunk] = b"".join(bgzf_block(chunk[start : start + MAX_BLOCK_DATA]) for start in parts)
            file.write(blocks[chunk])
    return path


def vcf_references(path: Path) -> list[str]:
    with path.open("rb") as file:
        return list(read_vcf_header(file).references)


def bcf_references(path: Path) -> list[str]:
    with path.open("rb") as file:
        return list(read_bcf_header(file).references)


class TestALineOfAHeaderTakesLinearTime:
    def test_whatever_it_holds(self, tmp_path: Path) -> None:
        lines = [
            b"##contig=<ID=1," + LETTERS + b">",
            b"##contig=<" + LETTERS + b",ID=2>",
            b"##contig=<ID=3," + LETTERS,
            b'##contig=<ID=4,Description="' + LETTERS + b">",
            b'##contig=<ID=5,Description="' + LETTERS.replace(b"a", b"\\\\"),
            b'##contig=<ID=6,Description="' + LETTERS.replace(b"a", b'\\"') + b'">',
            b"##contig=<ID=7" + LETTERS.replace(b"a", b",a=") + b">",
            b'##contig=<ID=8,a=""' + LETTERS.replace(b"a", b'="') + b">",
            b"##contig=<ID=9" + LETTERS.replace(b"a", b",") + b">",
            b"##contig=<ID=10" + LETTERS.replace(b"a", b">") + b">",
        ]
        text = b"##fileformat=VCFv4.3\n" + b"\n".join(lines) + b"\n" + COLUMNS
        names = str([str(number) for number in range(1, 11)])
        path = write_bgzf_file(tmp_path / "x.vcf.gz", [text])
        assert outcome(vcf_references, path, seconds=10).text == names
        path = write_bgzf_file(tmp_path / "x.bcf", [b"BCF\2\2" + struct.pack("<i", len(text) + 1) + text + b"\0"])
        assert outcome(bcf_references, path, seconds=10).text == names

    def test_of_many_small_blocks_too(self, tmp_path: Path) -> None:
        columns = b"#CHROM" + b"\tsample" * 100
        path = write_bgzf_file(tmp_path / "x.vcf.gz", [b"##fileformat=VCFv4.3\n", columns, *[b"\ts"] * 50_000, b"\n"])
        assert outcome(vcf_references, path, seconds=10).text == "[]"


def vcf_bomb(path: Path) -> Path:
    """A VCF file with an unfinished header of 150 MB."""
    return write_bgzf_file(path, [b"##fileformat=VCFv4.3\n", *[b"##" + b"x" * 60_000 + b"\n"] * 2_500])


def gzip_bomb(path: Path, start: bytes) -> Path:
    """An index of 400 MB, gzipped."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(400):
            file.write(bytes(MIB))
    return path


def index(path: Path) -> object:
    return type(read_index(path.read_bytes()))


def crai(path: Path) -> object:
    return type(read_crai(path.read_bytes()))


def bam_references(path: Path) -> int:
    with path.open("rb") as file:
        return len(read_bam_header(file).references)


def cram_references(path: Path) -> int:
    with path.open("rb") as file:
        return len(read_cram_header(file).references)


def fai_lengths(path: Path) -> int:
    with path.open("rb") as file:
        return len(read_lengths(file, path.stat().st_size))


class TestMemoryIsBounded:
    def test_for_a_header_without_an_end(self, tmp_path: Path) -> None:
        result = outcome(vcf_references, vcf_bomb(tmp_path / "x.vcf.gz"))
        assert (result.text, result.mib < 250) == ("the header exceeds 128 MiB", True), result

    def test_for_a_header_that_states_too_much(self, tmp_path: Path) -> None:
        start = b"BAM\1" + bytes(4) + struct.pack("<i", 10_000_001)
        result = outcome(bam_references, write_bgzf_file(tmp_path / "x.bam", [start]))
        assert (result.text, result.mib < 20) == ("the header has more than 10,000,000 references", True), result
        text = struct.pack("<i", (128 * MIB) + 1)
        assert "out of bounds" in outcome(bam_references, write_bgzf_file(tmp_path / "y.bam", [b"BAM\1" + text])).text

    @pytest.mark.parametrize("start", [b"BAI\1" + bytes(4), b""])
    def test_for_a_compressed_index(self, start: bytes, tmp_path: Path) -> None:
        result = outcome(index, gzip_bomb(tmp_path / "x.csi", start))
        assert (result.text, result.mib < 350) == ("the index, uncompressed, exceeds 256 MiB", True), result

    def test_for_a_compressed_index_of_cram(self, tmp_path: Path) -> None:
        result = outcome(crai, gzip_bomb(tmp_path / "x.crai", b"0\t1\t1\t26\t0\t1\n"))
        assert (result.text, result.mib < 100) == ("the index, uncompressed, exceeds 32 MiB", True), result

    @pytest.mark.parametrize(
        ("count", "unit"),
        [
            # References with one bin, bins without chunks, and bins with equal numbers.
            (1_000_000, struct.pack("<4i", 1, 5, 0, 0)),
            (1, struct.pack("<i", 2_000_000) + bytes(16_000_000) + bytes(4)),
            (1, struct.pack("<i", 1_000_000) + struct.pack("<6I", 5, 1, 7, 0, 9, 0) * 1_000_000 + bytes(4)),
        ],
    )
    def test_for_an_index_of_odd_content(self, count: int, unit: bytes, tmp_path: Path) -> None:
        path = tmp_path / "x.bai"
        path.write_bytes(b"BAI\1" + struct.pack("<i", count) + unit * count)
        result = outcome(index, path)
        assert (result.text.endswith("Index'>"), result.mib < 250) == (True, True), result

    def test_for_a_fai(self, tmp_path: Path) -> None:
        path = tmp_path / "x.fa.fai"
        with path.open("wb") as file:
            file.truncate(1200 * MIB)
        result = outcome(fai_lengths, path)
        assert (result.text, result.mib < 20) == ("the .fai exceeds 64 MiB", True), result
        path.write_bytes(b"".join(b"%d\t1\t1\t1\t2\n" % number for number in range(1_000_001)))
        result = outcome(fai_lengths, path)
        assert (result.text, result.mib < 300) == ("the .fai names more than 1,000,000 sequences", True), result

    def test_for_files_that_grow_while_they_are_read(self) -> None:
        line = b"one\t5\t1\t1\t2\n"
        assert read_lengths(io.BytesIO(line + LETTERS), len(line)) == {"one": 5}
        stat = Stat(10, 0, "version")
        sizes: list[int] = []
        format_ = SimpleNamespace(read_index=lambda data: sizes.append(len(data)))
        source: Any = SimpleNamespace(open=lambda *_, **__: io.BytesIO(LETTERS), format=format_)
        load_index(source, stat, IndexFile("x.bai", stat), None, lambda _: None)
        assert sizes == [10]

    def test_for_numbers_of_thousands_of_digits(self, tmp_path: Path) -> None:
        digits = b"9" * 5000
        fai = tmp_path / "x.fa.fai"
        fai.write_bytes(b"one\t%s\t1\t1\t2\ntwo\t5\t1\t1\t2\n" % digits)
        assert fai_lengths(fai) == 1
        vcf = b"##fileformat=VCFv4.3\n##contig=<ID=one,length=%s>\n%s" % (digits, COLUMNS)
        paths = {"VCF": write_bgzf_file(tmp_path / "x.vcf.gz", [vcf]), "CRAM": tmp_path / "x.cram"}
        paths["CRAM"].write_bytes(cram_header(b"@SQ\tSN:one\tLN:%s\n" % digits))
        for format_name, read in (("VCF", read_vcf_header), ("CRAM", read_cram_header)):
            with paths[format_name].open("rb") as file:
                assert read(file).reference_lengths() == {"one": None}

    def test_for_a_header_of_cram(self, tmp_path: Path) -> None:
        text = (
            b"@HD\tVN:1.6\n" + b"@CO\t" + b"x\t" * 20_000_000 + b"\n@SQ\tSN:one\tLN:1" + b"\tXX:y" * 1_000_000 + b"\n"
        )
        path = tmp_path / "x.cram"
        path.write_bytes(cram_header(text))
        result = outcome(cram_references, path)
        assert (result.text, result.mib < 300) == ("1", True), result


def cram_header(text: bytes) -> bytes:
    """The start of a CRAM 3.0 file: file definition and header container, its text gzipped."""
    content = struct.pack("<i", len(text)) + text
    packed = gzip.compress(content, 1)
    block = b"\1\0\0" + _itf8(len(packed)) + _itf8(len(content)) + packed
    block += struct.pack("<I", zlib.crc32(block))
    head = struct.pack("<i", len(block)) + bytes(6) + b"\1" + bytes(1)
    return b"CRAM\3\0" + bytes(20) + head + struct.pack("<I", zlib.crc32(head)) + block + cram.eof_container(3)


def _itf8(value: int) -> bytes:
    return bytes((0xF0 | value >> 28, value >> 20 & 0xFF, value >> 12 & 0xFF, value >> 4 & 0xFF, value & 0x0F))
