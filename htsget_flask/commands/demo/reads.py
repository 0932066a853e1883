"""The reads of the example data: read pairs of one sample, which agree with its genotypes."""

import hashlib
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam
from numpy.typing import NDArray

from htsget_flask.commands.demo.genome import MEAN_DEPTH, SAMPLES, SEQUENCED, Bytes, Reference, Site, decode_bases

RUN = SAMPLES[SEQUENCED]
_READ_LENGTH = 150  # bases
_UNPLACED_PAIRS = 300
_MIN_ANCHOR = 8  # bases; an aligner clips a read's end rather than open a gap for fewer

_Bools = NDArray[np.bool_]
_Positions = NDArray[np.int32]


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


# Read pairs as columns, the left mates, then in the same order their right mates: flags, mapping qualities,
# alignments, sequences and base qualities.
_Reads = tuple[list[int], list[int], list[_Alignment], list[str], list[str]]


def draw_sam_lines(
    rng: np.random.Generator, references: Sequence[Reference], sites: Sequence[Sequence[Site]]
) -> list[str]:
    """Draw the sequenced sample's reads as SAM lines in coordinate order."""
    lines: list[str] = []
    for reference, contig_sites in zip(references, sites, strict=True):
        placed: list[tuple[int, str]] = []
        for copy in (0, 1):
            reads = _draw_placed_reads(rng, reference, *_build_haplotype(reference, contig_sites, copy))
            placed += _format_reads(reads, reference.name, f"{reference.name}:{copy + 1}")
        lines += [line for _, line in sorted(placed, key=itemgetter(0))]
    return lines + _draw_unplaced_lines(rng)


def _build_haplotype(reference: Reference, sites: Sequence[Site], copy: int) -> tuple[Bytes, _Positions]:
    """The bases of one chromosome copy (0 or 1) of the sequenced sample, and their positions on the reference.

    An inserted base has the position -1.
    """
    text, positions, done = "", [], 0
    for site in sites:
        allele = site.alleles[site.genotypes[SEQUENCED, copy]]
        end = site.position + len(site.alleles[0])
        text += reference.text[done : site.position] + allele
        aligned_end = min(end, site.position + len(allele))
        positions.append(np.arange(done, aligned_end, dtype=np.int32))
        positions.append(np.full(site.position + len(allele) - aligned_end, -1, dtype=np.int32))
        done = end
    positions.append(np.arange(done, len(reference.text), dtype=np.int32))
    letters = np.frombuffer((text + reference.text[done:]).encode("ascii"), dtype=np.uint8)
    codes = np.searchsorted(np.frombuffer(b"ACGT", dtype=np.uint8), letters).astype(np.uint8)
    return codes, np.concatenate(positions)


def _draw_placed_reads(
    rng: np.random.Generator, reference: Reference, haplotype: Bytes, positions: _Positions
) -> _Reads:
    count = MEAN_DEPTH * len(reference.text) // (4 * _READ_LENGTH)
    lengths = np.clip(rng.normal(400, 60, count), 200, 700).astype(np.int64)
    starts = rng.integers(0, len(haplotype) - lengths)
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
    codes, qualities = haplotype[bases], _draw_qualities(rng, 2 * count)
    qualities[count:] = qualities[count:, ::-1]  # right mates are sequenced from their right end
    qualities[is_unmapped] = 2  # so low that its errors leave nothing to align
    _add_errors(rng, codes, qualities)
    mapping_qualities = np.where(rng.random(2 * count) < 0.04, rng.integers(0, 60, 2 * count), 60)
    return (
        _combine_flags(np.concatenate([is_read1, ~is_read1]), is_unmapped, is_duplicate),
        np.where(is_unmapped, 0, mapping_qualities).tolist(),
        _align_reads(reference, codes, positions[bases]),
        _split_reads(decode_bases(codes)),
        _split_reads((qualities + 33).tobytes().decode("ascii")),
    )


def _draw_qualities(rng: np.random.Generator, count: int) -> Bytes:
    """Draw reads' base qualities (Phred scale, four bins) in sequencing order, falling towards the end."""
    wear = (0.2 + 0.8 * np.linspace(0, 1, _READ_LENGTH) ** 2).astype(np.float32)
    luck = rng.random((count, _READ_LENGTH), dtype=np.float32) / wear
    return np.select([luck < 0.02, luck < 0.25, luck < 0.5], [2, 12, 23], 37).astype(np.uint8)


def _add_errors(rng: np.random.Generator, codes: Bytes, qualities: Bytes) -> None:
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


def _align_reads(reference: Reference, codes: Bytes, positions: _Positions) -> list[_Alignment]:
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
    is_anchor = [block.end - block.start >= _MIN_ANCHOR for block in blocks]
    return blocks[is_anchor.index(True) : len(blocks) - is_anchor[::-1].index(True)]


def _describe_alignment(text: str, blocks: Sequence[_Block], mismatches: Sequence[int]) -> _Alignment:
    """Describe a read aligned in `blocks` to the reference `text`, with `mismatches` at these positions of the read."""
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
        for position in mismatches:
            if start <= position < end:
                md += f"{matches + position - read_end}{text[reference_start + position - start]}"
                nm, matches, read_end = nm + 1, 0, position + 1
        matches += end - read_end
        read_end, reference_end = end, reference_start + end - start
    if read_end < _READ_LENGTH:
        cigar += f"{_READ_LENGTH - read_end}S"
    return _Alignment(blocks[0].reference_start, reference_end, cigar, f"{md}{matches}", nm)


def _format_reads(reads: _Reads, reference_name: str, name_prefix: str) -> list[tuple[int, str]]:
    """Format reads as (reference position, SAM line), in the order given."""
    alignments, lines = reads[2], []
    count = len(alignments) // 2
    for row, (flag, mapping_quality, own, sequence, quality) in enumerate(zip(*reads, strict=True)):
        mate = alignments[(row + count) % (2 * count)]
        # An unmapped read is placed where its mate is.
        start = mate.start if flag & pysam.FUNMAP else own.start
        mate_start = own.start if flag & pysam.FMUNMAP else mate.start
        span = max(own.end, mate.end) - min(own.start, mate.start) if flag & pysam.FPROPER_PAIR else 0
        cigar, tags = ("*", "") if flag & pysam.FUNMAP else (own.cigar, f"MD:Z:{own.md}\tNM:i:{own.nm}\t")
        line = (
            f"{name_prefix}:{row % count}\t{flag}\t{reference_name}\t{start + 1}\t{mapping_quality}\t{cigar}\t="
            f"\t{mate_start + 1}\t{span if row < count else -span}\t{sequence}\t{quality}\t{tags}RG:Z:{RUN}"
        )
        lines.append((start, line))
    return lines


def _draw_unplaced_lines(rng: np.random.Generator) -> list[str]:
    """Draw SAM lines of read pairs that come from no part of the reference."""
    qualities, lines = _draw_qualities(rng, 2 * _UNPLACED_PAIRS), []
    sequences = _split_reads(decode_bases(rng.integers(0, 4, qualities.shape, dtype=np.uint8)))
    quality_texts = _split_reads((qualities + 33).tobytes().decode("ascii"))
    for row, (sequence, quality) in enumerate(zip(sequences, quality_texts, strict=True)):
        flag = pysam.FPAIRED | pysam.FUNMAP | pysam.FMUNMAP | (pysam.FREAD2 if row % 2 else pysam.FREAD1)
        lines.append(f"unplaced:{row // 2}\t{flag}\t*\t0\t0\t*\t*\t0\t0\t{sequence}\t{quality}\tRG:Z:{RUN}")
    return lines


def write_reads(bam_path: Path, cram_path: Path, references: Sequence[Reference], lines: Sequence[str]) -> None:
    """Write SAM lines as BAM and as CRAM, with their indexes."""
    sequences = [
        {"SN": name, "LN": len(text), "M5": hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()}
        for name, _, _, text in references
    ]
    groups = [{"ID": RUN, "SM": RUN, "LB": "demo", "PL": "ILLUMINA"}]
    header = pysam.AlignmentHeader.from_dict({"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": sequences, "RG": groups})
    segments = [pysam.AlignedSegment.fromstring(line, header) for line in lines]
    # Level 4 takes a third of the default level's time. CRAM 3.0, because not every browser reads 3.1; embed_ref=2
    # embeds the reference that the MD tags state, where 1 would put the path of demo.fa into the header.
    cram_options = [b"version=3.0", b"embed_ref=2", b"seqs_per_slice=2000"]
    for path, mode, options in ((bam_path, "wb", [b"level=4"]), (cram_path, "wc", cram_options)):
        with pysam.AlignmentFile(str(path), mode, header=header, format_options=options) as file:  # type: ignore[arg-type]
            for segment in segments:
                file.write(segment)
    _set_cram_identifier(cram_path)
    for path in (bam_path, cram_path):
        pysam.index(str(path), catch_stdout=False)


def _set_cram_identifier(path: Path) -> None:
    """Put the file's name into its identifier, which htslib made from a path that differs every time."""
    with path.open("r+b") as cram:
        cram.seek(6)  # the identifier is 20 bytes, after the magic number and the version
        cram.write(path.name.encode("ascii").ljust(20, b"\0"))
