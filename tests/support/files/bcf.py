"""BCF files."""

from __future__ import annotations

from pathlib import Path

from tests.support.files.bam import GAPS, references_with_gaps
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, cut_unevenly, write_bgzf
from tests.support.files.indexes import make_index
from tests.support.files.vcf import (
    LONG_VARIANT_REFERENCES,
    ODD_VARIANT_REFERENCES,
    SAMPLES,
    VARIANT_REFERENCES,
    bcf_data,
    big_vcf_data,
    contig_line,
    through_htslib,
    vcf_data,
    vcf_header,
)


def bcf_normal(folder: Path) -> Path:
    """As bcftools writes it."""
    path = folder / "normal.bcf"
    through_htslib(path, vcf_data("bcf_normal"), "wb")
    make_index(path)
    return path


def bcf_straddling(folder: Path) -> Path:
    """One stream cut into full blocks, so the header shares a block with records and records straddle blocks."""
    path = folder / "straddling.bcf"
    write_bgzf(path, cut(bcf_data(folder, vcf_data("bcf_straddling", count=8_000)), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bcf_tiny_blocks(folder: Path) -> Path:
    """Blocks of a few hundred bytes, so that most records straddle two."""
    path = folder / "tiny_blocks.bcf"
    write_bgzf(path, cut_unevenly(bcf_data(folder, vcf_data("bcf_tiny_blocks")), 20, 500, "tiny"), level=1)
    make_index(path)
    return path


SPARSE_IDX = (31, 0, 7)
"""The numbers of the three references of `bcf_sparse_idx`, in the order of its header and of its records."""


def bcf_sparse_idx(folder: Path) -> Path:
    """Contig lines with explicit numbers which leave gaps and do not ascend, as filtered files have."""
    path = folder / "sparse_idx.bcf"
    lines = [contig_line(reference, idx) for reference, idx in zip(VARIANT_REFERENCES, SPARSE_IDX, strict=True)]
    data = bcf_data(folder, vcf_data("bcf_sparse_idx", count=3_000, contig_lines=lines))
    for line in lines:
        if line.encode() not in data:
            raise AssertionError(f"the header lost {line}")
    write_bgzf(path, cut(data, 20_000))
    make_index(path)
    return path


def bcf_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between."""
    path = folder / "contig_without_records.bcf"
    data = vcf_data("bcf_contig_without_records", references_with_gaps(), count=3_000, without=GAPS)
    write_bgzf(path, cut(bcf_data(folder, data), 10_000))
    make_index(path)
    return path


def bcf_odd_names(folder: Path) -> Path:
    """Reference names with all the characters that mean something elsewhere."""
    path = folder / "odd_names.bcf"
    data = bcf_data(folder, vcf_data("bcf_odd_names", ODD_VARIANT_REFERENCES, count=3_000))
    write_bgzf(path, cut(data, 20_000))
    make_index(path)
    return path


def bcf_long_contig(folder: Path) -> Path:
    """A reference of 1.2 Gb with records up to its last base."""
    path = folder / "long_contig.bcf"
    data = bcf_data(folder, vcf_data("bcf_long_contig", LONG_VARIANT_REFERENCES, count=3_000))
    write_bgzf(path, cut(data, 8_000))
    make_index(path)
    return path


def bcf_big_header(folder: Path) -> Path:
    """A header of more than 64 KiB even when compressed, which shares its last block with records."""
    path = folder / "big_header.bcf"
    write_bgzf(path, cut(bcf_data(folder, big_vcf_data("bcf_big_header")), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bcf_no_eof(folder: Path) -> Path:
    """Without the empty block at the end."""
    path = folder / "no_eof.bcf"
    write_bgzf(path, cut(bcf_data(folder, vcf_data("bcf_no_eof", count=2_000)), 20_000), eof=False)
    make_index(path)
    return path


def bcf_empty(folder: Path) -> Path:
    """A header and no record."""
    path = folder / "empty.bcf"
    header = vcf_header([contig_line(reference) for reference in VARIANT_REFERENCES], SAMPLES)
    write_bgzf(path, [bcf_data(folder, header)])
    make_index(path)
    return path
