"""A human genome at 30x, made in code: a sparse BAM of about 60 GB, and its index as BAI, CSI or TBI.

Reads stand at regular positions and all records have one size, so the offset of each of the 580 million records in the
file follows from its number. BGZF blocks are padded to one size too: each can be written at its offset
without those before it, and the rest of the file stays a hole. Where blocks are written, the file is a real BAM.
"""

import math
import random
import struct
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

HG38 = {
    "chr1": 248_956_422,
    "chr2": 242_193_529,
    "chr3": 198_295_559,
    "chr4": 190_214_555,
    "chr5": 181_538_259,
    "chr6": 170_805_979,
    "chr7": 159_345_973,
    "chr8": 145_138_636,
    "chr9": 138_394_717,
    "chr10": 133_797_422,
    "chr11": 135_086_622,
    "chr12": 133_275_309,
    "chr13": 114_364_328,
    "chr14": 107_043_718,
    "chr15": 101_991_189,
    "chr16": 90_338_345,
    "chr17": 83_257_441,
    "chr18": 80_373_285,
    "chr19": 58_617_616,
    "chr20": 64_444_167,
    "chr21": 46_709_983,
    "chr22": 50_818_468,
    "chrX": 156_040_895,
    "chrY": 57_227_415,
    "chrM": 16_569,
}
SMALL = {name: HG38[name] for name in ("chr20", "chr21", "chr22", "chrM")}
WINDOW = 1 << 14

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

_ACROCENTRIC = {"chr13", "chr14", "chr15", "chr21", "chr22"}
_GAP = 3_000_000
_DEPTH = 5
_FIRST_LEAF = 4681
_PSEUDO_BIN = 37450
# One read of 150 bases for every 5 positions.
_RECORDS_PER_WINDOW = 3277
# Every eighth read is clipped: near a window's end it stays in the window's own bin while its neighbours leave it.
_SPAN, _CLIPPED_SPAN, _CLIPPED_EVERY = 145, 70, 8
_LENGTH = 150
_NAME = b"A01234:56:HABCDEFG:1:"
_NAME_DIGITS = 9
_TAGS = b"RGZlane1\0NMC\0"
_RECORD = np.dtype(
    [
        ("size", "<i4"),
        ("reference_id", "<i4"),
        ("pos", "<i4"),
        ("name_length", "u1"),
        ("mapq", "u1"),
        ("bin", "<u2"),
        ("cigar_count", "<u2"),
        ("flag", "<u2"),
        ("length", "<i4"),
        ("mate_reference_id", "<i4"),
        ("mate_pos", "<i4"),
        ("template_length", "<i4"),
        ("name", "u1", (len(_NAME) + _NAME_DIGITS + 1,)),
        ("cigar", "<u4", (2,)),
        ("bases", "u1", (_LENGTH // 2,)),
        ("qualities", "u1", (_LENGTH,)),
        ("tags", "u1", (len(_TAGS),)),
    ]
)
RECORD_SIZE = _RECORD.itemsize
# As htslib fills its blocks: whole records, 0xff00 bytes at most.
RECORDS_PER_BLOCK = 0xFF00 // RECORD_SIZE
# A little more than what the data of a block takes compressed.
BLOCK_SIZE = 18_900

# Empty deflate blocks of 5 and 6 bytes: together they pad to any length. The last one ends the stream.
_FILLER_5, _FILLER_6, _END = bytes.fromhex("000000ffff"), bytes.fromhex("02000000ffff"), bytes.fromhex("0300")


class RecordRange(NamedTuple):
    """The records from number `first` up to `end`, counted through the file."""

    first: int
    end: int


class Region(NamedTuple):
    """A region of a reference: 0-based, half-open."""

    reference_id: int
    start: int
    end: int


@dataclass(frozen=True)
class _Bins:
    """An index's content: bins with their chunks as record ranges, sorted by reference and bin; the linear index.

    `linear`: for each reference the first record that overlaps each window.
    """

    references: npt.NDArray[np.int64]
    bins: npt.NDArray[np.int64]
    chunk_counts: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    linear: list[npt.NDArray[np.int64]]


class Genome:
    """A sample's reads; `kept` is the share of windows with reads, as in an exome or a call set."""

    def __init__(self, contigs: dict[str, int], *, kept: float = 1.0, seed: int = 1) -> None:
        self.contigs = contigs
        self._windows = [_covered(name, length) for name, length in contigs.items()]
        if kept < 1:
            rng = np.random.default_rng(seed)
            self._windows = [windows[rng.random(len(windows)) < kept] for windows in self._windows]
        counts = np.array([len(windows) for windows in self._windows])
        self._references = np.repeat(np.arange(len(contigs)), counts)
        self._window_numbers = np.concatenate(self._windows)
        self._first_ranks = np.concatenate(([0], np.cumsum(counts)))
        self._offsets = np.arange(_RECORDS_PER_WINDOW) * WINDOW // _RECORDS_PER_WINDOW
        self.header = _bgzf_block(_bam_header(contigs))
        self.record_count = len(self._window_numbers) * _RECORDS_PER_WINDOW
        self.block_count = -(-self.record_count // RECORDS_PER_BLOCK)
        self.file_size = self.coffset(self.block_count) + len(BGZF_EOF)

    def coffset(self, block: int) -> int:
        """The offset of a block of records in the file."""
        return len(self.header) + block * BLOCK_SIZE

    def block_at(self, coffset: int) -> int:
        """The number of the block of records that starts at `coffset`."""
        block, rest = divmod(coffset - len(self.header), BLOCK_SIZE)
        if rest or not 0 <= block <= self.block_count:
            raise AssertionError(f"no block of records starts at {coffset}")
        return block

    def block_records(self, block: int) -> RecordRange:
        """The records that a block holds."""
        first = block * RECORDS_PER_BLOCK
        return RecordRange(first, min(first + RECORDS_PER_BLOCK, self.record_count))

    def window_is_covered(self, reference_id: int, window: int) -> bool:
        """Whether reads start in this window."""
        return bool(self._rank(reference_id, window) < self._rank(reference_id, window + 1))

    def overlapping(self, region: Region) -> RecordRange:
        """The least range with all records that overlap a region."""
        window, rest = divmod(region.start, WINDOW)
        first = self._rank(region.reference_id, window) * _RECORDS_PER_WINDOW
        if self.window_is_covered(region.reference_id, window):
            first += int(np.searchsorted(self._offsets, rest))
        # No record further back can reach into the region.
        back = np.arange(max(first - 2 * _SPAN, 0), first)
        reaching = back[(self._reference_ids(back) == region.reference_id) & (self._ends(back) > region.start)]
        first = int(reaching[0]) if len(reaching) else first
        window, rest = divmod(region.end, WINDOW)
        end = self._rank(region.reference_id, window) * _RECORDS_PER_WINDOW
        if self.window_is_covered(region.reference_id, window):
            end += int(np.searchsorted(self._offsets, rest))
        return RecordRange(first, max(first, end))

    def positions_overlapping(self, region: Region) -> npt.NDArray[np.int64]:
        """Where the records that overlap a region start, 0-based."""
        records = np.arange(*self.overlapping(region))
        return self._positions(records)[self._ends(records) > region.start]

    def block_data(self, block: int) -> bytes:
        """The uncompressed data of a block of records."""
        records = np.arange(*self.block_records(block))
        rng = np.random.default_rng(block)
        content = np.zeros(len(records), _RECORD)
        content["size"] = RECORD_SIZE - 4
        content["reference_id"] = content["mate_reference_id"] = self._reference_ids(records)
        content["pos"] = self._positions(records)
        content["mate_pos"] = content["pos"] + 250
        content["template_length"] = 400
        content["name_length"] = len(_NAME) + _NAME_DIGITS + 1
        content["mapq"] = 60
        content["bin"] = _bin_of(content["pos"].astype(np.int64), self._ends(records))
        content["cigar_count"] = 2
        content["flag"] = 99
        content["length"] = _LENGTH
        content["name"][:, : len(_NAME)] = np.frombuffer(_NAME, np.uint8)
        for digit in range(_NAME_DIGITS):
            content["name"][:, -2 - digit] = records // 10**digit % 10 + ord("0")
        spans = self._ends(records) - self._positions(records)
        content["cigar"][:, 0] = spans << 4
        content["cigar"][:, 1] = (_LENGTH - spans) << 4 | 4
        pairs = np.array([high << 4 | low for high in (1, 2, 4, 8) for low in (1, 2, 4, 8)], np.uint8)
        content["bases"] = pairs[_random_bytes(rng, content["bases"].shape) & 15]
        levels = np.repeat(np.array([37, 25, 11, 2], np.uint8), [232, 14, 8, 2])
        content["qualities"] = levels[_random_bytes(rng, content["qualities"].shape)]
        content["tags"] = np.frombuffer(_TAGS, np.uint8)
        return content.tobytes()

    def block(self, number: int) -> bytes:
        """A block of records as in the file."""
        return _bgzf_block(self.block_data(number), BLOCK_SIZE)

    def write_bam(self, path: Path, blocks: Iterable[int]) -> None:
        """Write the BAM with only these blocks; the others are holes."""
        with path.open("wb") as file, ThreadPoolExecutor(2) as pool:
            file.truncate(self.file_size)
            file.write(self.header)
            wanted = sorted(set(blocks))
            for number, block in zip(wanted, pool.map(self.block, wanted), strict=True):
                file.seek(self.coffset(number))
                file.write(block)
            file.seek(self.file_size - len(BGZF_EOF))
            file.write(BGZF_EOF)

    def write_bai(self, path: Path) -> None:
        """The index as BAI."""
        with path.open("wb") as file:
            file.write(b"BAI\1" + struct.pack("<i", len(self.contigs)))
            self._write_bins(file, is_csi=False)

    def write_tbi(self, path: Path) -> None:
        """The index as TBI, as if the records were those of a VCF."""
        self._write_compressed(path, b"TBI\1" + struct.pack("<i", len(self.contigs)) + self._tabix(), is_csi=False)

    def write_csi(self, path: Path) -> None:
        """The index as CSI."""
        head = b"CSI\1" + struct.pack("<3i", WINDOW.bit_length() - 1, _DEPTH, 0)
        self._write_compressed(path, head + struct.pack("<i", len(self.contigs)), is_csi=True)

    def _tabix(self) -> bytes:
        names = b"".join(name.encode() + b"\0" for name in self.contigs)
        return struct.pack("<7i", 2, 1, 2, 0, ord("#"), 0, len(names)) + names

    def _write_compressed(self, path: Path, head: bytes, *, is_csi: bool) -> None:
        plain = path.with_name(path.name + ".plain")
        with plain.open("w+b") as file:
            file.write(head)
            self._write_bins(file, is_csi=is_csi)
            file.seek(0)
            data = file.read()
        plain.unlink()
        with path.open("wb") as file:
            for start in range(0, len(data), 0xFF00):
                file.write(_bgzf_block(data[start : start + 0xFF00]))
            file.write(BGZF_EOF)

    def _rank(self, reference_id: int, window: int) -> int:
        """The number of covered windows before this one in the whole genome."""
        return int(self._first_ranks[reference_id] + np.searchsorted(self._windows[reference_id], window))

    def _reference_ids(self, records: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._references[records // _RECORDS_PER_WINDOW]

    def _positions(self, records: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        windows = self._window_numbers[records // _RECORDS_PER_WINDOW]
        positions: npt.NDArray[np.int64] = windows * WINDOW + self._offsets[records % _RECORDS_PER_WINDOW]
        return positions

    def _ends(self, records: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._positions(records) + np.where(records % _CLIPPED_EVERY == 0, _CLIPPED_SPAN, _SPAN)

    def _virtual_offsets(self, records: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        blocks, ranks = np.divmod(records, RECORDS_PER_BLOCK)
        # The end of the last record is the start of the next block.
        at_end = records == self.record_count
        blocks[at_end], ranks[at_end] = self.block_count, 0
        offsets: npt.NDArray[np.int64] = len(self.header) + blocks * BLOCK_SIZE << 16 | ranks * RECORD_SIZE
        return offsets.astype(np.uint64)

    @cached_property
    def _bins(self) -> _Bins:
        """What htslib finds when it reads the records one by one; here only those near a window's end are read."""
        ranks = np.arange(len(self._window_numbers))
        tail = np.flatnonzero(self._offsets > WINDOW - _SPAN)
        records = ranks[:, None] * _RECORDS_PER_WINDOW + np.concatenate(([0], tail))
        flat = records.ravel()
        references = self._reference_ids(flat)
        bins = _bin_of(self._positions(flat), self._ends(flat))
        changes = np.flatnonzero((np.diff(bins) != 0) | (np.diff(references) != 0)) + 1
        starts = np.concatenate(([0], changes))
        begins, ends = flat[starts], np.concatenate((flat[changes], [self.record_count]))
        keys = references[starts] << 32 | bins[starts]

        order = np.argsort(keys, kind="stable")
        keys, begins, ends = keys[order], begins[order], ends[order]
        # htslib joins chunks of a bin of which one ends in the block in which the next begins.
        apart = (np.diff(keys) != 0) | (begins[1:] // RECORDS_PER_BLOCK > ends[:-1] // RECORDS_PER_BLOCK)
        firsts = np.concatenate(([0], np.flatnonzero(apart) + 1))
        lasts = np.concatenate((firsts[1:] - 1, [len(keys) - 1]))
        keys, begins, ends = keys[firsts], begins[firsts], ends[lasts]
        distinct, counts = np.unique(keys, return_counts=True)
        linear = self._linear_index(records[:, 1:])
        return _Bins(distinct >> 32, distinct & 0xFFFFFFFF, counts, begins, ends, linear)

    def _linear_index(self, tails: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        crossing = self._ends(tails.ravel()).reshape(tails.shape) > (self._window_numbers[:, None] + 1) * WINDOW
        first_crossing = tails[np.arange(len(tails)), crossing.argmax(axis=1)]
        linear = []
        for reference_id, windows in enumerate(self._windows):
            low = int(self._first_ranks[reference_id])
            ranks = np.arange(low, low + len(windows))
            firsts = np.full(int(windows[-1]) + 2 if len(windows) else 0, self.record_count)
            firsts[windows] = ranks * _RECORDS_PER_WINDOW
            np.minimum.at(firsts, windows + 1, first_crossing[ranks])
            # As htslib does: a window without records has the offset of the next one that has.
            linear.append(np.minimum.accumulate(firsts[::-1])[::-1])
        return linear

    def _write_bins(self, file: BinaryIO, *, is_csi: bool) -> None:
        content = self._bins
        chunk_starts = np.concatenate(([0], np.cumsum(content.chunk_counts)))
        for reference_id, linear in enumerate(content.linear):
            low, high = np.searchsorted(content.references, (reference_id, reference_id + 1)).tolist()
            bins, counts = content.bins[low:high], content.chunk_counts[low:high]
            chunks = slice(int(chunk_starts[low]), int(chunk_starts[high]))
            windows = self._virtual_offsets(linear)
            file.write(struct.pack("<i", len(bins) + bool(len(bins))))
            file.write(
                _serialise(
                    bins,
                    _loffsets(bins, windows) if is_csi else None,
                    counts,
                    self._virtual_offsets(content.begins[chunks]),
                    self._virtual_offsets(content.ends[chunks]),
                )
            )
            if len(bins):
                file.write(self._pseudo_bin(reference_id, is_csi=is_csi))
            if not is_csi:
                file.write(struct.pack("<i", len(windows)) + windows.tobytes())
        file.write(struct.pack("<Q", 0))

    def _pseudo_bin(self, reference_id: int, *, is_csi: bool) -> bytes:
        low, high = (self._first_ranks[reference_id : reference_id + 2] * _RECORDS_PER_WINDOW).tolist()
        begin, end = self._virtual_offsets(np.array([low, high])).tolist()
        head = struct.pack("<IQ", _PSEUDO_BIN, 0) if is_csi else struct.pack("<I", _PSEUDO_BIN)
        return head + struct.pack("<i4Q", 2, begin, end, high - low, 0)


def whole_file(path: Path, size: int, genome: Genome, *, distinct: int = 256) -> None:
    """A BAM of about `size` bytes without holes: the first blocks of the genome, over and over."""
    blocks = b"".join(genome.block(number) for number in range(distinct))
    with path.open("wb") as file:
        file.write(genome.header)
        while file.tell() < size:
            file.write(blocks)
        file.write(BGZF_EOF)


def random_regions(contigs: dict[str, int], count: int, seed: int) -> list[Region]:
    """Regions anywhere, of 1 to 10,000,000 positions, evenly spread over the orders of magnitude."""
    rng = random.Random(seed)
    names = list(contigs)
    regions = []
    for reference_id in rng.choices(range(len(names)), weights=list(contigs.values()), k=count):
        length = contigs[names[reference_id]]
        start = rng.randrange(length)
        regions.append(Region(reference_id, start, min(length, start + int(10 ** rng.uniform(0, 7)))))
    return regions


def distinct_regions(genome: Genome, count: int, *, length: int, seed: int, avoid: int) -> list[Region]:
    """Regions in covered parts of the genome, no two of which share an edge block.

    None reaches over a multiple of `avoid` bytes of the file: there the server looks for a block that is not written.
    """
    rng = random.Random(seed)
    apart = length // WINDOW + 4
    candidates = [
        (reference_id, window)
        for reference_id, contig_length in enumerate(genome.contigs.values())
        for window in range(1, contig_length // WINDOW - apart, apart)
    ]
    rng.shuffle(candidates)
    regions: list[Region] = []
    for reference_id, window in candidates:
        if len(regions) == count:
            return regions
        start = window * WINDOW + rng.randrange(WINDOW)
        region = Region(reference_id, start, start + length)
        if all(genome.window_is_covered(reference_id, window + step) for step in range(-1, apart)):
            first, last = edge_blocks(genome, region)
            if genome.coffset(first) // avoid == genome.coffset(last + 1) // avoid:
                regions.append(region)
    raise AssertionError(f"the genome is too small for {count} distinct regions")


def edge_blocks(genome: Genome, region: Region) -> tuple[int, int]:
    """The first and last block that an index names for a region: its answers are as coarse as its windows."""
    low, high = region.start // WINDOW * WINDOW, ((region.end - 1) // WINDOW + 1) * WINDOW
    records = genome.overlapping(Region(region.reference_id, low, high))
    return records.first // RECORDS_PER_BLOCK, records.end // RECORDS_PER_BLOCK


def _covered(name: str, length: int) -> npt.NDArray[np.int64]:
    """The windows with reads: none in the centromere, none in the short arm of an acrocentric chromosome."""
    windows = np.arange(max(0, (length - _SPAN) // WINDOW))
    if name == "chrM":
        return windows
    gap = 17_000_000 if name in _ACROCENTRIC else length * 2 // 5
    low = 0 if name in _ACROCENTRIC else gap - _GAP
    return windows[(windows * WINDOW < low) | (windows * WINDOW > gap)]


def _bin_of(begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bin of each span: the smallest that contains it (SAMv1 5.3)."""
    bins = np.zeros(len(begins), np.int64)
    for level in range(_DEPTH + 1):
        shift = 14 + 3 * (_DEPTH - level)
        inside = begins >> shift == ends - 1 >> shift
        bins[inside] = ((1 << 3 * level) - 1) // 7 + (begins[inside] >> shift)
    return bins


def _loffsets(bins: npt.NDArray[np.int64], windows: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    leftmost = np.zeros(len(bins), np.int64)
    for level in range(_DEPTH + 1):
        first, following = ((1 << 3 * level) - 1) // 7, ((1 << 3 * (level + 1)) - 1) // 7
        here = (bins >= first) & (bins < following)
        leftmost[here] = (bins[here] - first) << 3 * (_DEPTH - level)
    loffsets: npt.NDArray[np.uint64] = windows[leftmost]
    return loffsets


def _serialise(
    bins: npt.NDArray[np.int64],
    loffsets: npt.NDArray[np.uint64] | None,
    counts: npt.NDArray[np.int64],
    begins: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.uint64],
) -> bytes:
    """The bins of a reference with their chunks, in the order of htslib's hash table."""
    starts = np.concatenate(([0], np.cumsum(counts)))[:-1]
    buckets = 4
    while buckets * 0.77 < len(bins):
        buckets *= 2
    order = np.lexsort((bins, bins % buckets))
    bins, counts, starts = bins[order], counts[order], starts[order]
    head = 2 if loffsets is None else 4
    sizes = head + 4 * counts
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    words = np.zeros(int(offsets[-1]), np.uint32)
    offsets = offsets[:-1]
    words[offsets] = bins
    words[offsets + head - 1] = counts
    if loffsets is not None:
        _put64(words, offsets + 1, loffsets[order])
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    chunk_offsets = np.repeat(offsets + head, counts) + 4 * within
    sources = np.repeat(starts, counts) + within
    _put64(words, chunk_offsets, begins[sources])
    _put64(words, chunk_offsets + 2, ends[sources])
    return words.tobytes()


def _put64(words: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], values: npt.NDArray[np.uint64]) -> None:
    words[offsets] = values & np.uint64(0xFFFFFFFF)
    words[offsets + 1] = values >> np.uint64(32)


def _random_bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape)


def _bam_header(contigs: dict[str, int]) -> bytes:
    lines = ["@HD\tVN:1.6\tSO:coordinate"]
    lines += [f"@SQ\tSN:{name}\tLN:{length}\tAS:GRCh38" for name, length in contigs.items()]
    lines += ["@RG\tID:lane1\tSM:sample1\tLB:library1\tPL:ILLUMINA", "@PG\tID:bwa\tPN:bwa\tVN:0.7.17", ""]
    text = "\n".join(lines).encode()
    parts = [b"BAM\1", struct.pack("<i", len(text)), text, struct.pack("<i", len(contigs))]
    for name, length in contigs.items():
        encoded = name.encode() + b"\0"
        parts.append(struct.pack("<i", len(encoded)) + encoded + struct.pack("<i", length))
    return b"".join(parts)


def _bgzf_block(data: bytes, size: int | None = None) -> bytes:
    """The data as one BGZF block, padded to `size` bytes if given."""
    compressor = zlib.compressobj(4, zlib.DEFLATED, -15)
    body = compressor.compress(data)
    if size is None:
        body += compressor.flush()
    else:
        body += compressor.flush(zlib.Z_SYNC_FLUSH)
        length = size - 26 - len(_END) - len(body)
        if length < 24:
            raise AssertionError(f"a block of {len(data)} bytes takes {26 + len(body)} compressed")
        sixes = length % 5
        body += _FILLER_6 * sixes + _FILLER_5 * ((length - 6 * sixes) // 5) + _END
    head = struct.pack("<4s4xBBH2sHH", b"\x1f\x8b\x08\x04", 0, 0xFF, 6, b"BC", 2, len(body) + 25)
    return bytes(head + body) + struct.pack("<II", zlib.crc32(data), len(data))


def record_numbers(data: bytes) -> npt.NDArray[np.int64]:
    """The numbers in the names of records; AssertionError unless the records are complete."""
    if len(data) % RECORD_SIZE:
        raise AssertionError("the data ends within a record")
    digits = np.frombuffer(data, _RECORD)["name"][:, -1 - _NAME_DIGITS : -1].astype(np.int64) - ord("0")
    numbers: npt.NDArray[np.int64] = digits @ 10 ** np.arange(_NAME_DIGITS - 1, -1, -1)
    return numbers


def blocks_of(regions: Sequence[Region], genome: Genome) -> list[int]:
    """The edge blocks of the regions."""
    return [block for region in regions for block in edge_blocks(genome, region)]
