"""The MD5 of references, as pysam reads them from headers."""

from pathlib import Path

import pysam
import pytest

from htsget_flask.datasets.open_file import READ_HEADER
from htsget_flask.formats.checksums import READ_CHECKSUMS
from tests.support.files import FORMATS, GOOD
from tests.support.referenced import write_cram, write_reference

LAYOUTS = ("bam_odd_names", "cram_2_1", "cram_3_1", "vcf_odd_names", "vcf_no_contig_lines", "bcf_sparse_idx")


def checksums(path: Path, form: str) -> dict[str, str]:
    with path.open("rb") as file:
        found = READ_CHECKSUMS[form](READ_HEADER[form](file).raw)
    return {name: md5 for name, md5 in found if md5 is not None}


def stated(path: Path) -> dict[str, str]:
    if path.suffix in (".bam", ".cram"):
        with pysam.AlignmentFile(str(path), check_sq=False) as reads:
            sequences = reads.header.to_dict().get("SQ", [])
        return {sequence["SN"]: sequence["M5"] for sequence in sequences if "M5" in sequence}
    with pysam.VariantFile(str(path)) as variants:
        contigs = [record for record in variants.header.records if record.key == "contig"]
        return {record["ID"]: record["md5"] for record in contigs if "md5" in record.keys()}


class TestChecksumsAreThoseOfTheHeader:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_of_layouts(self, name: str, tmp_path: Path) -> None:
        path = GOOD[name](tmp_path)
        assert checksums(path, FORMATS[name]) == stated(path)

    def test_of_reads(self, tmp_path: Path) -> None:
        cram = write_cram("without", tmp_path / "a.cram", write_reference(tmp_path / "a.fa"))
        bam = tmp_path / "a.bam"
        pysam.view("-b", "-o", str(bam), str(cram), catch_stdout=False)
        for path, form in ((cram, "CRAM"), (bam, "BAM")):
            found = checksums(path, form)
            assert len(found) == 6
            assert found == stated(path)

    @pytest.mark.parametrize(("suffix", "form"), [(".vcf.gz", "VCF"), (".bcf", "BCF")])
    def test_of_variants(self, tmp_path: Path, suffix: str, form: str) -> None:
        path = tmp_path / f"a{suffix}"
        header = pysam.VariantHeader()
        header.add_line("##contig=<ID=chr1,length=9,md5=b3473497fbdfd9ce58d8287d2f3cbf8f>")
        header.add_line("##contig=<ID=chr2,length=9>")
        pysam.VariantFile(str(path), "w", header=header).close()
        assert checksums(path, form) == stated(path) == {"chr1": "b3473497fbdfd9ce58d8287d2f3cbf8f"}
