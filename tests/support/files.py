"""Makers of small genomic files, all made in code, with layouts that a server of byte ranges can get wrong.

Every maker takes a folder, writes one data file there with its index beside it, and returns the path of the data file.
The bytes are the same on every run.
`GOOD` names the makers of files that every reader of the format accepts, `FORMATS` the format of each;
the makers of broken files stand at the end and are in neither.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pysam

Maker = Callable[[Path], Path]

# ---------------------------------------------------------------------------------------------------------------------
# BGZF
# ---------------------------------------------------------------------------------------------------------------------

MAX_BLOCK_DATA = 65280
"""How much data samtools, bgzip and Picard put into one BGZF block at most."""

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty BGZF block which marks the end of a file."""


def bgzf_block(data: bytes, level: int = 6) -> bytes:
    """One BGZF block which holds the data."""
    if len(data) > MAX_BLOCK_DATA:
        raise ValueError(f"{len(data)} bytes are too many for one BGZF block")
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    deflated = compressor.compress(data) + compressor.flush()
    size = len(deflated) + 26
    if size > 0x10000:
        return bgzf_block(data, level=0)
    head = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, ord("B"), ord("C"), 2, size - 1)
    return head + deflated + struct.pack("<2I", zlib.crc32(data), len(data))


def write_bgzf(path: Path, pieces: Iterable[bytes], eof: bool = True, level: int = 6) -> None:
    """Write a BGZF file in which every piece of data has a block of its own."""
    with path.open("wb") as file:
        for piece in pieces:
            # Stored, so that an empty block in mid-file does not have the very bytes of the end marker.
            file.write(bgzf_block(piece, level if piece else 0))
        if eof:
            file.write(BGZF_EOF)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces of this size, the last one shorter."""
    for offset in range(0, len(data), size):
        yield data[offset : offset + size]


def cut_unevenly(data: bytes, smallest: int, largest: int, seed: str) -> Iterator[bytes]:
    """The data in pieces of random sizes."""
    rng = random.Random(seed)
    offset = 0
    while offset < len(data):
        size = rng.randint(smallest, largest)
        yield data[offset : offset + size]
        offset += size


def bgzf_data(path: Path) -> bytes:
    """All the data of a BGZF file."""
    return gzip.decompress(path.read_bytes())


# ---------------------------------------------------------------------------------------------------------------------
# Indexes
# ---------------------------------------------------------------------------------------------------------------------


def index_of(path: Path) -> Path | None:
    """The index beside a data file, None if there is none."""
    for suffix in (".csi", ".bai", ".tbi", ".crai"):
        index = Path(f"{path}{suffix}")
        if index.exists():
            return index
    return None


def make_index(path: Path, csi: bool = False) -> Path:
    """Index a file beside it: BAI, TBI or, when asked for, CSI; CRAI for CRAM and always CSI for BCF."""
    if path.suffix == ".bam":
        if csi:
            pysam.index("-c", str(path))
        else:
            pysam.index(str(path))
    elif path.suffix == ".cram":
        pysam.index(str(path))
    elif path.suffix == ".bcf":
        pysam.tabix_index(str(path), preset="bcf", force=True)  # type: ignore[arg-type]
    else:
        pysam.tabix_index(str(path), preset="vcf", force=True, csi=csi)
    index = index_of(path)
    if index is None:
        raise AssertionError(f"no index was made for {path}")
    return index


# ---------------------------------------------------------------------------------------------------------------------
# Reads
# ---------------------------------------------------------------------------------------------------------------------


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

    Most lie in a few deep places, some anywhere, a few span far.
    The sixth tenth of every reference is empty but for what spans it and for a group of unmapped reads placed there.
    """
    rng = random.Random(seed)
    barren = frozenset(without)
    chosen = [reference_id for reference_id in range(len(references)) if reference_id not in barren]
    whole = sum(references[reference_id].length for reference_id in chosen)
    reads: list[Read] = []

    def place(reference_id: int, start: int) -> None:
        reads.append(_read_at(rng, f"r{len(reads)}", reference_id, start, references[reference_id].length))

    for reference_id in chosen:
        length = references[reference_id].length
        last = length - 1
        desert = range(length * 5 // 10, length * 6 // 10)
        deep_places = [rng.randrange(length) for _ in range(5)]
        for _ in range(max(count * length // whole, 2)):
            if rng.random() < 0.7:
                start = min(rng.choice(deep_places) + rng.randrange(500), last)
            else:
                start = rng.randrange(length)
            place(reference_id, start - len(desert) if start in desert else start)
        place(reference_id, 0)
        place(reference_id, last)
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


def _some_bam_data(seed: str, lines: Iterable[str] = (), count: int = 20_000) -> bytes:
    """The data of a BAM file with the ordinary references."""
    return bam_data(SOME_REFERENCES, some_reads(seed, SOME_REFERENCES, count), lines)


def _write_as_samtools(path: Path, data: bytes, mode: str = "wb", options: Sequence[str] = ()) -> None:
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
    """As samtools writes it: the header in blocks of its own, no record across blocks that fits into one."""
    path = folder / "normal.bam"
    _write_as_samtools(path, _some_bam_data("bam_normal"))
    make_index(path)
    return path


def bam_straddling(folder: Path) -> Path:
    """As Picard writes it: one stream cut into full blocks, so the header shares a block with records."""
    path = folder / "straddling.bam"
    write_bgzf(path, cut(_some_bam_data("bam_straddling"), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bam_tiny_blocks(folder: Path) -> Path:
    """Blocks of 20 to 300 bytes; the header takes several and ends within one, most records straddle some."""
    path = folder / "tiny_blocks.bam"
    write_bgzf(path, cut_unevenly(_some_bam_data("bam_tiny_blocks", count=5_000), 20, 300, "tiny"), level=1)
    make_index(path)
    return path


def bam_big_header(folder: Path) -> Path:
    """A header of more than 64 KiB even when compressed, which shares its last block with records."""
    rng = random.Random("bam_big_header")
    lines = [f"@RG\tID:group{number}\tSM:{random_text(rng, 40)}" for number in range(300)]
    lines += [f"@PG\tID:program{number}\tPN:x\tCL:{random_text(rng, 200)}" for number in range(100)]
    lines += [f"@CO\t{random_text(rng, 800)}" for _ in range(150)]
    path = folder / "big_header.bam"
    write_bgzf(path, cut(_some_bam_data("bam_big_header", lines, count=5_000), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bam_no_eof(folder: Path) -> Path:
    """Without the empty block at the end."""
    path = folder / "no_eof.bam"
    write_bgzf(path, cut(_some_bam_data("bam_no_eof", count=5_000), MAX_BLOCK_DATA), eof=False)
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


def _references_with_gaps() -> list[Reference]:
    """Nine references, of which `_GAPS` leaves only three with records: not the first, not the last."""
    return [Reference(f"ctg{number}", 150_000 + 10_000 * number) for number in range(9)]


_GAPS = (0, 2, 3, 5, 6, 8)


def bam_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between."""
    path = folder / "contig_without_records.bam"
    references = _references_with_gaps()
    reads = some_reads("bam_contig_without_records", references, count=6_000, without=_GAPS)
    write_bgzf(path, cut(bam_data(references, reads), 10_000))
    make_index(path)
    return path


def bam_csi(folder: Path) -> Path:
    """With a CSI index only."""
    path = folder / "csi.bam"
    write_bgzf(path, cut(_some_bam_data("bam_csi", count=8_000), MAX_BLOCK_DATA))
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
    data = _some_bam_data("bam_empty_blocks", count=3_000)
    length = len(bam_header(SOME_REFERENCES))
    pieces = [data[:length], b"", b""]
    for piece in cut(data[length:], 5_000):
        pieces += [piece, b""]
    write_bgzf(path, pieces)
    make_index(path)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# CRAM
# ---------------------------------------------------------------------------------------------------------------------

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
    _write_as_samtools(path, data, "wc", ["no_ref=1", *options])
    make_index(path)
    return path


def _write_some_cram(path: Path, count: int, *options: str, lines: Iterable[str] = ()) -> Path:
    """Write a CRAM file with the ordinary references."""
    reads = some_reads(path.name, SOME_REFERENCES, count)
    return _write_cram(path, SOME_REFERENCES, reads, *options, lines=lines)


def cram(folder: Path, version: str) -> Path:
    """An ordinary CRAM file of this version."""
    path = folder / f"version_{version}.cram"
    lines = ("@RG\tID:group\tSM:sample", "@CO\tAn ordinary file")
    return _write_some_cram(path, 10_000, f"version={version}", "seqs_per_slice=500", lines=lines)


def cram_2_1(folder: Path) -> Path:
    """Version 2.1: no checksums, another end marker."""
    return cram(folder, "2.1")


def cram_2_1_short_length(folder: Path) -> Path:
    """As htslib writes version 2.1 if its padding makes the lengths in the header's block longer: the length of the
    container which holds the header leaves out the last two bytes of its block."""
    path = folder / "short_length.cram"
    return _write_some_cram(path, 3_000, "version=2.1", "seqs_per_slice=200")


def cram_3_0(folder: Path) -> Path:
    """Version 3.0."""
    return cram(folder, "3.0")


def cram_3_1(folder: Path) -> Path:
    """Version 3.1."""
    return cram(folder, "3.1")


def cram_embedded_reference(folder: Path) -> Path:
    """With the reference, as far as the reads tell it, in the slices."""
    path = folder / "embedded_reference.cram"
    rng = random.Random("cram_embedded_reference")
    references = SOME_REFERENCES[:2]
    reads = [
        Read(f"r{number}", 0, reference_id, start, ((MATCH, 30),), 30)
        for reference_id in (0, 1)
        for number, start in enumerate(sorted(rng.randrange(400_000) for _ in range(3_000)))
    ]
    _write_as_samtools(path, bam_data(references, reads), "wc", ["version=3.0", "embed_ref=2", "seqs_per_slice=200"])
    make_index(path)
    return path


def cram_multi_slice(folder: Path) -> Path:
    """Several slices in every container."""
    path = folder / "multi_slice.cram"
    return _write_some_cram(path, 7_000, "version=3.0", "slices_per_container=4", "seqs_per_slice=100")


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
    references = _references_with_gaps()
    reads = some_reads("cram_contig_without_records", references, count=4_000, without=_GAPS)
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
    return _write_some_cram(path, 2_000, "version=3.0", "seqs_per_slice=200", lines=lines)


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
    _write_some_cram(path, 3_000, "version=3.0", "seqs_per_slice=300")
    whole = path.read_bytes()
    if not whole.endswith(CRAM_EOF[3]):
        raise AssertionError("the end marker is not what it should be")
    path.write_bytes(whole[: -len(CRAM_EOF[3])])
    make_index(path)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Variants
# ---------------------------------------------------------------------------------------------------------------------

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


def _vcf_data(
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


def _through_htslib(path: Path, data: bytes, mode: str) -> None:
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


def _bcf_data(folder: Path, data: bytes) -> bytes:
    """VCF data as BCF data, both uncompressed."""
    path = folder / "data.bcf"
    _through_htslib(path, data, "wb")
    packed = bgzf_data(path)
    path.unlink()
    return packed


def vcf_normal(folder: Path) -> Path:
    """As bcftools writes it, with a few records that span far."""
    path = folder / "normal.vcf.gz"
    _through_htslib(path, _vcf_data("vcf_normal"), "wz")
    make_index(path)
    return path


def vcf_csi(folder: Path) -> Path:
    """With a CSI index only."""
    path = folder / "csi.vcf.gz"
    _through_htslib(path, _vcf_data("vcf_csi", count=3_000), "wz")
    make_index(path, csi=True)
    return path


def vcf_mid_line_blocks(folder: Path) -> Path:
    """As bgzip writes it: one stream cut into full blocks in mid-line, the header in a block with records."""
    path = folder / "mid_line_blocks.vcf.gz"
    write_bgzf(path, cut(_vcf_data("vcf_mid_line_blocks", count=8_000), MAX_BLOCK_DATA))
    make_index(path)
    return path


def vcf_tiny_blocks(folder: Path) -> Path:
    """Blocks of about 700 bytes, some within one line only."""
    path = folder / "tiny_blocks.vcf.gz"
    write_bgzf(path, cut_unevenly(_vcf_data("vcf_tiny_blocks"), 20, 1_400, "tiny"), level=1)
    make_index(path)
    return path


def vcf_line_per_block(folder: Path) -> Path:
    """A block for every line of the header and of the body, so that every boundary is the end of a line."""
    path = folder / "line_per_block.vcf.gz"
    lines = _vcf_data("vcf_line_per_block", count=1_500).splitlines(keepends=True)
    write_bgzf(path, lines, level=1)
    make_index(path)
    return path


def vcf_crlf(folder: Path) -> Path:
    """Lines which end with carriage return and line feed, and no newline after the last one."""
    path = folder / "crlf.vcf.gz"
    data = _vcf_data("vcf_crlf", count=2_000).replace(b"\n", b"\r\n")
    write_bgzf(path, cut(data[:-2], 9_000))
    make_index(path)
    return path


def vcf_no_contig_lines(folder: Path) -> Path:
    """No contig line in the header: only the index names the references."""
    path = folder / "no_contig_lines.vcf.gz"
    write_bgzf(path, cut(_vcf_data("vcf_no_contig_lines", count=3_000, contig_lines=()), 20_000))
    make_index(path)
    return path


def vcf_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between; the index does not name them."""
    path = folder / "contig_without_records.vcf.gz"
    data = _vcf_data("vcf_contig_without_records", _references_with_gaps(), count=3_000, without=_GAPS)
    write_bgzf(path, cut(data, 10_000))
    make_index(path)
    return path


def vcf_contig_order(folder: Path) -> Path:
    """Records in another order of references than the header's, so index and header number them differently."""
    path = folder / "contig_order.vcf.gz"
    lines = [contig_line(reference) for reference in reversed(VARIANT_REFERENCES)]
    write_bgzf(path, cut(_vcf_data("vcf_contig_order", count=3_000, contig_lines=lines), 20_000))
    make_index(path)
    return path


def _big_vcf_data(seed: str) -> bytes:
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
    write_bgzf(path, cut(_big_vcf_data("vcf_big_header"), MAX_BLOCK_DATA))
    make_index(path)
    return path


def vcf_no_eof(folder: Path) -> Path:
    """Without the empty block at the end."""
    path = folder / "no_eof.vcf.gz"
    write_bgzf(path, cut(_vcf_data("vcf_no_eof", count=2_000), 20_000), eof=False)
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
    write_bgzf(path, cut(_vcf_data("vcf_odd_names", ODD_VARIANT_REFERENCES, count=3_000), 20_000))
    make_index(path)
    return path


def vcf_empty_blocks(folder: Path) -> Path:
    """Empty blocks between the others, none with the bytes of the end marker: after the header too."""
    path = folder / "empty_blocks.vcf.gz"
    data = _vcf_data("vcf_empty_blocks", count=2_000)
    length = len(vcf_header([contig_line(reference) for reference in VARIANT_REFERENCES], SAMPLES))
    pieces = [data[:length], b"", b""]
    for piece in cut(data[length:], 5_000):
        pieces += [piece, b""]
    write_bgzf(path, pieces)
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
    write_bgzf(path, cut(_vcf_data("vcf_long_contig", LONG_VARIANT_REFERENCES, count=3_000), 8_000))
    make_index(path, csi=True)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# BCF
# ---------------------------------------------------------------------------------------------------------------------


def bcf_normal(folder: Path) -> Path:
    """As bcftools writes it."""
    path = folder / "normal.bcf"
    _through_htslib(path, _vcf_data("bcf_normal"), "wb")
    make_index(path)
    return path


def bcf_straddling(folder: Path) -> Path:
    """One stream cut into full blocks, so the header shares a block with records and records straddle blocks."""
    path = folder / "straddling.bcf"
    write_bgzf(path, cut(_bcf_data(folder, _vcf_data("bcf_straddling", count=8_000)), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bcf_tiny_blocks(folder: Path) -> Path:
    """Blocks of a few hundred bytes, so that most records straddle two."""
    path = folder / "tiny_blocks.bcf"
    write_bgzf(path, cut_unevenly(_bcf_data(folder, _vcf_data("bcf_tiny_blocks")), 20, 500, "tiny"), level=1)
    make_index(path)
    return path


SPARSE_IDX = (31, 0, 7)
"""The numbers of the three references of `bcf_sparse_idx`, in the order of its header and of its records."""


def bcf_sparse_idx(folder: Path) -> Path:
    """Contig lines with explicit numbers which leave gaps and do not ascend, as filtered files have."""
    path = folder / "sparse_idx.bcf"
    lines = [contig_line(reference, idx) for reference, idx in zip(VARIANT_REFERENCES, SPARSE_IDX, strict=True)]
    data = _bcf_data(folder, _vcf_data("bcf_sparse_idx", count=3_000, contig_lines=lines))
    for line in lines:
        if line.encode() not in data:
            raise AssertionError(f"the header lost {line}")
    write_bgzf(path, cut(data, 20_000))
    make_index(path)
    return path


def bcf_contig_without_records(folder: Path) -> Path:
    """References without any record: the first, the last and some between."""
    path = folder / "contig_without_records.bcf"
    data = _vcf_data("bcf_contig_without_records", _references_with_gaps(), count=3_000, without=_GAPS)
    write_bgzf(path, cut(_bcf_data(folder, data), 10_000))
    make_index(path)
    return path


def bcf_odd_names(folder: Path) -> Path:
    """Reference names with all the characters that mean something elsewhere."""
    path = folder / "odd_names.bcf"
    data = _bcf_data(folder, _vcf_data("bcf_odd_names", ODD_VARIANT_REFERENCES, count=3_000))
    write_bgzf(path, cut(data, 20_000))
    make_index(path)
    return path


def bcf_long_contig(folder: Path) -> Path:
    """A reference of 1.2 Gb with records up to its last base."""
    path = folder / "long_contig.bcf"
    data = _bcf_data(folder, _vcf_data("bcf_long_contig", LONG_VARIANT_REFERENCES, count=3_000))
    write_bgzf(path, cut(data, 8_000))
    make_index(path)
    return path


def bcf_big_header(folder: Path) -> Path:
    """A header of more than 64 KiB even when compressed, which shares its last block with records."""
    path = folder / "big_header.bcf"
    write_bgzf(path, cut(_bcf_data(folder, _big_vcf_data("bcf_big_header")), MAX_BLOCK_DATA))
    make_index(path)
    return path


def bcf_no_eof(folder: Path) -> Path:
    """Without the empty block at the end."""
    path = folder / "no_eof.bcf"
    write_bgzf(path, cut(_bcf_data(folder, _vcf_data("bcf_no_eof", count=2_000)), 20_000), eof=False)
    make_index(path)
    return path


def bcf_empty(folder: Path) -> Path:
    """A header and no record."""
    path = folder / "empty.bcf"
    header = vcf_header([contig_line(reference) for reference in VARIANT_REFERENCES], SAMPLES)
    write_bgzf(path, [_bcf_data(folder, header)])
    make_index(path)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Files that are odd or broken
# ---------------------------------------------------------------------------------------------------------------------


def bam_eof_inside(folder: Path) -> Path:
    """The end marker also in mid-file, as in files made by concatenation: legal, but no marker of the end."""
    path = folder / "eof_inside.bam"
    blocks = [bgzf_block(piece) for piece in cut(_some_bam_data("bam_eof_inside", count=5_000), 20_000)]
    half = len(blocks) // 2
    path.write_bytes(b"".join([*blocks[:half], BGZF_EOF, *blocks[half:], BGZF_EOF]))
    make_index(path)
    return path


def bam_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = folder / "without_index.bam"
    write_bgzf(path, cut(_some_bam_data("bam_without_index", count=1_000), MAX_BLOCK_DATA))
    return path


def cram_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = _write_some_cram(folder / "without_index.cram", 1_000, "version=3.0")
    Path(f"{path}.crai").unlink()
    return path


def vcf_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = folder / "without_index.vcf.gz"
    write_bgzf(path, cut(_vcf_data("vcf_without_index", count=500), MAX_BLOCK_DATA))
    return path


def bcf_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = folder / "without_index.bcf"
    write_bgzf(path, cut(_bcf_data(folder, _vcf_data("bcf_without_index", count=500)), MAX_BLOCK_DATA))
    return path


def _misfit_vcf(path: Path, pack: Callable[[bytes], bytes]) -> Path:
    """VCF data packed in some other way than BGZF, beside the index that it would have as BGZF."""
    data = _vcf_data(path.name, count=1_000)
    write_bgzf(path, cut(data, MAX_BLOCK_DATA))
    index = make_index(path)
    path.write_bytes(pack(data))
    os.utime(index)
    return path


def plain_gzip_vcf(folder: Path) -> Path:
    """Compressed by gzip instead of bgzip, with an index."""
    return _misfit_vcf(folder / "plain_gzip.vcf.gz", lambda data: gzip.compress(data, mtime=0))


def uncompressed_vcf(folder: Path) -> Path:
    """Text under the name of a compressed file, with an index."""
    return _misfit_vcf(folder / "uncompressed.vcf.gz", lambda data: data)


def _copy_index(path: Path, new_path: Path) -> Path:
    """Copy the index of one file beside another."""
    index = index_of(path)
    if index is None:
        raise ValueError(f"{path} has no index")
    new_index = Path(f"{new_path}{index.suffix}")
    shutil.copyfile(index, new_index)
    return new_index


def truncated(path: Path, new_path: Path) -> Path:
    """A copy of a file and its index, the data cut in the middle of a BGZF block or CRAM container."""
    whole = path.read_bytes()
    length = len(whole) * 2 // 3
    if path.suffix != ".cram":
        begin = 0
        while (end := begin + struct.unpack_from("<H", whole, begin + 16)[0] + 1) <= length:
            begin = end
        length = (begin + end) // 2
    new_path.write_bytes(whole[:length])
    if index_of(path):
        _copy_index(path, new_path)
    return new_path


def truncated_index(path: Path, new_path: Path) -> Path:
    """A copy of a file and the first half of its index."""
    shutil.copyfile(path, new_path)
    index = _copy_index(path, new_path)
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    return new_path


def foreign_index(path: Path, other: Path, new_path: Path) -> Path:
    """A copy of a file beside the index of another one."""
    shutil.copyfile(path, new_path)
    _copy_index(other, new_path)
    return new_path


def empty_index(path: Path, new_path: Path) -> Path:
    """A copy of a file beside an index of no bytes."""
    shutil.copyfile(path, new_path)
    _copy_index(path, new_path).write_bytes(b"")
    return new_path


# ---------------------------------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------------------------------


def _by_name(*makers: Maker) -> dict[str, Maker]:
    """Makers by the names of their functions."""
    return {maker.__name__: maker for maker in makers}


GOOD_BAM = _by_name(
    bam_normal,
    bam_straddling,
    bam_tiny_blocks,
    bam_big_header,
    bam_no_eof,
    bam_empty,
    bam_only_unplaced,
    bam_no_references,
    bam_all_placed,
    bam_contig_without_records,
    bam_csi,
    bam_long_contig,
    bam_odd_names,
    bam_long_reads,
    bam_empty_blocks,
)

GOOD_CRAM = _by_name(
    cram_2_1,
    cram_2_1_short_length,
    cram_3_0,
    cram_3_1,
    cram_embedded_reference,
    cram_multi_slice,
    cram_multi_ref,
    cram_multi_ref_multi_slice,
    cram_contig_without_records,
    cram_odd_names,
    cram_long_contig,
    cram_big_header,
    cram_only_unplaced,
    cram_empty,
    cram_no_eof,
)

GOOD_VCF = _by_name(
    vcf_normal,
    vcf_csi,
    vcf_mid_line_blocks,
    vcf_tiny_blocks,
    vcf_line_per_block,
    vcf_crlf,
    vcf_no_contig_lines,
    vcf_contig_without_records,
    vcf_contig_order,
    vcf_big_header,
    vcf_no_eof,
    vcf_empty,
    vcf_odd_names,
    vcf_empty_blocks,
    vcf_long_contig,
)

GOOD_BCF = _by_name(
    bcf_normal,
    bcf_straddling,
    bcf_tiny_blocks,
    bcf_sparse_idx,
    bcf_contig_without_records,
    bcf_odd_names,
    bcf_long_contig,
    bcf_big_header,
    bcf_no_eof,
    bcf_empty,
)

GOOD: dict[str, Maker] = {**GOOD_BAM, **GOOD_CRAM, **GOOD_VCF, **GOOD_BCF}
"""All the makers of files, with indexes, which every reader of the format accepts."""

GOOD_BGZF: dict[str, Maker] = {**GOOD_BAM, **GOOD_VCF, **GOOD_BCF}
"""Those of `GOOD` whose files consist of BGZF blocks."""

WITHOUT_INDEX = _by_name(bam_without_index, cram_without_index, vcf_without_index, bcf_without_index)
"""Sound files without an index."""

NOT_BGZF = _by_name(plain_gzip_vcf, uncompressed_vcf)
"""Files which are not what their names say."""

ODD = _by_name(bam_eof_inside)
"""Files which are legal, but against what most readers expect."""

FORMATS: dict[str, str] = {
    name: name.split("_")[0].upper() for makers in (GOOD, WITHOUT_INDEX, ODD) for name in makers
} | dict.fromkeys(NOT_BGZF, "VCF")
"""The format of each maker's file: BAM, CRAM, VCF or BCF."""
