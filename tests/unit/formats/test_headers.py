"""Headers: the same references as pysam reads, and FormatError for damaged files."""

import contextlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pysam
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.container import read_cram_header
from htsget_flask.formats.headers import Header, read_bam_header, read_bcf_header, read_vcf_header
from htsget_flask.formats.table import FORMATS as FORMATS_BY_NAME
from tests.support.files import FORMATS, GOOD
from tests.support.files.bcf import SPARSE_IDX, bcf_sparse_idx
from tests.support.files.bgzf import bgzf_block
from tests.support.referenced import write_cram, write_reference

READ: dict[str, Callable[[BinaryIO], Header]] = {
    "BAM": read_bam_header,
    "CRAM": read_cram_header,
    "VCF": read_vcf_header,
    "BCF": read_bcf_header,
}
SMALL = {"BAM": "bam_empty", "CRAM": "cram_empty", "VCF": "vcf_empty", "BCF": "bcf_empty"}


@pytest.fixture(params=sorted(READ))
def format_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestADamagedHeaderIsRefused:
    def test_truncated_anywhere(self, format_name: str, tmp_path: Path) -> None:
        content = GOOD[SMALL[format_name]](tmp_path).read_bytes()
        length_of_header = len(READ[format_name](io.BytesIO(content)).raw)
        for length in range(length_of_header):
            with pytest.raises(FormatError):
                READ[format_name](io.BytesIO(content[:length]))

    def test_changed_anywhere(self, format_name: str, tmp_path: Path) -> None:
        content = GOOD[SMALL[format_name]](tmp_path).read_bytes()
        rng = random.Random(format_name)
        for _ in range(500):
            changed = bytearray(content)
            for _ in range(rng.randrange(1, 3)):
                changed[rng.randrange(min(400, len(changed)))] = rng.randrange(256)
            with contextlib.suppress(FormatError):
                READ[format_name](io.BytesIO(bytes(changed)))

    def test_false_lengths(self) -> None:
        for value in (-1, 1 << 30, (1 << 31) - 1):
            false_length = value.to_bytes(4, "little", signed=True)
            for content in (
                b"BAM\1" + false_length,
                b"BAM\1\0\0\0\0" + false_length,
                b"BAM\1\0\0\0\0\1\0\0\0" + false_length,
            ):
                with pytest.raises(FormatError):
                    read_bam_header(io.BytesIO(bgzf_block(content)))
            with pytest.raises(FormatError):
                read_bcf_header(io.BytesIO(bgzf_block(b"BCF\2\2" + false_length)))

    def test_an_idx_that_is_not_a_number(self) -> None:
        text = b"##fileformat=VCFv4.3\n##contig=<ID=1,IDX=x>\n#CHROM\n\0"
        content = b"BCF\2\2" + len(text).to_bytes(4, "little") + text
        with pytest.raises(FormatError):
            read_bcf_header(io.BytesIO(bgzf_block(content)))


class TestAnotherFormat:
    @pytest.mark.parametrize("other", sorted(SMALL))
    def test_is_reported(self, format_name: str, other: str, tmp_path: Path) -> None:
        if format_name != other:
            with pytest.raises(FormatError, match=format_name):
                READ[format_name](io.BytesIO(GOOD[SMALL[other]](tmp_path).read_bytes()))

    def test_old_versions_of_cram(self) -> None:
        for version in (b"\1\0", b"\2\0", b"\4\0"):
            with pytest.raises(FormatError, match="not supported"):
                read_cram_header(io.BytesIO(b"CRAM" + version + bytes(60)))


class TestHeadersAreParsed:
    def test_references_have_the_numbers_of_idx(self, tmp_path: Path) -> None:
        header = read_bcf_header(io.BytesIO(bcf_sparse_idx(tmp_path).read_bytes()))
        assert sorted(one.id for one in header.references.values() if one.id is not None) == sorted(SPARSE_IDX)
        assert header.references.id_limit == max(SPARSE_IDX) + 1

    def test_whatever_quoted_attributes_hold(self) -> None:
        contigs = b'##contig=<length=5,Description="a,ID=wrong>",ID=right>\n##contig=<ID=plain>\n'
        text = b"##fileformat=VCFv4.3\n" + contigs + b"#CHROM\n"
        header = read_vcf_header(io.BytesIO(bgzf_block(text)))
        assert list(header.references) == ["right", "plain"]

    def test_the_sort_order_is_that_of_the_hd_line(self, tmp_path: Path) -> None:
        for order in ("coordinate", "queryname", None):
            line = "@HD\tVN:1.6" + (f"\tSO:{order}" if order else "") + "\n@CO\tSO:wrong\n"
            content = b"BAM\1" + len(line).to_bytes(4, "little") + line.encode() + bytes(4)
            assert read_bam_header(io.BytesIO(bgzf_block(content))).sort_order == order


# pysam warns about files without an end marker.
WITH_EOF = [name for name in sorted(GOOD) if not name.endswith("_no_eof")]


class TestLengthsAreThoseOfTheHeader:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", WITH_EOF)
    def test_of_every_layout(self, name: str, tmp_path: Path) -> None:
        path = GOOD[name](tmp_path)
        with path.open("rb") as file:
            lengths = READ[FORMATS[name]](file).reference_lengths()
        assert lengths == expected_lengths(path)


def expected_lengths(path: Path) -> dict[str, int | None]:
    if path.suffix in (".bam", ".cram"):
        with pysam.AlignmentFile(str(path), check_sq=False) as reads:
            return dict(zip(reads.references, reads.lengths, strict=True))
    with pysam.VariantFile(str(path)) as variants:
        contigs = [record for record in variants.header.records if record.key == "contig"]
        # htslib adds names from the index to the header.
        return {record["ID"]: int(record["length"]) for record in contigs if "length" in record.keys()}


class TestChecksumsAreThoseOfTheHeader:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name", ["bam_odd_names", "cram_2_1", "cram_3_1", "vcf_odd_names", "vcf_no_contig_lines", "bcf_sparse_idx"]
    )
    def test_of_layouts(self, name: str, tmp_path: Path) -> None:
        path = GOOD[name](tmp_path)
        assert checksums(path, FORMATS[name]) == expected_checksums(path)

    def test_of_reads(self, tmp_path: Path) -> None:
        cram = write_cram("without", tmp_path / "a.cram", write_reference(tmp_path / "a.fa"))
        bam = tmp_path / "a.bam"
        pysam.view("-b", "-o", str(bam), str(cram), catch_stdout=False)
        for path, format_name in ((cram, "CRAM"), (bam, "BAM")):
            stated = checksums(path, format_name)
            assert len(stated) == 6
            assert stated == expected_checksums(path)

    @pytest.mark.parametrize(("suffix", "format_name"), [(".vcf.gz", "VCF"), (".bcf", "BCF")])
    def test_of_variants(self, tmp_path: Path, suffix: str, format_name: str) -> None:
        path = tmp_path / f"a{suffix}"
        header = pysam.VariantHeader()
        header.add_line("##contig=<ID=chr1,length=9,md5=b3473497fbdfd9ce58d8287d2f3cbf8f>")
        header.add_line("##contig=<ID=chr2,length=9>")
        pysam.VariantFile(str(path), "w", header=header).close()
        assert checksums(path, format_name) == expected_checksums(path) == {"chr1": "b3473497fbdfd9ce58d8287d2f3cbf8f"}


def checksums(path: Path, format_name: str) -> dict[str, str]:
    with path.open("rb") as file:
        header = READ[format_name](file)
    assert not header.references.have_md5s
    # As a dataset's file does at the first use of a checksum.
    references = FORMATS_BY_NAME[format_name].read_header(io.BytesIO(header.raw), with_md5s=True).references
    return {name: reference.md5 for name, reference in references.items() if reference.md5 is not None}


def expected_checksums(path: Path) -> dict[str, str]:
    if path.suffix in (".bam", ".cram"):
        with pysam.AlignmentFile(str(path), check_sq=False) as reads:
            sequences = reads.header.to_dict().get("SQ", [])
        return {sequence["SN"]: sequence["M5"] for sequence in sequences if "M5" in sequence}
    with pysam.VariantFile(str(path)) as variants:
        contigs = [record for record in variants.header.records if record.key == "contig"]
        return {record["ID"]: record["md5"] for record in contigs if "md5" in record.keys()}
