"""Deterministic synthetic example data: a reference, one sample's reads and a small cohort's variants.

Positions are 0-based, and 1-based only in the text of SAM and VCF lines. Bases are handled as codes, their
places in ACGT; code ^ 2 is a base's transition, and code ^ 1 and code ^ 3 are its transversions.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam
import pysam.bcftools
from numpy.typing import NDArray

_SEED = 20240101
_CONTIGS = (("chr1", 600_000, 0.41, 2), ("chr2", 300_000, 0.41, 2), ("chrM", 16_569, 0.44, 1))  # bases, GC, ploidy
_SAMPLES = tuple(f"NA{number:05d}" for number in range(1, 9))
_SEQUENCED = 0  # place in _SAMPLES of the one sample with reads
_RUN = _SAMPLES[_SEQUENCED]
_READ_LENGTH = 150  # bases
_DEPTH = 12  # mean reads over a reference position
_SITE_SPACING = 30  # bases; sites keep to the first half of a slot this wide, so that no two overlap
_SHORTEST_ANCHOR = 8  # bases; an aligner clips a read's end rather than open a gap for fewer
_UNPLACED_PAIRS = 300
_FILES = ("demo.fa", f"{_RUN}.bam", f"{_RUN}.cram", "cohort.vcf.gz", "cohort.bcf")
_INDEX_SUFFIXES = (".fai", ".bai", ".crai", ".tbi", ".csi")
_README = f"""htsget_flask demo data, version 1

Synthetic and random: no sequence here comes from a person or any other organism.

demo.fa                     reference
{_RUN}.bam, {_RUN}.cram   paired-end reads of {_RUN}; the CRAM embeds its reference
cohort.vcf.gz, cohort.bcf   genotypes of {_SAMPLES[0]} to {_SAMPLES[-1]}; those of {_RUN} agree with its reads
"""
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

_Bytes = NDArray[np.uint8]
_Positions = NDArray[np.int32]
_Bools = NDArray[np.bool_]


class _Reference(NamedTuple):
    name: str
    ploidy: int
    codes: _Bytes
    text: str


class _Site(NamedTuple):
    position: int
    alleles: tuple[str, ...]  # the reference's first
    genotypes: NDArray[np.int8]  # samples x 2, as places in alleles; -1 is no call


class _Haplotype(NamedTuple):
    codes: _Bytes
    positions: _Positions  # on the reference; -1 for an inserted base


class _Block(NamedTuple):
    start: int  # in the read, as end
    end: int
    reference_start: int


class _Alignment(NamedTuple):
    start: int  # on the reference, as end
    end: int
    cigar: str
    md: str
    nm: int


class _Reads(NamedTuple):
    """Read pairs as columns: the left mates, then in the same order their right mates."""

    flags: list[int]
    mapping_qualities: list[int]
    alignments: list[_Alignment]
    sequences: list[str]
    qualities: list[str]


def write_demo(folder: Path) -> None:
    """Write the example data into `folder`, or return at once when it already holds this version of it.

    The data are about 73,000 reads of 150 bases and 3,000 variant sites on 0.9 million bases, 10 MB in all.
    Each file appears whole or not at all, no index is older than its data, and README.txt comes last.
    """
    if _is_complete(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_SEED)
    references = [_draw_reference(rng, *contig) for contig in _CONTIGS]
    sites = [_draw_sites(rng, reference) for reference in references]
    _write_reference(folder, references)
    _write_variants(folder, _format_variants(rng, references, sites))
    _write_alignments(folder, references, _draw_sam_lines(rng, references, sites))
    with _replace_when_written(folder / "README.txt") as readme:
        Path(readme).write_text(_README, encoding="utf-8")


def _is_complete(folder: Path) -> bool:
    readme = folder / "README.txt"
    if not readme.is_file() or readme.read_text(encoding="utf-8", errors="replace") != _README:
        return False
    indexes = [name + suffix for name, suffix in zip(_FILES, _INDEX_SUFFIXES, strict=True)]
    return all((folder / name).is_file() for name in (*_FILES, *indexes))


@contextmanager
def _replace_when_written(path: Path) -> Iterator[str]:
    """Give a name beside `path` to write to, and at the end move what was written there to `path`."""
    # The process id keeps two workers that start together from writing into each other's unfinished file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield str(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _replace_with_index(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Give names to write a data file and its index to, and at the end move the data, then the index."""
    path = folder / name
    index_path = folder / f"{name}{_INDEX_SUFFIXES[_FILES.index(name)]}"
    with _replace_when_written(index_path) as index, _replace_when_written(path) as data:
        yield data, index


def _draw_reference(rng: np.random.Generator, name: str, length: int, gc: float, ploidy: int) -> _Reference:
    """Draw a sequence whose GC fraction wanders from one window of 1,000 bases to the next."""
    window_gc = rng.normal(gc, 0.05, length // 1000 + 1)
    is_gc = rng.random(length) < np.repeat(window_gc, 1000)[:length]
    second = rng.integers(0, 2, length, dtype=np.uint8)
    codes = np.where(is_gc, 1 + second, 3 * second).astype(np.uint8)
    return _Reference(name, ploidy, codes, _decode_bases(codes))


def _decode_bases(codes: _Bytes) -> str:
    return np.frombuffer(b"ACGT", dtype=np.uint8)[codes].tobytes().decode("ascii")


def _draw_sites(rng: np.random.Generator, reference: _Reference) -> list[_Site]:
    """Draw about one variant site in 300 bases, each with its alternate alleles in some sample."""
    slots = len(reference.text) // _SITE_SPACING
    count = slots // 10
    positions = np.sort(rng.choice(np.arange(10, slots - 10), count, replace=False)) * _SITE_SPACING
    positions += rng.integers(0, _SITE_SPACING // 2, count)
    kinds = rng.choice(["snv", "insertion", "deletion"], count, p=[0.86, 0.07, 0.07])
    frequencies = rng.beta(0.4, 1.2, (count, 1, 1))
    genotypes = (rng.random((count, len(_SAMPLES), reference.ploidy)) < frequencies).astype(np.int8)
    monomorphic = np.flatnonzero(~genotypes.any(axis=(1, 2)))
    genotypes[monomorphic, rng.integers(0, len(_SAMPLES), len(monomorphic)), 0] = 1
    mixed = genotypes * rng.integers(1, 3, genotypes.shape, dtype=np.int8)
    is_triallelic = (kinds == "snv") & (rng.random(count) < 0.02)
    is_triallelic &= (mixed == 1).any(axis=(1, 2)) & (mixed == 2).any(axis=(1, 2))
    genotypes[is_triallelic] = mixed[is_triallelic]
    genotypes = np.repeat(genotypes, 2 // reference.ploidy, axis=2)
    is_no_call = (rng.random((count, len(_SAMPLES))) < 0.02) & ~genotypes.any(axis=2)
    is_no_call[:, _SEQUENCED] = False
    genotypes[is_no_call] = -1
    columns = zip(positions.tolist(), kinds.tolist(), is_triallelic.tolist(), genotypes, strict=True)
    return [
        _Site(position, _draw_alleles(rng, reference, position, "triallelic" if triallelic else kind), genotype)
        for position, kind, triallelic, genotype in columns
    ]


def _draw_alleles(rng: np.random.Generator, reference: _Reference, position: int, kind: str) -> tuple[str, ...]:
    """Draw a site's alleles, the reference's first; indels are left-aligned, after one base before them."""
    text = reference.text
    if kind == "deletion":
        size = int(rng.integers(1, 7))
        while text[position + size] == text[position]:
            size += 1
        return text[position : position + size + 1], text[position]
    change = int(rng.choice([1, 2, 3], p=[0.165, 0.67, 0.165]))
    changed = _decode_bases(reference.codes[[position]] ^ np.uint8(change))
    if kind == "insertion":
        inserted = _decode_bases(rng.integers(0, 4, int(rng.integers(0, 6)), dtype=np.uint8))
        return text[position], text[position] + inserted + changed
    if kind == "triallelic":
        return text[position], changed, _decode_bases(reference.codes[[position]] ^ np.uint8(change % 3 + 1))
    return text[position], changed


def _format_variants(
    rng: np.random.Generator, references: Sequence[_Reference], sites: Sequence[Sequence[_Site]]
) -> str:
    """Format the text of a VCF file."""
    lines = [f"##contig=<ID={reference.name},length={len(reference.text)}>" for reference in references]
    lines.append("\t".join(("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT", *_SAMPLES)))
    for reference, contig_sites in zip(references, sites, strict=True):
        depths = 1 + rng.poisson(_DEPTH - 1, (len(contig_sites), len(_SAMPLES)))
        lines += map(_format_site, [reference.name] * len(contig_sites), contig_sites, depths.tolist())
    return _VCF_META + "\n".join(lines) + "\n"


def _format_site(reference_name: str, site: _Site, depths: Sequence[int]) -> str:
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


def _build_haplotype(reference: _Reference, sites: Sequence[_Site], copy: int) -> _Haplotype:
    """Put the sequenced sample's alleles of one chromosome copy (0 or 1) into the reference."""
    text, positions, done = "", [], 0
    for site in sites:
        allele = site.alleles[site.genotypes[_SEQUENCED, copy]]
        end = site.position + len(site.alleles[0])
        text += reference.text[done : site.position] + allele
        aligned_end = min(end, site.position + len(allele))
        positions.append(np.arange(done, aligned_end, dtype=np.int32))
        positions.append(np.full(site.position + len(allele) - aligned_end, -1, dtype=np.int32))
        done = end
    positions.append(np.arange(done, len(reference.text), dtype=np.int32))
    letters = np.frombuffer((text + reference.text[done:]).encode("ascii"), dtype=np.uint8)
    codes = np.searchsorted(np.frombuffer(b"ACGT", dtype=np.uint8), letters).astype(np.uint8)
    return _Haplotype(codes, np.concatenate(positions))


def _draw_sam_lines(
    rng: np.random.Generator, references: Sequence[_Reference], sites: Sequence[Sequence[_Site]]
) -> list[str]:
    """Draw the sequenced sample's reads as SAM lines in coordinate order."""
    lines: list[str] = []
    for reference, contig_sites in zip(references, sites, strict=True):
        placed: list[tuple[int, str]] = []
        for copy in (0, 1):
            reads = _draw_placed_reads(rng, reference, _build_haplotype(reference, contig_sites, copy))
            placed += _format_reads(reads, reference.name, f"{reference.name}:{copy + 1}")
        lines += [line for _, line in sorted(placed, key=itemgetter(0))]
    return lines + _draw_unplaced_lines(rng)


def _draw_placed_reads(rng: np.random.Generator, reference: _Reference, haplotype: _Haplotype) -> _Reads:
    count = _DEPTH * len(reference.text) // (4 * _READ_LENGTH)
    lengths = np.clip(rng.normal(400, 60, count), 200, 700).astype(np.int64)
    starts = rng.integers(0, len(haplotype.codes) - lengths)
    is_read1 = rng.random(count) < 0.5
    # Fragments come in random order, so any slice of them is a random sample: let the last repeat the first.
    duplicates = count // 100
    for drawn in (lengths, starts, is_read1):
        drawn[-duplicates:] = drawn[:duplicates]
    is_duplicate = np.tile(np.arange(count) >= count - duplicates, 2)
    orphans = np.arange(duplicates, duplicates + count // 250)
    is_unmapped = np.zeros(2 * count, dtype=np.bool_)
    is_unmapped[orphans + count * (orphans % 2)] = True  # the left and the right mate by turns

    bases = np.concatenate([starts, starts + lengths - _READ_LENGTH])[:, None] + np.arange(_READ_LENGTH)
    codes, qualities = haplotype.codes[bases], _draw_qualities(rng, 2 * count)
    qualities[count:] = qualities[count:, ::-1]  # right mates are sequenced from their right end
    qualities[is_unmapped] = 2  # so low that its errors leave nothing to align
    _add_errors(rng, codes, qualities)
    mapping_qualities = np.where(rng.random(2 * count) < 0.04, rng.integers(0, 60, 2 * count), 60)
    return _Reads(
        _combine_flags(np.concatenate([is_read1, ~is_read1]), is_unmapped, is_duplicate),
        np.where(is_unmapped, 0, mapping_qualities).tolist(),
        _align_reads(reference, codes, haplotype.positions[bases]),
        _split_reads(_decode_bases(codes)),
        _split_reads((qualities + 33).tobytes().decode("ascii")),
    )


def _draw_qualities(rng: np.random.Generator, count: int) -> _Bytes:
    """Draw reads' base qualities (Phred scale, four bins) in sequencing order, falling towards the end."""
    wear = (0.2 + 0.8 * np.linspace(0, 1, _READ_LENGTH) ** 2).astype(np.float32)
    luck = rng.random((count, _READ_LENGTH), dtype=np.float32) / wear
    return np.select([luck < 0.02, luck < 0.25, luck < 0.5], [2, 12, 23], 37).astype(np.uint8)


def _add_errors(rng: np.random.Generator, codes: _Bytes, qualities: _Bytes) -> None:
    """Replace bases in place by others, each with the probability that its quality states."""
    probabilities = (10 ** (-np.arange(64) / 10)).astype(np.float32)[qualities]
    is_error = rng.random(codes.shape, dtype=np.float32) < probabilities
    codes[is_error] ^= rng.integers(1, 4, int(is_error.sum()), dtype=np.uint8)


def _combine_flags(is_read1: _Bools, is_unmapped: _Bools, is_duplicate: _Bools) -> list[int]:
    """Combine the SAM flags of read pairs, the left mates first and then their right mates."""
    count = len(is_read1) // 2
    mate_is_unmapped = np.roll(is_unmapped, count)
    is_reverse = (np.arange(2 * count) >= count) & ~is_unmapped
    flags = np.where(is_read1, pysam.FREAD1, pysam.FREAD2) + pysam.FPAIRED + pysam.FDUP * is_duplicate
    flags += pysam.FPROPER_PAIR * ~(is_unmapped | mate_is_unmapped)
    flags += pysam.FUNMAP * is_unmapped + pysam.FMUNMAP * mate_is_unmapped
    flags += pysam.FREVERSE * is_reverse + pysam.FMREVERSE * np.roll(is_reverse, count)
    return [int(flag) for flag in flags]


def _split_reads(text: str) -> list[str]:
    return [text[start : start + _READ_LENGTH] for start in range(0, len(text), _READ_LENGTH)]


def _align_reads(reference: _Reference, codes: _Bytes, positions: _Positions) -> list[_Alignment]:
    """Describe the alignments of reads (rows) whose bases' positions on the reference are known."""
    is_aligned = positions >= 0
    rows, columns = np.nonzero((codes != reference.codes[positions]) & is_aligned)
    bounds, mismatches = np.searchsorted(rows, np.arange(len(codes) + 1)).tolist(), columns.tolist()
    is_gapless = (positions[:, -1] - positions[:, 0] == _READ_LENGTH - 1) & is_aligned.all(axis=1)
    alignments = []
    for row, (gapless, start) in enumerate(zip(is_gapless.tolist(), positions[:, 0].tolist(), strict=True)):
        blocks = [_Block(0, _READ_LENGTH, start)] if gapless else _find_blocks(positions[row])
        alignments.append(_describe_alignment(reference.text, blocks, mismatches[bounds[row] : bounds[row + 1]]))
    return alignments


def _find_blocks(positions: _Positions) -> list[_Block]:
    """Find a read's stretches without gaps, less those at its ends that are too short to anchor it."""
    aligned = np.flatnonzero(positions >= 0)
    breaks = np.flatnonzero((np.diff(aligned) != 1) | (np.diff(positions[aligned]) != 1)) + 1
    blocks = [_Block(int(run[0]), int(run[-1]) + 1, int(positions[run[0]])) for run in np.split(aligned, breaks)]
    is_anchor = [block.end - block.start >= _SHORTEST_ANCHOR for block in blocks]
    return blocks[is_anchor.index(True) : len(blocks) - is_anchor[::-1].index(True)]


def _describe_alignment(text: str, blocks: Sequence[_Block], mismatches: Sequence[int]) -> _Alignment:
    """Describe a read aligned in `blocks` to the reference `text`, with `mismatches` at these places in the read."""
    read_end, reference_end = blocks[0].start, blocks[0].reference_start
    cigar, md, nm, matches = f"{read_end}S" if read_end else "", "", 0, 0
    for start, end, reference_start in blocks:
        if start > read_end:
            cigar += f"{start - read_end}I"
        if reference_start > reference_end:
            cigar += f"{reference_start - reference_end}D"
            md += f"{matches}^{text[reference_end:reference_start]}"
            matches = 0
        cigar += f"{end - start}M"
        nm += start - read_end + reference_start - reference_end
        read_end, reference_end = start, reference_start
        for place in mismatches:
            if start <= place < end:
                md += f"{matches + place - read_end}{text[reference_start + place - start]}"
                nm, matches, read_end = nm + 1, 0, place + 1
        matches += end - read_end
        read_end, reference_end = end, reference_start + end - start
    if read_end < _READ_LENGTH:
        cigar += f"{_READ_LENGTH - read_end}S"
    return _Alignment(blocks[0].reference_start, reference_end, cigar, f"{md}{matches}", nm)


def _format_reads(reads: _Reads, reference_name: str, name_prefix: str) -> list[tuple[int, str]]:
    """Format reads as (reference position, SAM line), in the order given."""
    count = len(reads.flags) // 2
    lines = []
    for row, (flag, mapping_quality, own, sequence, quality) in enumerate(zip(*reads, strict=True)):
        mate = reads.alignments[(row + count) % (2 * count)]
        # An unmapped read is placed where its mate is.
        start = mate.start if flag & pysam.FUNMAP else own.start
        mate_start = own.start if flag & pysam.FMUNMAP else mate.start
        span = max(own.end, mate.end) - min(own.start, mate.start) if flag & pysam.FPROPER_PAIR else 0
        cigar, tags = ("*", "") if flag & pysam.FUNMAP else (own.cigar, f"MD:Z:{own.md}\tNM:i:{own.nm}\t")
        line = (
            f"{name_prefix}:{row % count}\t{flag}\t{reference_name}\t{start + 1}\t{mapping_quality}\t{cigar}\t="
            f"\t{mate_start + 1}\t{span if row < count else -span}\t{sequence}\t{quality}\t{tags}RG:Z:{_RUN}"
        )
        lines.append((start, line))
    return lines


def _draw_unplaced_lines(rng: np.random.Generator) -> list[str]:
    """Draw SAM lines of read pairs that come from no part of the reference."""
    qualities = _draw_qualities(rng, 2 * _UNPLACED_PAIRS)
    sequences = _split_reads(_decode_bases(rng.integers(0, 4, qualities.shape, dtype=np.uint8)))
    quality_texts = _split_reads((qualities + 33).tobytes().decode("ascii"))
    lines = []
    for row, (sequence, quality) in enumerate(zip(sequences, quality_texts, strict=True)):
        flag = pysam.FPAIRED | pysam.FUNMAP | pysam.FMUNMAP | (pysam.FREAD2 if row % 2 else pysam.FREAD1)
        lines.append(f"unplaced:{row // 2}\t{flag}\t*\t0\t0\t*\t*\t0\t0\t{sequence}\t{quality}\tRG:Z:{_RUN}")
    return lines


def _write_reference(folder: Path, references: Sequence[_Reference]) -> None:
    with _replace_with_index(folder, "demo.fa") as (data, index):
        with Path(data).open("w", encoding="ascii", newline="\n") as fasta:
            for reference in references:
                fasta.write(f">{reference.name}\n")
                fasta.writelines(f"{reference.text[at : at + 60]}\n" for at in range(0, len(reference.text), 60))
        pysam.faidx(data, "--fai-idx", index, catch_stdout=False)


def _write_variants(folder: Path, text: str) -> None:
    """Write the text of a VCF file as compressed VCF and as BCF."""
    with _replace_with_index(folder, "cohort.vcf.gz") as (data, index):
        with pysam.BGZFile(data, "wb", None) as vcf:
            vcf.write(text.encode("ascii"))
        pysam.bcftools.index("--tbi", "--output", index, data, catch_stdout=False)
    with _replace_with_index(folder, "cohort.bcf") as (data, index):
        with (
            pysam.VariantFile(str(folder / "cohort.vcf.gz")) as source,
            pysam.VariantFile(data, "wb", header=source.header) as bcf,
        ):
            for record in source:
                bcf.write(record)
        pysam.bcftools.index("--csi", "--output", index, data, catch_stdout=False)


def _write_alignments(folder: Path, references: Sequence[_Reference], lines: Sequence[str]) -> None:
    """Write SAM lines as BAM and as CRAM."""
    sequences = [
        {"SN": name, "LN": len(text), "M5": hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()}
        for name, _, _, text in references
    ]
    groups = [{"ID": _RUN, "SM": _RUN, "LB": "demo", "PL": "ILLUMINA"}]
    header = pysam.AlignmentHeader.from_dict({"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": sequences, "RG": groups})
    segments = [pysam.AlignedSegment.fromstring(line, header) for line in lines]
    # Level 4 takes a third of the default level's time. CRAM 3.0, because not every browser reads 3.1; embed_ref=2
    # embeds the reference that the MD tags spell, where 1 would put the path of demo.fa into the header.
    cram_options = [b"version=3.0", b"embed_ref=2", b"seqs_per_slice=2000"]
    for name, mode, options in ((f"{_RUN}.bam", "wb", [b"level=4"]), (f"{_RUN}.cram", "wc", cram_options)):
        with _replace_with_index(folder, name) as (data, index):
            with pysam.AlignmentFile(data, mode, header=header, format_options=options) as file:  # type: ignore[arg-type]
                for segment in segments:
                    file.write(segment)
            if mode == "wc":
                _name_cram(data, name)
            pysam.index("-o", index, data, catch_stdout=False)


def _name_cram(path: str, name: str) -> None:
    """Put `name` into a CRAM file's identifier, where the path that it was written to would differ every time."""
    with Path(path).open("r+b") as cram:
        cram.seek(6)  # the identifier is 20 bytes, after the magic number and the version
        cram.write(name.encode("ascii").ljust(20, b"\0"))
