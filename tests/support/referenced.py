"""CRAM files that store records as differences from a reference, with CRAM's changes to records of every kind."""

import random
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

import pysam

from tests.support.sequences import expected, fasta, some_letters

LENGTHS = {"chr1": 120_000, "chr2": 90_000, "c3": 4_000, "c4": 5_000, "c5": 4_000, "empty": 3_000}
# The number of pairs whose first read is on each reference.
_PAIRS = {"chr1": 900, "chr2": 600, "c3": 40, "c4": 60, "c5": 40}
_GROUPS = ("RG:Z:one", "RG:Z:two", "RG:Z:unheard", "")
# htslib's output options for each file, by the file's name.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "version_2_1": ("version=2.1", "seqs_per_slice=300"),
    "version_3_0": ("version=3.0", "seqs_per_slice=300"),
    "version_3_1": ("version=3.1", "seqs_per_slice=300", "small"),
    "lossy_names": ("version=3.0", "seqs_per_slice=300", "lossy_names=1"),
    "stored_tags": ("version=3.0", "seqs_per_slice=300", "store_md=1", "store_nm=1"),
    "slices": ("version=3.0", "seqs_per_slice=100", "slices_per_container=4"),
    "several_references": ("version=3.0", "seqs_per_slice=1000", "multi_seq_per_slice=1"),
    "several_in_slices": ("version=3.1", "seqs_per_slice=150", "slices_per_container=5", "multi_seq_per_slice=1"),
    "embedded": ("version=3.0", "seqs_per_slice=300", "embed_ref=1"),
    "without": ("version=3.0", "seqs_per_slice=300", "no_ref=1"),
}
ALONE = ("embedded", "without")
"""The files that are decoded without the reference."""


def sequences() -> dict[str, bytes]:
    """The references."""
    return {name: some_letters(name, length, b"ACGT" * 20 + b"NRacgt") for name, length in LENGTHS.items()}


def write_reference(path: Path) -> Path:
    """Write the references to a FASTA file."""
    path.write_bytes(fasta(sequences()))
    return path


def write_cram(name: str, path: Path, reference: Path, *, shuffled: bool = False, times: int = 1) -> Path:
    """Write the CRAM file of this name, and its index.

    `shuffled`: neighbouring records are not sorted. `times`: the number of copies of each record.
    """
    lines = [line for line in _lines() for _ in range(times)]
    if shuffled:
        rng = random.Random("shuffled")
        references = groupby(lines, key=lambda line: line.split("\t")[2])
        groups = (
            group[first : first + 6] for _, of in references for group in [[*of]] for first in range(0, len(group), 6)
        )
        lines = [line for group in groups for line in rng.sample(group, len(group))]
    header = pysam.AlignmentHeader.from_text("".join(f"{line}\n" for line in _header()))
    # htslib would warn about each read whose read group is not in the header.
    verbosity = pysam.set_verbosity(0)
    with pysam.AlignmentFile(
        str(path),
        "wc",
        header=header,
        reference_filename=str(reference),
        format_options=list(OPTIONS[name]),
    ) as target:
        for line in lines:
            target.write(pysam.AlignedSegment.fromstring(line, header))
    pysam.set_verbosity(verbosity)
    pysam.index(str(path))
    return path


def remove_md5s(path: Path) -> None:
    """Remove each M5 from the header of a CRAM file."""
    with pysam.AlignmentFile(str(path)) as file:
        text = re.sub(r"\tM5:\w+", "", str(file.header))
    header = path.with_suffix(".sam")
    header.write_text(text)
    pysam.samtools.reheader("--no-PG", "-i", str(header), str(path), catch_stdout=False)


def _header() -> Iterator[str]:
    yield "@HD\tVN:1.6\tSO:coordinate"
    for name, letters in sequences().items():
        # A UR that htslib must not follow.
        yield f"@SQ\tSN:{name}\tLN:{len(letters)}\tM5:{expected(letters).md5}\tUR:/nowhere/reference.fa"
    yield from ("@RG\tID:one\tSM:sample", "@RG\tID:two\tSM:sample", "@CO\tA comment")


def _lines() -> Iterator[str]:
    """Sorted lines: pairs with mates near, far, on other references or unmapped; single reads; unplaced reads."""
    rng = random.Random("pairs")
    letters = {name: expected(text).letters.decode() for name, text in sequences().items()}
    order = {name: number for number, name in enumerate(LENGTHS)}
    rows: list[tuple[int, int, str]] = []
    for name, count in _PAIRS.items():
        for number in range(count):
            kind = rng.random()
            first = _Read(rng, letters, name, rng.randrange(LENGTHS[name] - 700))
            if kind < 0.1:
                rows.append(first.to_row(order, f"{name}.{number}", 0, None))
                continue
            other = name if kind < 0.8 else rng.choice(list(_PAIRS))
            near = kind < 0.7
            start = first.start + rng.randrange(300) if near else rng.randrange(LENGTHS[other] - 700)
            second = _Read(rng, letters, other, start)
            if 0.7 < kind < 0.75:
                second = first.unmapped_mate()
            rows.append(first.to_row(order, f"{name}.{number}", 0x41, second))
            rows.append(second.to_row(order, f"{name}.{number}", 0x81, first))
    rows.sort(key=lambda row: row[:2])
    yield from (line for *_, line in rows)
    for number in range(50):
        yield f"none.{number}\t4\t*\t0\t0\t*\t*\t0\t0\t{'ACGTN' * 8}\t{'I' * 40}"


class _Read:
    """A read on a reference, with differences of every kind."""

    def __init__(self, rng: random.Random, letters: Mapping[str, str], name: str, start: int) -> None:
        self.rng, self.name, self.start = rng, name, start
        text = letters[name]
        shape = rng.choice(
            ["50M", "50M", "50M", "20M3D30M", "20M4I26M", "5S45M", "25M200N25M", "3H47M", "20M2P30M", "50X"]
        )
        self.cigar = shape
        position, bases, number, self.span = start, "", "", 0
        for character in shape:
            if character.isdigit():
                number += character
                continue
            length, number = int(number), ""
            if character in "MX":
                bases += text[position : position + length]
            if character in "MXDN":
                position += length
            if character in "IS":
                bases += "".join(rng.choices("ACGTN", k=length))
        self.span = position - start
        self.bases = "".join(base if rng.random() > 0.02 else rng.choice("ACGTN") for base in bases)
        self.qualities = "".join(chr(33 + rng.randrange(2, 40)) for _ in bases)
        if rng.random() < 0.03:
            self.bases = self.qualities = "*"
        elif rng.random() < 0.03:
            self.qualities = "*"
        self.is_unmapped = False
        self.tags = rng.choice(["XA:i:7", "XB:Z:text", "XC:B:S,1,2,3", "NM:i:1", "MD:Z:50", "XD:f:0.5\tXE:A:c"])
        self.group = rng.choice(_GROUPS)
        self.more = rng.choice([0, 0, 0x10, 0x400, 0x200])

    def unmapped_mate(self) -> "_Read":
        """An unmapped read that has this read's position."""
        mate = object.__new__(_Read)
        mate.__dict__.update(self.__dict__)
        mate.is_unmapped, mate.cigar, mate.bases, mate.qualities, mate.span = True, "*", "ACGTN" * 10, "I" * 50, 0
        mate.more, mate.tags = 0, "XA:i:9"
        return mate

    def to_row(self, order: Mapping[str, int], name: str, flag: int, mate: "_Read | None") -> tuple[int, int, str]:
        """The number of its reference and its start, to sort by, and its line."""
        flag |= self.more | (4 if self.is_unmapped else 0)
        mate_fields = ("*", 0, 0)
        if mate is not None:
            flag |= (8 if mate.is_unmapped else 0) | (0x20 if mate.more & 0x10 else 0)
            same = mate.name == self.name
            length = 0
            if same and not (self.is_unmapped or mate.is_unmapped):
                left, right = min(self.start, mate.start), max(self.start + self.span, mate.start + mate.span)
                is_left = (self.start, flag & 0x80) < (mate.start, ~flag & 0x80)
                length = (right - left) * (1 if is_left else -1)
            mate_fields = ("=" if same else mate.name, mate.start + 1, length)
        quality = 0 if self.is_unmapped else 60
        fields = [name, flag, self.name, self.start + 1, quality, self.cigar, *mate_fields, self.bases, self.qualities]
        fields += [tag for tag in (self.tags, self.group) if tag]
        return order[self.name], self.start, "\t".join(map(str, fields))
