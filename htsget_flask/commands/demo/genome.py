"""The reference of the example data, and its variants: genotypes of a small cohort."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam
import pysam.bcftools
from numpy.typing import NDArray

CONTIGS = (("chr1", 600_000, 0.41, 2), ("chr2", 300_000, 0.41, 2), ("chrM", 16_569, 0.44, 1))
"""Name, bases, GC fraction and ploidy."""

_WINDOW = 1000  # bases
_LINE_BASES = 60
SAMPLES = tuple(f"NA{number:05d}" for number in range(1, 9))
SEQUENCED = 0  # index in SAMPLES of the one sample with reads
MEAN_DEPTH = 12  # mean reads over a reference position
_SITE_SPACING = 30  # bases; sites keep to the first half of a slot this wide, so that no two overlap
_VCF_META = """##fileformat=VCFv4.3
##FILTER=<ID=PASS,Description="All filters passed">
##fileDate=20240101
##source=htsget_flask_demo
##INFO=<ID=AC,Number=A,Type=Integer,Description="Alternate allele count in genotypes">
##INFO=<ID=AN,Number=1,Type=Integer,Description="Number of called alleles">
##INFO=<ID=AF,Number=A,Type=Float,Description="Alternate allele frequency in genotypes">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Read depth">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Genotype quality, Phred scale">
"""


Bytes = NDArray[np.uint8]


class Reference(NamedTuple):
    name: str
    ploidy: int
    codes: Bytes
    text: str


def draw_reference(rng: np.random.Generator, name: str, length: int, gc: float, ploidy: int) -> Reference:
    """Draw a sequence whose GC fraction wanders from one window of 1,000 bases to the next."""
    window_gc = rng.normal(gc, 0.05, length // _WINDOW + 1)
    is_gc = rng.random(length) < np.repeat(window_gc, _WINDOW)[:length]
    second = rng.integers(0, 2, length, dtype=np.uint8)
    codes = np.where(is_gc, 1 + second, 3 * second).astype(np.uint8)
    return Reference(name, ploidy, codes, decode_bases(codes))


def decode_bases(codes: Bytes) -> str:
    return np.frombuffer(b"ACGT", dtype=np.uint8)[codes].tobytes().decode("ascii")


def write_reference(path: Path, references: Sequence[Reference]) -> None:
    """Write a FASTA file and its index."""
    with path.open("w", encoding="ascii", newline="\n") as fasta:
        for name, _, _, text in references:
            fasta.write(f">{name}\n")
            fasta.writelines(f"{text[at : at + _LINE_BASES]}\n" for at in range(0, len(text), _LINE_BASES))
    pysam.faidx(str(path), catch_stdout=False)


class Site(NamedTuple):
    position: int
    alleles: tuple[str, ...]  # the reference's first
    genotypes: NDArray[np.int8]  # samples x 2, as indexes of alleles; -1 is no call


def draw_sites(rng: np.random.Generator, reference: Reference) -> list[Site]:
    """Draw about one variant site in 300 bases, each with its alternate alleles in some sample."""
    slots = len(reference.text) // _SITE_SPACING
    count = slots // 10
    positions = np.sort(rng.choice(np.arange(10, slots - 10), count, replace=False)) * _SITE_SPACING
    positions += rng.integers(0, _SITE_SPACING // 2, count)
    kinds = rng.choice(["snv", "insertion", "deletion"], count, p=[0.86, 0.07, 0.07])
    frequencies = rng.beta(0.4, 1.2, (count, 1, 1))
    genotypes = (rng.random((count, len(SAMPLES), reference.ploidy)) < frequencies).astype(np.int8)
    monomorphic = np.flatnonzero(~genotypes.any(axis=(1, 2)))
    genotypes[monomorphic, rng.integers(0, len(SAMPLES), len(monomorphic)), 0] = 1
    mixed = genotypes * rng.integers(1, 3, genotypes.shape, dtype=np.int8)
    is_triallelic = (kinds == "snv") & (rng.random(count) < 0.02)
    is_triallelic &= (mixed == 1).any(axis=(1, 2)) & (mixed == 2).any(axis=(1, 2))
    genotypes[is_triallelic] = mixed[is_triallelic]
    genotypes = np.repeat(genotypes, 2 // reference.ploidy, axis=2)
    is_no_call = (rng.random((count, len(SAMPLES))) < 0.02) & ~genotypes.any(axis=2)
    is_no_call[:, SEQUENCED] = False
    genotypes[is_no_call] = -1
    columns = zip(positions.tolist(), kinds.tolist(), is_triallelic.tolist(), genotypes, strict=True)
    return [
        Site(position, _draw_alleles(rng, reference, position, "triallelic" if triallelic else kind), genotype)
        for position, kind, triallelic, genotype in columns
    ]


def _draw_alleles(rng: np.random.Generator, reference: Reference, position: int, kind: str) -> tuple[str, ...]:
    """Draw a site's alleles, the reference's first; indels are left-aligned, after one base before them."""
    text = reference.text
    if kind == "deletion":
        size = int(rng.integers(1, 7))
        while text[position + size] == text[position]:
            size += 1
        return text[position : position + size + 1], text[position]
    change = int(rng.choice([1, 2, 3], p=[0.165, 0.67, 0.165]))
    changed = decode_bases(reference.codes[[position]] ^ np.uint8(change))
    if kind == "insertion":
        inserted = decode_bases(rng.integers(0, 4, int(rng.integers(0, 6)), dtype=np.uint8))
        return text[position], text[position] + inserted + changed
    if kind == "triallelic":
        return text[position], changed, decode_bases(reference.codes[[position]] ^ np.uint8(change % 3 + 1))
    return text[position], changed


def format_variants(rng: np.random.Generator, references: Sequence[Reference], sites: Sequence[Sequence[Site]]) -> str:
    """Format the text of a VCF file."""
    lines = [f"##contig=<ID={reference.name},length={len(reference.text)}>" for reference in references]
    lines.append("\t".join(("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT", *SAMPLES)))
    for reference, contig_sites in zip(references, sites, strict=True):
        depths = 1 + rng.poisson(MEAN_DEPTH - 1, (len(contig_sites), len(SAMPLES)))
        lines += map(_format_site, [reference.name] * len(contig_sites), contig_sites, depths.tolist())
    return _VCF_META + "\n".join(lines) + "\n"


def _format_site(reference_name: str, site: Site, depths: Sequence[int]) -> str:
    """Format a VCF line, given each sample's read depth."""
    reference_count, *counts = [int((site.genotypes == allele).sum()) for allele in range(len(site.alleles))]
    called = reference_count + sum(counts)
    frequencies = ",".join(f"{count / called:.4g}" for count in counts)
    info = f"AC={','.join(map(str, counts))};AN={called};AF={frequencies}"
    reference_allele, *alternates = site.alleles
    return "\t".join(
        (
            f"{reference_name}\t{site.position + 1}\t.\t{reference_allele}\t{','.join(alternates)}",
            f"{40 * sum(counts)}\tPASS\t{info}\tGT:DP:GQ",
            *map(_format_call, site.genotypes.tolist(), depths),
        )
    )


def _format_call(alleles: Sequence[int], depth: int) -> str:
    first, second = sorted(alleles)
    if first < 0:
        return "./.:0:."
    return f"{first}/{second}:{depth}:{min(99, (3 if first == second else 8) * depth)}"


def write_variants(vcf_path: Path, bcf_path: Path, text: str) -> None:
    """Write the text of a VCF file as compressed VCF and as BCF, with their indexes."""
    with pysam.BGZFile(str(vcf_path), "wb", None) as vcf:
        vcf.write(text.encode("ascii"))
    pysam.bcftools.index("--tbi", str(vcf_path), catch_stdout=False)
    with (
        pysam.VariantFile(str(vcf_path)) as source,
        pysam.VariantFile(str(bcf_path), "wb", header=source.header) as bcf,
    ):
        for record in source:
            bcf.write(record)
    pysam.bcftools.index("--csi", str(bcf_path), catch_stdout=False)
