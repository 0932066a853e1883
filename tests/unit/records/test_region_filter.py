import io
import random
import tracemalloc
from pathlib import Path

import pysam
import pysam.bcftools
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import EOF_BLOCK, read_blocks, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.index_reader import read_index
from htsget_flask.formats.records import BAM_RECORDS, VCF_RECORDS
from htsget_flask.records.region_filter import RecordFilter, filter_records
from tests.support.bounded import outcome
from tests.support.files.bam import MATCH, Read, Reference, bam_header, bam_record
from tests.support.files.bgzf import MAX_BLOCK_DATA, bgzf_block, cut, write_bgzf
from tests.support.files.indexes import make_index

ALL = RecordFilter(0, 0, None, 0)


def write_reads(folder: Path, count: int) -> tuple[Path, list[Chunk]]:
    """A BAM file with N reads on its only reference, and the chunk of all reads."""
    rng = random.Random(1)
    reference = Reference("chr1", 200_000_000)
    reads = (Read(f"r{number}", 0, 0, number * 300, ((MATCH, 150),), 150) for number in range(count))
    data = b"".join(bam_record(read, rng) for read in reads)
    path = folder / "some.bam"
    write_bgzf(path, [bam_header([reference]), *cut(data, MAX_BLOCK_DATA)], level=1)
    return path, read_index(make_index(path).read_bytes()).chunks(0, 0, None)


class TestRecordsAreReadWhileTheyAreSent:
    @pytest.mark.slow
    def test_in_bounded_memory(self, tmp_path: Path) -> None:
        path, chunks = write_reads(tmp_path, 40_000)
        with path.open("rb", buffering=0) as file:
            tracemalloc.start()
            try:
                size = sum(map(len, filter_records(BAM_RECORDS, file, chunks, ALL)))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert size > 4_000_000
        assert peak < 3_000_000

    def test_no_further_than_the_region(self, tmp_path: Path) -> None:
        path, chunks = write_reads(tmp_path, 20_000)
        with path.open("rb", buffering=0) as file:
            assert b"".join(filter_records(BAM_RECORDS, file, chunks, RecordFilter(0, 300, 301, 0)))
            assert file.tell() < path.stat().st_size // 2
            assert b"".join(filter_records(BAM_RECORDS, file, chunks, RecordFilter(0, 160, 300, 0))) == b""
            assert b"".join(filter_records(BAM_RECORDS, file, chunks, RecordFilter(1, 0, None, 0))) == b""


class TestDamageIsAnError:
    @pytest.mark.parametrize("end", [10, 64, 5_000, -40])
    def test_a_file_that_ends_early(self, tmp_path: Path, end: int) -> None:
        path, chunks = write_reads(tmp_path, 2_000)
        path.write_bytes(path.read_bytes()[:end])
        with path.open("rb", buffering=0) as file, pytest.raises(FormatError):
            list(filter_records(BAM_RECORDS, file, chunks, ALL))

    def test_an_index_of_another_file(self, tmp_path: Path) -> None:
        path, ((begin, end),) = write_reads(tmp_path, 2_000)
        for wrong in (Chunk(begin + 5, end), Chunk(begin, end - 5), Chunk(begin, virtual_offset((end >> 16) - 1, 0))):
            with path.open("rb", buffering=0) as file, pytest.raises(FormatError):
                list(filter_records(BAM_RECORDS, file, [wrong], ALL))


SPANS = [
    (1_000, "A", "<DEL>", "SVLEN=-300", "GT", "0/1"),
    (2_000, "A", "<DEL>", "SVTYPE=DEL;SVLEN=300;END=2100", "GT", "0/1"),
    (3_000, "A", "<DUP:TANDEM>,C,<INV>", "SVLEN=50,5000,400", "GT", "1/3"),
    (4_000, "A", "<INS>", "SVLEN=700", "GT", "0/1"),
    (5_000, "A", "<CNV:TR>", "SVLEN=600", "GT", "0/1"),
    (6_000, "ACGTACGTAC", "A", "END=6003", "GT", "0/1"),
    (7_000, "A", "<*>", ".", "GT:LEN", "0/0:250"),
    (8_000, "A", "C,<NON_REF>", "DP=5", "GT:DP:LEN", "0/0:3:350"),
    (9_000, "A", "<NON_REF>", "END=9500", "GT", "0/0"),
    (10_000, "A", "C", "SVLEN=400", "GT:LEN", "0/1:400"),
    (11_000, "A", "<DEL>", "SVLEN=.", "GT", "0/1"),
    (12_000, "A", "]chr1:99]A", "SVLEN=300", "GT", "0/1"),
    (13_000, "A", "<DELLY>", "SVLEN=300", "GT", "0/1"),
    (14_000, "A", "<DEL>", ".", "GT:LEN", "0/1:300"),
    (15_000, "A", "<*>", "DP=1", "GT:LEN:DP", "0/0:.:3"),
    (16_000, "AC", "<DEL>,<DEL>", "SVLEN=200", "GT", "0/1"),
    (17_000, "A", "<DEL>", "SVLEN=100;END=17400", "GT", "0/1"),
]


def write_spans(folder: Path) -> Path:
    """A VCF file whose records state their ends in every way that VCF has."""
    lines = [
        "##fileformat=VCFv4.5",
        "##contig=<ID=chr1,length=1000000>",
        '##INFO=<ID=END,Number=1,Type=Integer,Description="x">',
        '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="x">',
        '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="x">',
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="x">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">',
        '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">',
        '##FORMAT=<ID=LEN,Number=1,Type=Integer,Description="x">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo",
    ]
    lines += [
        f"chr1\t{position}\t.\t{ref}\t{alt}\t.\t.\t{info}\t{format_}\t{sample}\t{sample}"
        for position, ref, alt, info, format_, sample in SPANS
    ]
    plain = folder / "spans.vcf"
    plain.write_text("\n".join(lines) + "\n")
    path = folder / "spans.vcf.gz"
    pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.tabix_index(str(path), preset="vcf", force=True)
    return path


class TestTheEndOfAVariant:
    def test_is_that_of_htslib(self, tmp_path: Path) -> None:
        path = write_spans(tmp_path)
        index = read_index(Path(f"{path}.tbi").read_bytes())
        steps = [-1, 0, 1, 2, 9, 10, 11, 49, 50, 51, 99, 100, 101, *range(195, 205), *range(245, 255)]
        steps += [
            *range(295, 305),
            *range(345, 355),
            *range(395, 405),
            *range(495, 505),
            *range(595, 605),
            *range(695, 705),
        ]
        with pysam.VariantFile(str(path)) as variants, path.open("rb", buffering=0) as file:
            for position in (record[0] for record in SPANS):
                for start in (position - 1 + step for step in steps):
                    expected = [record.pos for record in variants.fetch("chr1", start, start + 1)]
                    chunks = index.chunks(0, start, start + 1)
                    blocks = b"".join(
                        filter_records(VCF_RECORDS, file, chunks, RecordFilter(b"chr1", start, start + 1, 0))
                    )
                    lines = texts(blocks).splitlines()
                    assert [int(line.split("\t")[1]) for line in lines] == expected, (position, start)

    def test_is_that_of_bcftools(self, tmp_path: Path) -> None:
        path = write_spans(tmp_path)
        index = read_index(Path(f"{path}.tbi").read_bytes())
        with path.open("rb", buffering=0) as file:
            for start in (record[0] + step for record in SPANS for step in (99, 198, 249, 298, 348, 398, 499, 598)):
                expected = pysam.bcftools.view("-H", "-r", f"chr1:{start + 1}-{start + 1}", str(path))
                blocks = filter_records(
                    VCF_RECORDS, file, index.chunks(0, start, start + 1), RecordFilter(b"chr1", start, start + 1, 0)
                )
                assert texts(b"".join(blocks)) == str(expected), start


def texts(blocks: bytes) -> str:
    """The text in BGZF blocks."""
    return b"".join(block.data for block in read_blocks(io.BytesIO(blocks), 0)).decode()


def size_of_records(path: Path) -> int:
    """The size of the records in a region of chr1, in bytes."""
    index = read_index(Path(f"{path}.tbi").read_bytes())
    with path.open("rb", buffering=0) as file:
        return len(
            texts(
                b"".join(filter_records(VCF_RECORDS, file, index.chunks(0, 0, 100), RecordFilter(b"chr1", 0, 100, 0)))
            )
        )


LONG_RECORDS = {
    "alleles": b"A" + b"CC," * 3_500_000 + b"C\t.\t.\t.",
    "lengths": b"<DEL>\t.\t.\tSVLEN=99" + b",12" * 3_500_000,
    "samples": b"<*>\t.\t.\t.\tGT:LEN" + b"\t1:99" * 2_000_000,
    "keys": b"<*>\t.\t.\t.\tGT" + b":xx" * 1_700_000 + b":LEN\t" + b"xx:" * 1_700_001 + b"99",
}


def size_of_record(path: Path) -> int:
    """The size of the records that overlap position 99 of chr1 in a file with one record, in bytes."""
    with path.open("rb", buffering=0) as file:
        chunk = Chunk(0, path.stat().st_size << 16)
        return len(texts(b"".join(filter_records(VCF_RECORDS, file, [chunk], RecordFilter(b"chr1", 98, 99, 0)))))


class TestALongRecord:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", LONG_RECORDS)
    def test_of_many_parts_takes_memory_of_its_size(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "long.vcf.gz"
        record = b"chr1\t%d\t.\tA\t%s\n" % (99 if name == "alleles" else 1, LONG_RECORDS[name])
        write_bgzf(path, cut(record, MAX_BLOCK_DATA), level=1)
        result = outcome(size_of_record, path)
        expected = "a record has more than 10,000 keys in FORMAT" if name == "keys" else str(len(record))
        assert (result.text, result.mib < 85) == (expected, True), result

    @pytest.mark.parametrize("position", [b"9" * 5000, b"", b"-1", "²".encode()])
    def test_with_a_position_that_is_not_a_number(self, position: bytes, tmp_path: Path) -> None:
        path = tmp_path / "damaged.vcf.gz"
        path.write_bytes(bgzf_block(b"chr1\t%s\t.\tA\tC\t.\t.\t.\n" % position))
        with pytest.raises(FormatError, match="damaged"):
            size_of_record(path)

    @pytest.mark.slow
    @pytest.mark.parametrize(("mib", "expected"), [(32, "33554"), (65, "a record exceeds 64 MiB")])
    def test_takes_linear_time(self, mib: int, expected: str, tmp_path: Path) -> None:
        path = tmp_path / "long.vcf.gz"
        head = b"##fileformat=VCFv4.3\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        block = bgzf_block(b"x" * (1 << 15))
        line = [bgzf_block(b"chr1\t10\t.\tA\tC\t.\t.\tX="), *[block] * (mib * 32), bgzf_block(b"\n")]
        last = bgzf_block(b"chr1\t1000\t.\tA\tC\t.\t.\t.\n")
        path.write_bytes(b"".join([bgzf_block(head), *line, last, EOF_BLOCK]))
        pysam.tabix_index(str(path), preset="vcf", force=True)
        result = outcome(size_of_records, path, seconds=4)
        assert (result.text.startswith(expected), result.mib < 400) == (True, True), result
