"""Where the records of VCF lie: against bcftools and a plain model of single lines."""

import random
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats import vcf_spans
from htsget_flask.formats.vcf_spans import find_vcf_spans
from tests.support.bounded import outcome

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
    (18_000, "A", "C", "CIEND=18400;DP=1", "GT", "0/1"),
    (19_000, "A", "C", "DP=1;END=19300", "GT", "0/1"),
    (20_000, "A", "C", "CIEND=5;END=20300;DP=1", "GT", "0/1"),
    (21_000, "A", "C", "END=.", "GT", "0/1"),
    (22_000, "A", "C", "END=21900", "GT", "0/1"),
    (23_000, "A", "C", "DP=1;END=+23200", "GT", "0/1"),
    (24_000, "A", "<DEL>", "SVLEN=+300", "GT", "0/1"),
    (25_000, "A", "<*>", "DP=1", "GT:LEN", "0/0:+250"),
]

HEADER = [
    "##fileformat=VCFv4.5",
    "##contig=<ID=chr1,length=1000000>",
    '##INFO=<ID=END,Number=1,Type=Integer,Description="x">',
    '##INFO=<ID=CIEND,Number=1,Type=Integer,Description="x">',
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="x">',
    '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="x">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="x">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">',
    '##FORMAT=<ID=LEN,Number=1,Type=Integer,Description="x">',
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo",
]
LINES = [
    f"chr1\t{position}\t.\t{ref}\t{alt}\t.\t.\t{info}\t{format_}\t{sample}\t{sample}\n"
    for position, ref, alt, info, format_, sample in SPANS
]


def find(data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """The spans of lines."""
    ends = [offset + 1 for offset, byte in enumerate(data) if byte == 10]
    offsets = np.array([0, *ends] if data.endswith(b"\n") else [0, *ends, len(data)], np.int64)
    name, starts, stops = find_vcf_spans(data, offsets)
    return name, list(zip(starts.tolist(), stops.tolist(), strict=True))


def both_ways(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, list[tuple[int, int]]]:
    """The spans of lines, which are the same column by column and line by line."""
    found = find(data)
    monkeypatch.setattr(vcf_spans, "_MAX_PARSED", 0)
    assert find(data) == found
    monkeypatch.undo()
    return found


class TestTheEndOfAVariant:
    def test_is_that_of_bcftools(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plain, path = tmp_path / "spans.vcf", tmp_path / "spans.vcf.gz"
        plain.write_text("".join(f"{line}\n" for line in HEADER) + "".join(LINES))
        pysam.tabix_compress(str(plain), str(path), force=True)
        pysam.tabix_index(str(path), preset="vcf", force=True)
        name, found = both_ways("".join(LINES).encode(), monkeypatch)
        assert (name, len(found)) == (b"chr1", len(SPANS))
        regions, expected = [], []
        for line, (start, end) in zip(LINES, found, strict=True):
            assert start == int(line.split("\t")[1]) - 1
            # Around the end: bases that the record still covers, and the first that it does not.
            regions += [f"chr1:{start + 1}-{start + 1}", f"chr1:{end}-{end}"]
            # bcftools prints numbers without a plus sign.
            expected += [line.replace("+", "")] * 2
            assert str(pysam.bcftools.view("-H", "-r", f"chr1:{end + 1}-{end + 1}", str(path))) == ""
        for region, line in zip(regions, expected, strict=True):
            assert str(pysam.bcftools.view("-H", "-r", region, str(path))) == line, region


def random_line(rng: random.Random, position: int) -> tuple[str, int]:
    """A line, without its end, and the end of its span."""
    ref = "A" * rng.choice((1, 2, 30))
    alt = rng.choice(("C", ".", "<DEL>", "<*>", "C,<NON_REF>", "<INS>", "<CNV:TR>,<DUP>", "*"))
    end = position - 1 + len(ref)
    info = [rng.choice(("DP=3", "CIEND=99999999", "XEND=5", "BEND=77777777", "END", "SVTYPE=END"))]
    if rng.random() < 0.4:
        stated = rng.choice((position + rng.randrange(10**6), 1))
        info.insert(rng.randrange(2), f"END={stated}")
        end = max(end, stated)
    if rng.random() < 0.4:
        lengths = [rng.randrange(-(10**6), 10**6) for _ in alt.split(",")]
        info.insert(rng.randrange(len(info) + 1), "SVLEN=" + ",".join(map(str, lengths)))
        for allele, length in zip(alt.split(","), lengths, strict=True):
            if allele in ("<DEL>", "<CNV:TR>", "<DUP>"):
                end = max(end, position - 1 + abs(length))
    columns = ["chr1", str(position), rng.choice((".", "rs<1>", "END=5")), ref, alt, ".", "PASS", ";".join(info)]
    if rng.random() < 0.6:
        samples = rng.randrange(4)
        keys = rng.choice((["GT"], ["GT", "LEN"], ["LEN"], ["LEN", "GT", "END"], ["XLEN", "GT"]))
        columns.append(":".join(keys))
        for _ in range(samples):
            values = [str(rng.randrange(10**6)) for _ in keys]
            columns.append(":".join(values))
            if "LEN" in keys and ("<*>" in alt or "<NON_REF>" in alt):
                end = max(end, position - 1 + int(values[keys.index("LEN")]))
    return "\t".join(columns), end


class TestRandomLines:
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_are_where_a_plain_model_has_them(self, newline: str, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = random.Random(newline)
        for _ in range(150):
            lines, expected = [], []
            for _ in range(rng.randrange(1, 30)):
                position = rng.choice((0, 1, 10**9, rng.randrange(10**7)))
                line, end = random_line(rng, position)
                lines.append(line)
                expected.append((position - 1, end))
            data = newline.join(lines) + rng.choice(("", newline))
            assert both_ways(data.encode(), monkeypatch) == (b"chr1", expected)

    def test_end_at_another_reference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = [f"{name}\t5\t.\tA\tC\t.\t.\t.\n" for name in ("chr1", "chr1", "chr10", "chr1")]
        assert both_ways("".join(lines).encode(), monkeypatch) == (b"chr1", [(4, 5)] * 2)
        assert both_ways("".join(lines[2:]).encode(), monkeypatch) == (b"chr10", [(4, 5)])
        short = "".join(lines[:2]) + "x\n\n"
        assert both_ways(short.encode(), monkeypatch) == (b"chr1", [(4, 5)] * 2)


class TestDamagedLines:
    @pytest.mark.parametrize("position", [b"9" * 5000, b"", b"-1", b"1 ", b"+1", b"1e3", "²".encode(), b"."])
    def test_without_a_position(self, position: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        for parsed in (1 << 20, 0):
            monkeypatch.setattr(vcf_spans, "_MAX_PARSED", parsed)
            for before in (b"", b"chr1\t7\t.\tA\tC\t.\t.\t.\n"):
                with pytest.raises(FormatError, match="damaged"):
                    find(before + b"chr1\t%s\t.\tA\tC\t.\t.\t.\n" % position)

    @pytest.mark.parametrize(
        "line", [b"\n", b"chr1\n", b"\t1\t.\tA\tC\t.\t.\t.\n", b"chr1\t1\t.\tA\tC\t.\t.\n", b"x\nchr1\t1\t"]
    )
    def test_with_too_few_columns(self, line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        for parsed in (1 << 20, 0):
            monkeypatch.setattr(vcf_spans, "_MAX_PARSED", parsed)
            with pytest.raises(FormatError, match="damaged"):
                find(line + b"chr1\t7\t.\tA\tC\t.\t.\t.\n")


def find_in(path: Path) -> int:
    """The end of the first record of a file of lines."""
    return find(path.read_bytes())[1][0][1]


LONG_RECORDS = {
    "alleles": b"A" + b"CC," * 3_500_000 + b"C\t.\t.\t.",
    "lengths": b"<DEL>\t.\t.\tSVLEN=99" + b",12" * 3_500_000,
    "samples": b"<*>\t.\t.\t.\tGT:LEN" + b"\t1:99" * 2_000_000,
    "keys": b"<*>\t.\t.\t.\tGT" + b":xx" * 1_700_000 + b":LEN\t" + b"xx:" * 1_700_001 + b"99",
}


class TestALongRecord:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", LONG_RECORDS)
    def test_of_many_parts_takes_memory_of_its_size(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "long.vcf"
        path.write_bytes(b"chr1\t%d\t.\tA\t%s\n" % (99 if name == "alleles" else 1, LONG_RECORDS[name]))
        result = outcome(find_in, path)
        expected = "a record has more than 10,000 keys in FORMAT" if name == "keys" else "99"
        assert (result.text, result.mib < 85) == (expected, True), result

    @pytest.mark.slow
    def test_name_before_many_short_lines_takes_memory_of_its_size(self, tmp_path: Path) -> None:
        path = tmp_path / "name.vcf"
        path.write_bytes(b"x" * 20_000 + b"\t1\t.\tA\tC\t.\t.\t.\n" + b"\n" * 20_000 + b"x" * 25_000)
        result = outcome(find_in, path)
        assert (result.text, result.mib < 30) == ("1", True), result
