"""Files for exact regions: symbolic alleles whose span INFO and FORMAT state, and indexes with other windows."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pysam
import pysam.bcftools

from tests.support.files.bam import MATCH, SKIP, Read, Reference, bam_data, some_bam_data
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf
from tests.support.files.indexes import make_index
from tests.support.files.vcf import SAMPLES, VARIANT_REFERENCES, bcf_data, contig_line, vcf_data, vcf_header

# The bin of a BAI that has no records (SAMv1 5.2).
_STATISTICS = 37450
_LINES = (
    '##ALT=<ID=DUP,Description="Duplication">',
    '##FORMAT=<ID=LEN,Number=1,Type=Integer,Description="Length of the block">',
)
_ALLELES = (
    "<DEL>",
    "<DUP>",
    "<DUP:TANDEM>",
    "<INS>",
    "<INV>",
    "<CNV>",
    "<*>",
    "<NON_REF>",
    "C",
    "]chr1:99]A",
    "C,<DEL>",
)


def _symbolic_line(rng: random.Random, reference: Reference, start: int) -> str:
    """A line whose span the alleles, END, SVLEN and LEN state in any combination."""
    room = reference.length - start
    lengths = [min(int(2 ** rng.uniform(0, 15)), room) for _ in range(3)]
    allele = rng.choice(_ALLELES)
    info = [f"DP={rng.randrange(99)}"]
    if rng.random() < 0.4:
        info.append(f"END={start + lengths[0]}")
    if rng.random() < 0.6:
        signed = [str(rng.choice((1, -1)) * length) for length in lengths[1:]]
        info.append(f"SVLEN={','.join(signed[: allele.count(',') + 1])}")
    keys, values = "GT", ["0/1"] * len(SAMPLES)
    if rng.random() < 0.5:
        keys = "GT:LEN"
        values = [f"0/1:{rng.choice(['.', *map(str, lengths)])}" for _ in SAMPLES]
    fields = [reference.name, str(start + 1), ".", "A", allele, ".", "PASS", ";".join(info), keys, *values]
    return "\t".join(fields)


def _symbolic_data(seed: str) -> bytes:
    rng = random.Random(seed)
    header = vcf_header([contig_line(reference) for reference in VARIANT_REFERENCES], SAMPLES, _LINES)
    lines = [
        f"{_symbolic_line(rng, reference, start)}\n"
        for reference in VARIANT_REFERENCES
        for start in sorted(rng.randrange(reference.length) for _ in range(min(1_500, reference.length // 100)))
    ]
    return header.replace(b"VCFv4.3", b"VCFv4.5") + "".join(lines).encode()


def vcf_symbolic(folder: Path) -> Path:
    """Spans by END, SVLEN and LEN."""
    path = folder / "symbolic.vcf.gz"
    write_bgzf(path, cut(_symbolic_data("vcf_symbolic"), 20_000))
    make_index(path)
    return path


def bcf_symbolic(folder: Path) -> Path:
    """Spans by END, SVLEN and LEN, which the records themselves state as a number."""
    path = folder / "symbolic.bcf"
    write_bgzf(path, cut(bcf_data(folder, _symbolic_data("bcf_symbolic")), 20_000))
    make_index(path)
    return path


def bam_spliced(folder: Path) -> Path:
    """Long introns: in each window lie records that start many windows before it."""
    path = folder / "spliced.bam"
    rng = random.Random("bam_spliced")
    references = (Reference("chr1", 3_000_000), Reference("chr2", 500_000))
    reads = []
    for reference_id, reference in enumerate(references):
        for number, start in enumerate(sorted(rng.randrange(reference.length - 100) for _ in range(6_000))):
            skip = int(2 ** rng.uniform(4, 21)) if rng.random() < 0.3 else 0
            skip = min(skip, reference.length - start - 40)
            cigar = ((MATCH, 15), (SKIP, skip), (MATCH, 15)) if skip else ((MATCH, 30),)
            reads.append(Read(f"s{reference_id}.{number}", 0, reference_id, start, cigar, 30))
    write_bgzf(path, cut(bam_data(references, reads), 3_000))
    make_index(path)
    return path


def bam_deep(folder: Path) -> Path:
    """Thousands of reads with the same start, in many blocks, between others."""
    path = folder / "deep.bam"
    rng = random.Random("bam_deep")
    references = (Reference("chr1", 200_000), Reference("chr2", 100_000))
    reads = []
    for reference_id, deep in enumerate(((0, 16_383, 16_384, 150_000), (50_000, 99_990))):
        length = references[reference_id].length
        starts = [rng.randrange(length - 3_000) for _ in range(500)] + [start for start in deep for _ in range(2_500)]
        for number, start in enumerate(sorted(starts)):
            bases = min(length - start, rng.choice((1, 10, 30)))
            skip = rng.choice((0, 0, 0, 2_000)) if start + 2_100 < length else 0
            cigar = ((MATCH, bases), (SKIP, skip), (MATCH, 5)) if skip else ((MATCH, bases),)
            reads.append(Read(f"d{reference_id}.{number}", 0, reference_id, start, cigar, bases + (5 if skip else 0)))
    write_bgzf(path, cut(bam_data(references, reads), 2_000), level=1)
    make_index(path)
    return path


def _telomere_data(seed: str) -> bytes:
    """Records at the telomeres (VCFv4.5 1.6.1), in BCF only after the last base, and thousands at the same position."""
    rng = random.Random(seed)
    reference = Reference("chr1", 100_000)
    # htslib builds no index of a BCF file with the position 0.
    positions = (
        [1 if seed.startswith("bcf") else 0] * 3
        + [1] * 3
        + [50_000] * 2_000
        + [rng.randrange(1, 100_000) for _ in range(500)]
        + [100_001] * 3
    )
    lines = []
    for position in sorted(positions):
        info = f"DP={rng.randrange(99)}"
        if rng.random() < 0.1:
            info += f";END={position + rng.randrange(30_000)}"
        lines.append(f"chr1\t{position}\t.\tN\t{rng.choice(['A', '<DEL>', 'N[chr1:5['])}\t.\tPASS\t{info}\n")
    return vcf_header([contig_line(reference)], ()) + "".join(lines).encode()


def vcf_telomeres(folder: Path) -> Path:
    """Positions before the first and after the last base, and many equal ones."""
    path = folder / "telomeres.vcf.gz"
    write_bgzf(path, cut(_telomere_data("vcf_telomeres"), 3_000))
    make_index(path)
    return path


def bcf_telomeres(folder: Path) -> Path:
    """A position after the last base, and many equal ones."""
    path = folder / "telomeres.bcf"
    write_bgzf(path, cut(bcf_data(folder, _telomere_data("bcf_telomeres")), 3_000))
    make_index(path)
    return path


def _bam_with_shift(shift: int, folder: Path) -> Path:
    path = folder / f"shift_{shift}.bam"
    write_bgzf(path, cut(some_bam_data(path.name, count=6_000), MAX_BLOCK_DATA))
    pysam.index("-c", "-m", str(shift), str(path))
    return path


def _bam_with_bai(name: str, keeps_windows: bool, folder: Path) -> Path:
    """A file whose BAI has neither statistics nor, if so chosen, a linear index, as other indexers leave them out."""
    path = folder / f"{name}.bam"
    write_bgzf(path, cut(some_bam_data(path.name, count=6_000), 9_000))
    index = make_index(path)
    content, position = index.read_bytes(), 8
    (references,) = struct.unpack_from("<i", content, 4)
    parts = [content[:8]]
    for _ in range(references):
        (bins,) = struct.unpack_from("<i", content, position)
        position += 4
        rows = []
        for _ in range(bins):
            number, chunks = struct.unpack_from("<Ii", content, position)
            row = content[position : position + 8 + 16 * chunks]
            position += len(row)
            if number != _STATISTICS:
                rows.append(row)
        (windows,) = struct.unpack_from("<i", content, position)
        linear = content[position : position + 4 + 8 * windows]
        position += len(linear)
        parts += [struct.pack("<i", len(rows)), *rows, linear if keeps_windows else bytes(4)]
    index.write_bytes(b"".join(parts))
    return path


def _variants_with_shift(suffix: str, shift: int, folder: Path) -> Path:
    path = folder / f"shift_{shift}{suffix}"
    data = vcf_data(path.name, count=3_000)
    write_bgzf(path, cut(bcf_data(folder, data) if suffix == ".bcf" else data, 20_000))
    pysam.bcftools.index("-f", "-c", "-m", str(shift), str(path))
    return path


SPANS: dict[str, Callable[[Path], Path]] = {
    "vcf_symbolic": vcf_symbolic,
    "bcf_symbolic": bcf_symbolic,
    "bam_spliced": bam_spliced,
    "bam_deep": bam_deep,
    "vcf_telomeres": vcf_telomeres,
    "bcf_telomeres": bcf_telomeres,
    "bam_shift_10": partial(_bam_with_shift, 10),
    "bam_shift_20": partial(_bam_with_shift, 20),
    "bam_without_statistics": partial(_bam_with_bai, "without_statistics", True),
    "bam_without_windows": partial(_bam_with_bai, "without_windows", False),
    "vcf_shift_9": partial(_variants_with_shift, ".vcf.gz", 9),
    "bcf_shift_18": partial(_variants_with_shift, ".bcf", 18),
}
"""Makers by name; the names start with the format, in lower case."""
