"""CRAM files of all versions and layouts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.support.files.bam import (
    GAPS,
    LONG_REFERENCES,
    MATCH,
    ODD_READ_REFERENCES,
    SOFT_CLIP,
    SOME_REFERENCES,
    UNMAPPED,
    Read,
    Reference,
    bam_data,
    random_text,
    references_with_gaps,
    some_reads,
    write_as_samtools,
)
from tests.support.files.indexes import make_index

CRAM_EOF = {
    2: bytes.fromhex("0b000000ffffffff0fe0454f460000000001000001000606010001000100"),
    3: bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b"),
}
"""The container which marks the end of a CRAM file, by major version."""


def _with_mates(reads: Iterable[Read]) -> Iterator[Read]:
    """The reads with a mapped one right before and right after every placed unmapped read, at the same start.

    Without a reference htslib leaves unmapped reads out of the span of a slice, and so out of the index.
    These make sure that any slice with such a read also has a mapped one there.
    """
    for read in reads:
        if read.reference_id >= 0 and read.flag & UNMAPPED:
            mate = Read(f"{read.name}m", 0, read.reference_id, read.start, ((MATCH, 1), (SOFT_CLIP, 15)), 16)
            yield from (mate, read, mate._replace(name=f"{read.name}n"))
        else:
            yield read


def _write_cram(
    path: Path, references: Sequence[Reference], reads: Iterable[Read], *options: str, lines: Iterable[str] = ()
) -> Path:
    """Write a CRAM file which needs no reference to be read, and index it."""
    data = bam_data(references, _with_mates(reads), lines)
    write_as_samtools(path, data, "wc", ["no_ref=1", *options])
    make_index(path)
    return path


def write_some_cram(path: Path, count: int, *options: str, lines: Iterable[str] = ()) -> Path:
    """Write a CRAM file with the ordinary references."""
    reads = some_reads(path.name, SOME_REFERENCES, count)
    return _write_cram(path, SOME_REFERENCES, reads, *options, lines=lines)


def cram(folder: Path, version: str) -> Path:
    """An ordinary CRAM file of this version."""
    path = folder / f"version_{version}.cram"
    lines = ("@RG\tID:group\tSM:sample", "@CO\tAn ordinary file")
    return write_some_cram(path, 10_000, f"version={version}", "seqs_per_slice=500", lines=lines)


def cram_2_1(folder: Path) -> Path:
    """Version 2.1: no checksums, another end marker."""
    return cram(folder, "2.1")


def cram_2_1_short_length(folder: Path) -> Path:
    """As htslib writes version 2.1 if its padding makes the lengths in the header's block longer: the length of the
    container which holds the header leaves out the last two bytes of its block."""
    path = folder / "short_length.cram"
    return write_some_cram(path, 3_000, "version=2.1", "seqs_per_slice=200")


def cram_3_0(folder: Path) -> Path:
    """Version 3.0."""
    return cram(folder, "3.0")


def cram_3_1(folder: Path) -> Path:
    """Version 3.1."""
    return cram(folder, "3.1")


def cram_embedded_reference(folder: Path) -> Path:
    """With the reference in the slices, as far as the reads cover it."""
    path = folder / "embedded_reference.cram"
    rng = random.Random("cram_embedded_reference")
    references = SOME_REFERENCES[:2]
    reads = [
        Read(f"r{number}", 0, reference_id, start, ((MATCH, 30),), 30)
        for reference_id in (0, 1)
        for number, start in enumerate(sorted(rng.randrange(400_000) for _ in range(3_000)))
    ]
    write_as_samtools(path, bam_data(references, reads), "wc", ["version=3.0", "embed_ref=2", "seqs_per_slice=200"])
    make_index(path)
    return path


def cram_multi_slice(folder: Path) -> Path:
    """Several slices in every container."""
    path = folder / "multi_slice.cram"
    return write_some_cram(path, 7_000, "version=3.0", "slices_per_container=4", "seqs_per_slice=100")


def cram_multi_ref(folder: Path) -> Path:
    """Slices with reads on many references, few on each, and unplaced reads at the end."""
    path = folder / "multi_ref.cram"
    references = [Reference(f"ctg{number}", 5_000 + 10 * number) for number in range(150)]
    reads = some_reads("cram_multi_ref", references, count=3_000, without=(0, 70, 71, 149))
    options = ("version=3.0", "multi_seq_per_slice=1", "seqs_per_slice=400")
    return _write_cram(path, references, reads, *options)


def cram_multi_ref_multi_slice(folder: Path) -> Path:
    """Several slices in every container, each with reads on many references."""
    path = folder / "multi_ref_multi_slice.cram"
    references = [Reference(f"ctg{number}", 5_000 + 10 * number) for number in range(60)]
    reads = some_reads("cram_multi_ref_multi_slice", references, count=3_000, without=(0, 30, 59))
    options = ("version=3.1", "multi_seq_per_slice=1", "slices_per_container=3", "seqs_per_slice=100")
    return _write_cram(path, references, reads, *options)


def cram_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between."""
    path = folder / "contig_without_records.cram"
    references = references_with_gaps()
    reads = some_reads("cram_contig_without_records", references, count=4_000, without=GAPS)
    return _write_cram(path, references, reads, "version=3.0", "seqs_per_slice=200")


def cram_odd_names(folder: Path) -> Path:
    """Reference names with all the characters that mean something elsewhere."""
    path = folder / "odd_names.cram"
    reads = some_reads("cram_odd_names", ODD_READ_REFERENCES, count=4_000)
    return _write_cram(path, ODD_READ_REFERENCES, reads, "version=3.0", "seqs_per_slice=200")


def cram_long_contig(folder: Path) -> Path:
    """A reference of 900 Mb with reads up to its last base."""
    path = folder / "long_contig.cram"
    reads = some_reads("cram_long_contig", LONG_REFERENCES, count=4_000)
    return _write_cram(path, LONG_REFERENCES, reads, "version=3.0", "seqs_per_slice=200")


def cram_big_header(folder: Path) -> Path:
    """A header of more than 64 KiB even when compressed."""
    rng = random.Random("cram_big_header")
    lines = [f"@CO\t{random_text(rng, 800)}" for _ in range(200)]
    path = folder / "big_header.cram"
    return write_some_cram(path, 2_000, "version=3.0", "seqs_per_slice=200", lines=lines)


def cram_only_unplaced(folder: Path) -> Path:
    """References in the header, but all reads unplaced."""
    path = folder / "only_unplaced.cram"
    reads = some_reads("cram_only_unplaced", SOME_REFERENCES, unplaced=2_000, without=range(4))
    return _write_cram(path, SOME_REFERENCES, reads, "version=3.0", "seqs_per_slice=300")


def cram_empty(folder: Path) -> Path:
    """A header and no record."""
    return _write_cram(folder / "empty.cram", SOME_REFERENCES, (), "version=3.0")


def cram_no_eof(folder: Path) -> Path:
    """Without the end marker."""
    path = folder / "no_eof.cram"
    write_some_cram(path, 3_000, "version=3.0", "seqs_per_slice=300")
    whole = path.read_bytes()
    if not whole.endswith(CRAM_EOF[3]):
        raise AssertionError("the end marker is not what it should be")
    path.write_bytes(whole[: -len(CRAM_EOF[3])])
    make_index(path)
    return path
