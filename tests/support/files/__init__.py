"""Makers of small genomic files, all made in code, with layouts that a server of byte ranges can get wrong.

Every maker takes a folder, writes one data file there with its index next to it, and returns the path of the data file.
The bytes are the same on every run.
`GOOD` names the makers of files that every reader of the format accepts, `FORMATS` the format of each;
the makers of broken files are in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.files.bam import (
    bam_all_placed,
    bam_big_header,
    bam_contig_without_records,
    bam_csi,
    bam_empty,
    bam_empty_blocks,
    bam_long_contig,
    bam_long_reads,
    bam_no_eof,
    bam_no_references,
    bam_normal,
    bam_odd_names,
    bam_only_unplaced,
    bam_straddling,
    bam_tiny_blocks,
)
from tests.support.files.bcf import (
    bcf_big_header,
    bcf_contig_without_records,
    bcf_empty,
    bcf_long_contig,
    bcf_no_eof,
    bcf_normal,
    bcf_odd_names,
    bcf_sparse_idx,
    bcf_straddling,
    bcf_tiny_blocks,
)
from tests.support.files.broken import (
    bam_eof_inside,
    bam_without_index,
    bcf_without_index,
    cram_without_index,
    plain_gzip_vcf,
    uncompressed_vcf,
    vcf_without_index,
)
from tests.support.files.cram import (
    cram_2_1,
    cram_2_1_short_length,
    cram_3_0,
    cram_3_1,
    cram_big_header,
    cram_contig_without_records,
    cram_embedded_reference,
    cram_empty,
    cram_long_contig,
    cram_multi_ref,
    cram_multi_ref_multi_slice,
    cram_multi_slice,
    cram_no_eof,
    cram_odd_names,
    cram_only_unplaced,
)
from tests.support.files.vcf import (
    vcf_big_header,
    vcf_contig_order,
    vcf_contig_without_records,
    vcf_crlf,
    vcf_csi,
    vcf_empty,
    vcf_empty_blocks,
    vcf_line_per_block,
    vcf_long_contig,
    vcf_mid_line_blocks,
    vcf_no_contig_lines,
    vcf_no_eof,
    vcf_normal,
    vcf_odd_names,
    vcf_tiny_blocks,
)

Maker = Callable[[Path], Path]


def _by_name(*makers: Maker) -> dict[str, Maker]:
    """Makers by the names of their functions."""
    return {maker.__name__: maker for maker in makers}


GOOD_BAM = _by_name(
    bam_normal,
    bam_straddling,
    bam_tiny_blocks,
    bam_big_header,
    bam_no_eof,
    bam_empty,
    bam_only_unplaced,
    bam_no_references,
    bam_all_placed,
    bam_contig_without_records,
    bam_csi,
    bam_long_contig,
    bam_odd_names,
    bam_long_reads,
    bam_empty_blocks,
)

GOOD_CRAM = _by_name(
    cram_2_1,
    cram_2_1_short_length,
    cram_3_0,
    cram_3_1,
    cram_embedded_reference,
    cram_multi_slice,
    cram_multi_ref,
    cram_multi_ref_multi_slice,
    cram_contig_without_records,
    cram_odd_names,
    cram_long_contig,
    cram_big_header,
    cram_only_unplaced,
    cram_empty,
    cram_no_eof,
)

GOOD_VCF = _by_name(
    vcf_normal,
    vcf_csi,
    vcf_mid_line_blocks,
    vcf_tiny_blocks,
    vcf_line_per_block,
    vcf_crlf,
    vcf_no_contig_lines,
    vcf_contig_without_records,
    vcf_contig_order,
    vcf_big_header,
    vcf_no_eof,
    vcf_empty,
    vcf_odd_names,
    vcf_empty_blocks,
    vcf_long_contig,
)

GOOD_BCF = _by_name(
    bcf_normal,
    bcf_straddling,
    bcf_tiny_blocks,
    bcf_sparse_idx,
    bcf_contig_without_records,
    bcf_odd_names,
    bcf_long_contig,
    bcf_big_header,
    bcf_no_eof,
    bcf_empty,
)

GOOD: dict[str, Maker] = {**GOOD_BAM, **GOOD_CRAM, **GOOD_VCF, **GOOD_BCF}
"""All the makers of files, with indexes, which every reader of the format accepts."""

GOOD_BGZF: dict[str, Maker] = {**GOOD_BAM, **GOOD_VCF, **GOOD_BCF}
"""Those of `GOOD` whose files consist of BGZF blocks."""

WITHOUT_INDEX = _by_name(bam_without_index, cram_without_index, vcf_without_index, bcf_without_index)
"""Sound files without an index."""

NOT_BGZF = _by_name(plain_gzip_vcf, uncompressed_vcf)
"""Files which are not what their names say."""

ODD = _by_name(bam_eof_inside)
"""Files which are legal, but against what most readers expect."""

FORMATS: dict[str, str] = {
    name: name.split("_")[0].upper() for makers in (GOOD, WITHOUT_INDEX, ODD) for name in makers
} | dict.fromkeys(NOT_BGZF, "VCF")
"""The format of each maker's file: BAM, CRAM, VCF or BCF."""
