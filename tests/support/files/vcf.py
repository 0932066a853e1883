"""VCF files."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pysam

from tests.support.files.bam import GAPS, Reference, random_text, references_with_gaps
from tests.support.files.bgzf import MAX_BLOCK_DATA, bgzf_data, cut, cut_unevenly, write_bgzf
from tests.support.files.indexes import make_index

VARIANT_REFERENCES = (Reference("chr1", 5_000_000), Reference("chr2", 2_000_000), Reference("chrM", 16_569))

ODD_VARIANT_REFERENCES = (
    Reference("HLA-A*01:01", 300_000),
    Reference("HLA-A*01", 200_000),
    Reference("a=b", 200_000),
    Reference("a#b", 200_000),
    Reference("chr1/x", 100_000),
    Reference("gi|568336023|gb|CM000663.2|", 100_000),
    Reference("chr1:1-1000", 100_000),
    Reference("100%25", 100_000),
    Reference("a+b&c?d;e", 100_000),
)
"""Names with the characters which mean something in regions, URLs and headers, all allowed by the specification."""

_VARIANT_LINES = (
    '##FILTER=<ID=PASS,Description="All filters passed">',
    '##FILTER=<ID=q10,Description="Quality below 10">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">',
    '##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End">',
    '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type of structural variant">',
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="Length of structural variant">',
    '##ALT=<ID=DEL,Description="Deletion">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">',
)


def contig_line(reference: Reference, idx: int | None = None) -> str:
    """The header line of a reference, with its number in a BCF file if given."""
    number = "" if idx is None else f",IDX={idx}"
    return f"##contig=<ID={reference.name},length={reference.length}{number}>"


def vcf_header(contig_lines: Iterable[str], samples: Sequence[str], lines: Iterable[str] = ()) -> bytes:
    """The header of a VCF file, uncompressed, with more header lines if given."""
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    if samples:
        columns += ["FORMAT", *samples]
    every = ["##fileformat=VCFv4.3", *_VARIANT_LINES, *contig_lines, *lines, "\t".join(columns)]
    return "".join(f"{line}\n" for line in every).encode()


def _variant_line(rng: random.Random, reference: Reference, start: int, samples: int) -> str:
    """A line of a random kind with its variant at this start."""
    room = reference.length - start
    kind = rng.random()
    ref, alt, info = rng.choice("ACGT"), rng.choice(("A", "C", "G", "T", "AT,C", ".")), f"DP={rng.randrange(400)}"
    if ref == alt:
        alt = "<*>"
    span = 1
    if kind < 0.004:
        span = min(int(2 ** rng.uniform(8, 13)), room)
        ref = rng.randbytes(span).translate(_BASES).decode()
        alt = ref[0] if span > 1 else "<*>"
    elif kind < 0.02:
        span = min(int(2 ** rng.uniform(6, 21)), room)
        alt, info = "<DEL>", f"SVTYPE=DEL;END={start + span};SVLEN={1 - span}"
    elif kind < 0.04:
        span = min(rng.randint(2, 3_000), room)
        alt, info = "<*>", f"END={start + span};{info}"
    elif kind < 0.1:
        span = min(rng.randint(2, 12), room)
        ref = rng.randbytes(span).translate(_BASES).decode()
    fields = [reference.name, str(start + 1), "." if kind < 0.7 else f"rs{rng.randrange(10**6)}", ref, alt]
    fields += [str(rng.randrange(100)), rng.choice(("PASS", "q10", ".")), info]
    if samples:
        fields.append("GT:DP")
        fields += [f"{rng.choice(('0/0', '0/1', '1|1', './.'))}:{rng.randrange(60)}" for _ in range(samples)]
    return "\t".join(fields)


_BASES = b"ACGT" * 64


def vcf_lines(
    seed: str, references: Sequence[Reference], count: int = 5_000, samples: int = 4, without: Iterable[int] = ()
) -> list[bytes]:
    """Records as lines, references in the given order but those without any, positions ascending."""
    rng = random.Random(seed)
    barren = frozenset(without)
    chosen = [reference for number, reference in enumerate(references) if number not in barren]
    whole = sum(reference.length for reference in chosen)
    lines: list[bytes] = []
    for reference in chosen:
        length = reference.length
        desert = range(length * 5 // 10, length * 6 // 10)
        starts = [0, length - 1]
        for _ in range(max(count * length // whole, 10)):
            start = rng.randrange(length)
            if rng.random() < 0.5:
                start = min(length // 3 + rng.randrange(3_000), length - 1)
            starts.append(start - len(desert) if start in desert else start)
        for start in sorted(starts):
            lines.append(f"{_variant_line(rng, reference, start, samples)}\n".encode())
    return lines


SAMPLES = ("NA1", "NA2", "NA3", "NA4")


def vcf_data(
    seed: str,
    references: Sequence[Reference] = VARIANT_REFERENCES,
    count: int = 5_000,
    contig_lines: Sequence[str] | None = None,
    without: Iterable[int] = (),
) -> bytes:
    """The data of a VCF file, uncompressed, by default with a contig line for each reference in their order."""
    if contig_lines is None:
        contig_lines = [contig_line(reference) for reference in references]
    records = vcf_lines(seed, references, count, len(SAMPLES), without)
    return vcf_header(contig_lines, SAMPLES) + b"".join(records)


def through_htslib(path: Path, data: bytes, mode: str) -> None:
    """Let htslib write VCF data as compressed VCF in mode wz or as BCF in mode wb, so that it chooses the blocks."""
    plain = path.with_name(f"{path.name}.plain")
    plain.write_bytes(data)
    with (
        pysam.VariantFile(str(plain)) as source,
        pysam.VariantFile(str(path), mode, header=source.header) as target,
    ):
        for record in source:
            target.write(record)
    plain.unlink()


def bcf_data(folder: Path, data: bytes) -> bytes:
    """VCF data as BCF data, both uncompressed."""
    path = folder / "data.bcf"
    through_htslib(path, data, "wb")
    packed = bgzf_data(path)
    path.unlink()
    return packed


def vcf_normal(folder: Path) -> Path:
    """As bcftools writes it, with a few records that span far."""
    path = folder / "normal.vcf.gz"
    through_htslib(path, vcf_data("vcf_normal"), "wz")
    make_index(path)
    return path


def vcf_csi(folder: Path) -> Path:
    """With a CSI index only."""
    path = folder / "csi.vcf.gz"
    through_htslib(path, vcf_data("vcf_csi", count=3_000), "wz")
    make_index(path, csi=True)
    return path


def vcf_mid_line_blocks(folder: Path) -> Path:
    """As bgzip writes it: one stream cut into full blocks in mid-line, the header in a block with records."""
    path = folder / "mid_line_blocks.vcf.gz"
    write_bgzf(path, cut(vcf_data("vcf_mid_line_blocks", count=8_000), MAX_BLOCK_DATA))
    make_index(path)
    return path


def vcf_tiny_blocks(folder: Path) -> Path:
    """Blocks of about 700 bytes, some within one line only."""
    path = folder / "tiny_blocks.vcf.gz"
    write_bgzf(path, cut_unevenly(vcf_data("vcf_tiny_blocks"), 20, 1_400, "tiny"), level=1)
    make_index(path)
    return path


def vcf_line_per_block(folder: Path) -> Path:
    """A block for every line of the header and of the body, so that every boundary is the end of a line."""
    path = folder / "line_per_block.vcf.gz"
    lines = vcf_data("vcf_line_per_block", count=1_500).splitlines(keepends=True)
    write_bgzf(path, lines, level=1)
    make_index(path)
    return path


def vcf_crlf(folder: Path) -> Path:
    """Lines which end with carriage return and line feed, and no newline after the last one."""
    path = folder / "crlf.vcf.gz"
    data = vcf_data("vcf_crlf", count=2_000).replace(b"\n", b"\r\n")
    write_bgzf(path, cut(data[:-2], 9_000))
    make_index(path)
    return path


def vcf_no_contig_lines(folder: Path) -> Path:
    """No contig line in the header: only the index names the references."""
    path = folder / "no_contig_lines.vcf.gz"
    write_bgzf(path, cut(vcf_data("vcf_no_contig_lines", count=3_000, contig_lines=()), 20_000))
    make_index(path)
    return path


def vcf_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between; the index does not name them."""
    path = folder / "contig_without_records.vcf.gz"
    data = vcf_data("vcf_contig_without_records", references_with_gaps(), count=3_000, without=GAPS)
    write_bgzf(path, cut(data, 10_000))
    make_index(path)
    return path


def vcf_contig_order(folder: Path) -> Path:
    """Records in another order of references than the header's, so index and header number them differently."""
    path = folder / "contig_order.vcf.gz"
    lines = [contig_line(reference) for reference in reversed(VARIANT_REFERENCES)]
    write_bgzf(path, cut(vcf_data("vcf_contig_order", count=3_000, contig_lines=lines), 20_000))
    make_index(path)
    return path


def big_vcf_data(seed: str) -> bytes:
    """VCF data with a header of more than 64 KiB even when compressed: thousands of samples and of INFO lines."""
    rng = random.Random(seed)
    samples = [f"{random_text(rng, 24)}{number}" for number in range(2_500)]
    infos = [
        f'##INFO=<ID=I{number},Number=1,Type=Integer,Description="{random_text(rng, 60)}">' for number in range(1_200)
    ]
    references = VARIANT_REFERENCES[:2]
    header = vcf_header([contig_line(reference) for reference in references], samples, infos)
    genotypes = b"\tGT" + b"\t0/1" * len(samples) + b"\n"
    lines = vcf_lines(seed, references, count=150, samples=0)
    return header + b"".join(line[:-1] + genotypes for line in lines)


def vcf_big_header(folder: Path) -> Path:
    """A header of more than 64 KiB even when compressed, which shares its last block with records."""
    path = folder / "big_header.vcf.gz"
    write_bgzf(path, cut(big_vcf_data("vcf_big_header"), MAX_BLOCK_DATA))
    make_index(path)
    return path


def vcf_no_eof(folder: Path) -> Path:
    """Without the empty block at the end."""
    path = folder / "no_eof.vcf.gz"
    write_bgzf(path, cut(vcf_data("vcf_no_eof", count=2_000), 20_000), eof=False)
    make_index(path)
    return path


def vcf_empty(folder: Path) -> Path:
    """A header and no record."""
    path = folder / "empty.vcf.gz"
    write_bgzf(path, [vcf_header([contig_line(reference) for reference in VARIANT_REFERENCES], SAMPLES)])
    make_index(path)
    return path


def vcf_odd_names(folder: Path) -> Path:
    """Reference names with all the characters that mean something elsewhere."""
    path = folder / "odd_names.vcf.gz"
    write_bgzf(path, cut(vcf_data("vcf_odd_names", ODD_VARIANT_REFERENCES, count=3_000), 20_000))
    make_index(path)
    return path


def vcf_empty_blocks(folder: Path) -> Path:
    """Empty blocks between the others, none with the bytes of the end marker: after the header too."""
    path = folder / "empty_blocks.vcf.gz"
    data = vcf_data("vcf_empty_blocks", count=2_000)
    length = len(vcf_header([contig_line(reference) for reference in VARIANT_REFERENCES], SAMPLES))
    parts = [data[:length], b"", b""]
    for part in cut(data[length:], 5_000):
        parts += [part, b""]
    write_bgzf(path, parts)
    make_index(path)
    return path


LONG_VARIANT_REFERENCES = (
    Reference("small", 50_000),
    Reference("long", 1_200_000_000),
    Reference("last", 70_000),
)


def vcf_long_contig(folder: Path) -> Path:
    """A reference longer than a TBI index can cover, with records up to its last base, and a CSI index."""
    path = folder / "long_contig.vcf.gz"
    write_bgzf(path, cut(vcf_data("vcf_long_contig", LONG_VARIANT_REFERENCES, count=3_000), 8_000))
    make_index(path, csi=True)
    return path
