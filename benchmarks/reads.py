"""Reads at 30x on one reference, made in code, with the entropy of a sequencer's and an aligner's: BAM, CRAM, FASTA.

Unlike those of data.py, records differ in size, and every block of the file is there. They are kept in build/.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pysam
import pysam.samtools

CONTIG = "chr20"
DEPTH = 30
LENGTH = 150
"""Of a read, in bases."""

_VERSION = 1
_BUILD = Path(__file__).parents[1] / "build"
_LETTERS = np.frombuffer(b"ACGT", np.uint8)
# Base qualities in four bins, their share of 1,024, and the share of wrong bases among them.
_QUALITIES = np.array([37, 25, 11, 2], np.uint8)
_SHARES = (840, 110, 60, 14)
_ERRORS = np.array([0.0002, 0.003, 0.08, 0.5])
_CHUNK = 20_000
_HEADER = """@HD\tVN:1.6\tSO:coordinate
@SQ\tSN:{name}\tLN:{length}
@RG\tID:lane1\tSM:sample1\tLB:library1\tPL:ILLUMINA
@PG\tID:bwa\tPN:bwa\tVN:0.7.17
@PG\tID:MarkDuplicates\tPN:MarkDuplicates\tVN:3.1.1\tPP:bwa
"""

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Files:
    """The files of a sample, with their indexes, and the length of the reference in bases."""

    bam: Path
    cram: Path
    fasta: Path
    length: int
    records: int


class _Reads(NamedTuple):
    """Columns of all reads, sorted by start; `mates` are indexes of rows.

    `clips`: bases clipped at the left (negative) or right end. `deletions`: how many bases of the reference are missing
    after the base `breaks`.
    """

    starts: _Ints
    pairs: _Ints
    is_right: npt.NDArray[np.bool_]
    mates: _Ints
    clips: _Ints
    breaks: _Ints
    deletions: _Ints

    @property
    def firsts(self) -> _Ints:
        """Where the aligned parts start."""
        return self.starts + np.maximum(-self.clips, 0)

    @property
    def ends(self) -> _Ints:
        """Where they end."""
        return self.starts + LENGTH + self.deletions - np.maximum(self.clips, 0)


def prepare(length: int) -> Files:
    """The sample with a reference of this length; made if an earlier run has not left it."""
    folder = _BUILD / f"reads-{length}-{_VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILD) as name:
            unfinished = Path(name) / "reads"
            unfinished.mkdir()
            _write(unfinished, length)
            shutil.copytree(unfinished, folder)
    bam = folder / "sample.bam"
    with pysam.AlignmentFile(str(bam)) as file:
        count = file.mapped
    return Files(bam, folder / "sample.cram", folder / "reference.fa", length, count)


def _write(folder: Path, length: int) -> None:
    rng = np.random.default_rng(20)
    letters = _LETTERS[rng.integers(0, 4, length)]
    fasta, sam, bam, cram = (folder / name for name in ("reference.fa", "sample.sam", "sample.bam", "sample.cram"))
    text = letters.tobytes().decode()
    lines = (text[start : start + 60] for start in range(0, length, 60))
    fasta.write_text(f">{CONTIG}\n" + "".join(f"{line}\n" for line in lines))
    pysam.samtools.faidx(str(fasta))
    with sam.open("w") as file:
        file.write(_HEADER.format(name=CONTIG, length=length))
        for line in _lines(rng, letters):
            file.write(line)
    pysam.samtools.view("--no-PG", "-b", "-o", str(bam), str(sam), catch_stdout=False)
    pysam.samtools.view("--no-PG", "-C", "-T", str(fasta), "-o", str(cram), str(bam), catch_stdout=False)
    sam.unlink()
    for path in (bam, cram):
        pysam.samtools.index(str(path))


def _draw(rng: np.random.Generator, length: int) -> _Reads:
    """Read pairs at random positions; few are clipped or have a deletion."""
    count = length * DEPTH // (2 * LENGTH)
    fragments = np.clip(rng.normal(420, 60, count).astype(np.int64), 200, 700)
    left = rng.integers(0, length - 800, count)
    starts = np.concatenate((left, left + fragments - LENGTH))
    kinds = rng.random(2 * count)
    clips = np.where(kinds < 0.06, rng.integers(5, 60, 2 * count) * rng.choice((-1, 1), 2 * count), 0)
    has_deletion = (kinds >= 0.06) & (kinds < 0.08)
    deletions = np.where(has_deletion, rng.integers(1, 6, 2 * count), 0)
    breaks = rng.integers(20, LENGTH - 20, 2 * count)
    order = np.argsort(starts + np.maximum(-clips, 0), kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(2 * count)
    mates = ranks[(order + count) % (2 * count)]
    return _Reads(starts[order], order % count, order >= count, mates, clips[order], breaks[order], deletions[order])


class _Formatter:
    """Formats rows of reads as lines of SAM."""

    def __init__(self, rng: np.random.Generator, reads: _Reads, letters: npt.NDArray[np.uint8]) -> None:
        self._reads, self._letters = reads, letters
        count = len(reads.starts) // 2
        spots = rng.integers((1, 1101, 1000, 1000), (5, 2678, 32000, 36000), (count, 4)).tolist()
        self._names = ["A01234:56:HABCDEFGXX:{}:{}:{}:{}".format(*spot) for spot in spots]
        self._is_second = (rng.random(count) < 0.5).tolist()
        self._cigars = [_cigar(*row) for row in np.stack((reads.clips, reads.breaks, reads.deletions), 1).tolist()]
        self._scores = rng.integers(19, 120, 2 * count).tolist()
        self._firsts, self._ends = reads.firsts.tolist(), reads.ends.tolist()

    def line(self, row: int, bases: bytes, qualities: bytes, expected: bytes, mismatches: list[int]) -> str:
        """The line of a row; `expected`: the reference at the read's bases; `mismatches`: where those differ."""
        reads, mate, pair = self._reads, int(self._reads.mates[row]), int(self._reads.pairs[row])
        is_right = bool(reads.is_right[row])
        flag = 0x3 | (0x10 if is_right else 0x20) | (0x80 if self._is_second[pair] != is_right else 0x40)
        first, mate_first = self._firsts[row], self._firsts[mate]
        span = self._ends[row] - mate_first if is_right else self._ends[mate] - first
        clip, deletion = int(reads.clips[row]), int(reads.deletions[row])
        break_ = int(reads.breaks[row])
        start = int(reads.starts[row])
        deleted = self._letters[start + break_ : start + break_ + deletion].tobytes().decode()
        differences = _differences(max(-clip, 0), LENGTH - max(clip, 0), break_, deleted, expected, mismatches)
        count = len(mismatches) + deletion
        fields = [self._names[pair], flag, CONTIG, first + 1, 60, self._cigars[row], "=", mate_first + 1]
        fields += [-span if is_right else span, bases.decode(), qualities.decode()]
        fields += [f"NM:i:{count}", f"MD:Z:{differences}", f"MC:Z:{self._cigars[mate]}", "MQ:i:60"]
        fields += [f"AS:i:{LENGTH - abs(clip) - 5 * count}", f"XS:i:{self._scores[row]}", "RG:Z:lane1"]
        return "\t".join(map(str, [*fields, "PG:Z:MarkDuplicates\n"]))


def _lines(rng: np.random.Generator, letters: npt.NDArray[np.uint8]) -> Iterator[str]:
    """The reads as lines of SAM, from two haplotypes, with a sequencer's errors."""
    reads = _draw(rng, len(letters))
    sites = rng.random(len(letters)) < 0.001
    haplotypes = np.stack((letters, letters))
    haplotypes[1, sites] = _LETTERS[rng.integers(0, 4, int(sites.sum()))]
    formatter = _Formatter(rng, reads, letters)
    levels, steps = np.repeat(np.arange(4), _SHARES), np.arange(LENGTH)
    for begin in range(0, len(reads.starts), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        drawn = levels[rng.integers(0, len(levels), (len(reads.starts[rows]), LENGTH))]
        gaps = np.where(steps >= reads.breaks[rows, None], reads.deletions[rows, None], 0)
        positions = reads.starts[rows, None] + steps + gaps
        expected, bases = letters[positions], haplotypes[(reads.pairs[rows] & 1)[:, None], positions]
        clips = reads.clips[rows, None]
        is_clipped = (steps < -clips) | (steps >= LENGTH - np.maximum(clips, 0))
        is_random = is_clipped | (rng.random(bases.shape) < _ERRORS[drawn])
        bases = np.where(is_random, _LETTERS[rng.integers(0, 4, bases.shape)], bases)
        qualities = _QUALITIES[drawn] + np.uint8(33)
        differs = (bases != expected) & ~is_clipped
        for row in range(len(bases)):
            mismatches = np.flatnonzero(differs[row]).tolist()
            yield formatter.line(
                begin + row, bases[row].tobytes(), qualities[row].tobytes(), expected[row].tobytes(), mismatches
            )


def _cigar(clip: int, break_: int, deletion: int) -> str:
    if deletion:
        return f"{break_}M{deletion}D{LENGTH - break_}M"
    if clip:
        return f"{-clip}S{LENGTH + clip}M" if clip < 0 else f"{LENGTH - clip}M{clip}S"
    return f"{LENGTH}M"


def _differences(start: int, end: int, break_: int, deleted: str, expected: bytes, mismatches: list[int]) -> str:
    """The tag MD of a read whose bases `start` to `end` are aligned (SAMtags, MD)."""
    text = ""
    events = [(position, expected[position : position + 1].decode(), 1) for position in mismatches]
    if deleted:
        events = sorted([*events, (break_, f"^{deleted}", 0)], key=lambda event: (event[0], event[2]))
    for position, letters, length in events:
        text += f"{position - start}{letters}"
        start = position + length
    return f"{text}{end - start}"
