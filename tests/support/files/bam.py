"""BAM files, written byte by byte: as samtools, Picard and others leave them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pysam

from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, cut_unevenly, write_bgzf
from tests.support.files.indexes import make_index


class Reference(NamedTuple):
    """A reference sequence of a header."""

    name: str
    length: int


class Read(NamedTuple):
    """What the makers choose about a read; its bases and qualities are random."""

    name: str
    flag: int
    reference_id: int
    start: int
    cigar: tuple[tuple[int, int], ...]
    bases: int


MATCH, INSERTION, DELETION, SKIP, SOFT_CLIP = range(5)
UNMAPPED = 4

_ADVANCES_REFERENCE = frozenset((MATCH, DELETION, SKIP))
_BASE_PAIRS = bytes(16 * (1 << (i & 3)) + (1 << (i >> 2 & 3)) for i in range(256))
_QUALITIES = bytes((11, 25, 37, 37)[i & 3] for i in range(256))


def _span(read: Read) -> int:
    """How many bases of the reference a read covers by its CIGAR."""
    return sum(length for operation, length in read.cigar if operation in _ADVANCES_REFERENCE)


def _bin(start: int, end: int) -> int:
    """The bin of the five-level scheme, 0 for what lies beyond it."""
    if end > 1 << 29:
        return 0
    last = end - 1
    for shift, first in ((14, 4681), (17, 585), (20, 73), (23, 9), (26, 1)):
        if start >> shift == last >> shift:
            return first + (start >> shift)
    return 0


def bam_header(references: Sequence[Reference], lines: Iterable[str] = ()) -> bytes:
    """The header of a BAM file, uncompressed, with more header lines if given."""
    text = "@HD\tVN:1.6\tSO:coordinate\n"
    text += "".join(f"@SQ\tSN:{name}\tLN:{length}\n" for name, length in references)
    text += "".join(f"{line}\n" for line in lines)
    packed = [b"BAM\x01", struct.pack("<i", len(text)), text.encode(), struct.pack("<i", len(references))]
    for name, length in references:
        packed.append(struct.pack("<i", len(name) + 1) + name.encode() + b"\0" + struct.pack("<i", length))
    return b"".join(packed)


def bam_record(read: Read, rng: random.Random) -> bytes:
    """A record of a BAM file, uncompressed."""
    name = read.name.encode() + b"\0"
    cigar = read.cigar
    tags = b"NMC" + bytes((rng.randrange(4),))
    if len(cigar) > 0xFFFF:
        operations = struct.pack(f"<{len(cigar)}I", *(length << 4 | operation for operation, length in cigar))
        tags += b"CGBI" + struct.pack("<i", len(cigar)) + operations
        cigar = ((SOFT_CLIP, read.bases), (SKIP, _span(read)))
    span = 1 if read.flag & UNMAPPED else _span(read) or 1
    body = (
        struct.pack(
            "<2i2B3H4i",
            read.reference_id,
            read.start,
            len(name),
            0 if read.flag & UNMAPPED else 60,
            4680 if read.reference_id < 0 else _bin(read.start, read.start + span),
            len(cigar),
            read.flag,
            read.bases,
            -1,
            -1,
            0,
        )
        + name
        + struct.pack(f"<{len(cigar)}I", *(length << 4 | operation for operation, length in cigar))
        + rng.randbytes(read.bases // 2).translate(_BASE_PAIRS)
        + (b"\x10" if read.bases % 2 else b"")
        + rng.randbytes(read.bases).translate(_QUALITIES)
        + tags
    )
    return struct.pack("<i", len(body)) + body


def _read_at(rng: random.Random, name: str, reference_id: int, start: int, length: int) -> Read:
    """A read of a random kind at this start on a reference of this length."""
    bases = rng.randint(16, 30)
    room = length - start
    kind = rng.random()
    flag = rng.choice((0, 16))
    if kind < 0.04:
        return Read(name, UNMAPPED, reference_id, start, (), bases)
    if kind < 0.05:
        return Read(name, UNMAPPED, reference_id, start, ((MATCH, bases),) if bases <= room else (), bases)
    if kind < 0.06:
        # Without bases too: CRAM can't hold bases of a mapped read that has no CIGAR.
        return Read(name, flag, reference_id, start, (), 0)
    if kind < 0.08:
        skip = int(2 ** rng.uniform(8, 19))
        if bases + skip <= room:
            return Read(name, flag, reference_id, start, ((MATCH, 8), (SKIP, skip), (MATCH, bases - 8)), bases)
    if kind < 0.15 and bases + 3 <= room:
        return Read(name, flag, reference_id, start, ((MATCH, 10), (DELETION, 3), (MATCH, bases - 10)), bases)
    if kind < 0.2 and bases <= room:
        return Read(name, flag, reference_id, start, ((SOFT_CLIP, 4), (MATCH, 6), (INSERTION, bases - 10)), bases)
    if bases <= room:
        return Read(name, flag, reference_id, start, ((MATCH, bases),), bases)
    return Read(name, flag, reference_id, start, ((MATCH, room), (SOFT_CLIP, bases - room)), bases)


def some_reads(
    seed: str,
    references: Sequence[Reference],
    count: int = 20_000,
    unplaced: int = 300,
    without: Iterable[int] = (),
) -> list[Read]:
    """Reads in coordinate order on all the references but those without any, then the unplaced ones.

    Most lie in a few deep regions, some anywhere, a few span far.
    The sixth tenth of every reference is empty but for what spans it and for a group of unmapped reads placed there.
    """
    rng = random.Random(seed)
    barren = frozenset(without)
    chosen = [reference_id for reference_id in range(len(references)) if reference_id not in barren]
    whole = sum(references[reference_id].length for reference_id in chosen)
    reads: list[Read] = []

    def add(reference_id: int, start: int) -> None:
        reads.append(_read_at(rng, f"r{len(reads)}", reference_id, start, references[reference_id].length))

    for reference_id in chosen:
        length = references[reference_id].length
        last = length - 1
        desert = range(length * 5 // 10, length * 6 // 10)
        deep_starts = [rng.randrange(length) for _ in range(5)]
        for _ in range(max(count * length // whole, 2)):
            if rng.random() < 0.7:
                start = min(rng.choice(deep_starts) + rng.randrange(500), last)
            else:
                start = rng.randrange(length)
            add(reference_id, start - len(desert) if start in desert else start)
        add(reference_id, 0)
        add(reference_id, last)
        for _ in range(min(20, len(desert))):
            middle = desert[len(desert) // 2]
            reads.append(Read(f"r{len(reads)}", UNMAPPED, reference_id, middle, (), 20))
    reads.sort(key=lambda read: (read.reference_id, read.start))
    for number in range(unplaced):
        reads.append(Read(f"u{number}", UNMAPPED, -1, -1, (), rng.randint(16, 30)))
    return reads


def bam_data(
    references: Sequence[Reference], reads: Iterable[Read], lines: Iterable[str] = (), seed: str = "bases"
) -> bytes:
    """All the data of a BAM file, uncompressed."""
    rng = random.Random(seed)
    return bam_header(references, lines) + b"".join(bam_record(read, rng) for read in reads)


def random_text(rng: random.Random, length: int) -> str:
    """Letters and digits which hardly compress."""
    return rng.randbytes(length).translate(_LETTERS).decode()


_LETTERS = (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" * 4)[:256]

SOME_REFERENCES = (
    Reference("chr1", 3_000_000),
    Reference("chr2", 1_200_000),
    Reference("chr3", 400_000),
    Reference("chrM", 16_569),
)

ODD_READ_REFERENCES = (
    Reference("HLA-A*01:01:01:01", 300_000),
    Reference("HLA-A*01:01:01", 200_000),
    Reference("chr1/x", 200_000),
    Reference("a#b", 200_000),
    Reference("chr1=2", 100_000),
    Reference("gi|568336023|gb|CM000663.2|", 100_000),
    Reference("chr1:1-1000", 100_000),
    Reference("100%25", 100_000),
    Reference("a+b&c?d;e", 100_000),
    Reference("#1", 100_000),
)
"""Names with the characters which mean something in regions, URLs and headers, all allowed by the specification."""


def some_bam_data(seed: str, lines: Iterable[str] = (), count: int = 20_000) -> bytes:
    """The data of a BAM file with the ordinary references."""
    return bam_data(SOME_REFERENCES, some_reads(seed, SOME_REFERENCES, count), lines)


def write_as_samtools(path: Path, data: bytes, mode: str = "wb", options: Sequence[str] = ()) -> None:
    """Let htslib write BAM data as BAM, or as CRAM in mode wc, so that it chooses the blocks."""
    plain = path.with_name(f"{path.name}.plain")
    write_bgzf(plain, cut(data, MAX_BLOCK_DATA), level=1)
    with (
        pysam.AlignmentFile(str(plain), "rb", check_sq=False) as source,
        pysam.AlignmentFile(str(path), mode, template=source, format_options=list(options)) as target,
    ):
        for read in source.fetch(until_eof=True):
            target.write(read)
    plain.unlink()
    if mode == "wc":
        with path.open("r+b") as file:
            # The file id, for which htslib takes the path.
            file.seek(6)
            file.write(path.name.encode()[:20].ljust(20, b"\0"))


def bam_normal(folder: Path) -> Path:
    """As samtools writes it: the header in its own blocks, no record across blocks that fits into one."""
    path = folder / "normal.bam"
    write_as_samtools(path, some_bam_data("bam_normal"))
    make_index(path)
    return path


def bam_straddling(folder: Path) -> Path:
    """As Picard writes it: one stream cut into full blocks, so the header shares a block with records."""
    path = folder / "straddling.bam"
    write_bgzf(path, cut(some_bam_data("bam_straddling"), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bam_tiny_blocks(folder: Path) -> Path:
    """Blocks of 20 to 300 bytes; the header takes several and ends within one, most records straddle some."""
    path = folder / "tiny_blocks.bam"
    write_bgzf(path, cut_unevenly(some_bam_data("bam_tiny_blocks", count=5_000), 20, 300, "tiny"), level=1)
    make_index(path)
    return path


def bam_big_header(folder: Path) -> Path:
    """A header of more than 64 KiB even when compressed, which shares its last block with records."""
    rng = random.Random("bam_big_header")
    lines = [f"@RG\tID:group{number}\tSM:{random_text(rng, 40)}" for number in range(300)]
    lines += [f"@PG\tID:program{number}\tPN:x\tCL:{random_text(rng, 200)}" for number in range(100)]
    lines += [f"@CO\t{random_text(rng, 800)}" for _ in range(150)]
    path = folder / "big_header.bam"
    write_bgzf(path, cut(some_bam_data("bam_big_header", lines, count=5_000), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bam_no_eof(folder: Path) -> Path:
    """Without the empty block at the end."""
    path = folder / "no_eof.bam"
    write_bgzf(path, cut(some_bam_data("bam_no_eof", count=5_000), MAX_BLOCK_DATA), eof=False)
    make_index(path)
    return path


def bam_empty(folder: Path) -> Path:
    """A header and no record."""
    path = folder / "empty.bam"
    write_bgzf(path, [bam_header(SOME_REFERENCES)])
    make_index(path)
    return path


def bam_only_unplaced(folder: Path) -> Path:
    """References in the header, but all reads unplaced."""
    path = folder / "only_unplaced.bam"
    reads = some_reads("bam_only_unplaced", SOME_REFERENCES, unplaced=3_000, without=range(4))
    write_bgzf(path, cut(bam_data(SOME_REFERENCES, reads), 20_000))
    make_index(path)
    return path


def bam_no_references(folder: Path) -> Path:
    """No reference in the header and all reads unplaced, as sequencers' unaligned BAM."""
    path = folder / "no_references.bam"
    write_bgzf(path, cut(bam_data((), some_reads("bam_no_references", (), unplaced=3_000)), 20_000))
    make_index(path)
    return path


def bam_all_placed(folder: Path) -> Path:
    """No unplaced read at the end."""
    path = folder / "all_placed.bam"
    reads = some_reads("bam_all_placed", SOME_REFERENCES, count=5_000, unplaced=0)
    write_bgzf(path, cut(bam_data(SOME_REFERENCES, reads), 20_000))
    make_index(path)
    return path


def references_with_gaps() -> list[Reference]:
    """Nine references, of which `GAPS` leaves only three with records: not the first, not the last."""
    return [Reference(f"ctg{number}", 150_000 + 10_000 * number) for number in range(9)]


GAPS = (0, 2, 3, 5, 6, 8)


def bam_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between."""
    path = folder / "contig_without_records.bam"
    references = references_with_gaps()
    reads = some_reads("bam_contig_without_records", references, count=6_000, without=GAPS)
    write_bgzf(path, cut(bam_data(references, reads), 10_000))
    make_index(path)
    return path


def bam_csi(folder: Path) -> Path:
    """With a CSI index only."""
    path = folder / "csi.bam"
    write_bgzf(path, cut(some_bam_data("bam_csi", count=8_000), MAX_BLOCK_DATA))
    make_index(path, csi=True)
    return path


LONG_REFERENCES = (Reference("small", 50_000), Reference("long", 900_000_000), Reference("last", 70_000))


def bam_long_contig(folder: Path) -> Path:
    """A reference longer than a BAI index can cover, with reads up to its last base, and a CSI index."""
    path = folder / "long_contig.bam"
    reads = some_reads("bam_long_contig", LONG_REFERENCES, count=6_000)
    write_bgzf(path, cut(bam_data(LONG_REFERENCES, reads), 8_000))
    make_index(path, csi=True)
    return path


def bam_odd_names(folder: Path) -> Path:
    """Reference names with all the characters that mean something elsewhere."""
    path = folder / "odd_names.bam"
    reads = some_reads("bam_odd_names", ODD_READ_REFERENCES, count=5_000)
    write_bgzf(path, cut(bam_data(ODD_READ_REFERENCES, reads), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bam_long_reads(folder: Path) -> Path:
    """Records of more than 64 KiB, which span several blocks, and one with more CIGAR operations than fit the field."""
    rng = random.Random("bam_long_reads")
    references = (Reference("chr1", 2_000_000), Reference("chr2", 500_000))
    reads = some_reads("bam_long_reads", references, count=500, unplaced=10)
    for number, (reference_id, start) in enumerate(((0, 0), (0, 700_000), (0, 700_000), (0, 1_400_000), (1, 200_000))):
        bases = rng.randint(50_000, 120_000)
        reads.append(Read(f"long{number}", 0, reference_id, start, ((MATCH, bases),), bases))
    ragged = ((MATCH, 1), (DELETION, 1)) * 35_000 + ((MATCH, 1),)
    reads.append(Read("ragged", 0, 1, 300_000, ragged, 35_001))
    reads.append(Read("long_unplaced", UNMAPPED, -1, -1, (), 90_000))
    reads.sort(key=lambda read: (read.reference_id < 0, read.reference_id, read.start))
    path = folder / "long_reads.bam"
    write_bgzf(path, cut(bam_data(references, reads), MAX_BLOCK_DATA), level=1)
    make_index(path)
    return path


def bam_empty_blocks(folder: Path) -> Path:
    """Empty blocks between the others, none with the bytes of the end marker: after the header too."""
    path = folder / "empty_blocks.bam"
    data = some_bam_data("bam_empty_blocks", count=3_000)
    length = len(bam_header(SOME_REFERENCES))
    parts = [data[:length], b"", b""]
    for part in cut(data[length:], 5_000):
        parts += [part, b""]
    write_bgzf(path, parts)
    make_index(path)
    return path


def bam_deep(folder: Path) -> Path:
    """A read at every 100 bases up to 600 kb and from 5 Mb on, then unplaced ones: in 1,100 blocks of 10 kB."""
    rng = random.Random("bam_deep")
    starts = (*range(0, 600_000, 100), *range(5_000_000, 5_100_000, 100))
    reads = [Read(f"r{start}", 0, 0, start, ((MATCH, 900),), 900) for start in starts]
    reads += [Read(f"u{number}", UNMAPPED, -1, -1, (), 900) for number in range(1500)]
    data = b"".join(bam_record(read, rng) for read in reads)
    path = folder / "deep.bam"
    write_bgzf(path, [bam_header([Reference("chr1", 20_000_000)]), *cut(data, 10_000)], level=0)
    make_index(path)
    return path
