"""What a file may cost whoever reads it: work linear in its size, memory within bounds."""

import struct
from collections.abc import Iterable
from pathlib import Path

from htsget_flask.formats.headers import read_bcf_header, read_vcf_header
from tests.bounded import outcome
from tests.files import MAX_BLOCK_DATA, bgzf_block

MIB = 1 << 20
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LETTERS = b"a" * 1_000_000


def write(path: Path, pieces: Iterable[bytes]) -> Path:
    """A BGZF file; equal pieces, which have to fit a block, are compressed once."""
    blocks: dict[bytes, bytes] = {}
    with path.open("wb") as file:
        for piece in pieces:
            if piece not in blocks:
                parts = range(0, len(piece), MAX_BLOCK_DATA)
                blocks[piece] = b"".join(bgzf_block(piece[start : start + MAX_BLOCK_DATA]) for start in parts)
            file.write(blocks[piece])
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
        path = write(tmp_path / "x.vcf.gz", [text])
        assert outcome(vcf_references, path, seconds=10).text == names
        path = write(tmp_path / "x.bcf", [b"BCF\2\2" + struct.pack("<i", len(text) + 1) + text + b"\0"])
        assert outcome(bcf_references, path, seconds=10).text == names

    def test_nor_do_many_small_blocks_make_it_more(self, tmp_path: Path) -> None:
        columns = b"#CHROM" + b"\tsample" * 100
        path = write(tmp_path / "x.vcf.gz", [b"##fileformat=VCFv4.3\n", columns, *[b"\ts"] * 50_000, b"\n"])
        assert outcome(vcf_references, path, seconds=10).text == "[]"
