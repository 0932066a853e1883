"""Whether a ticket is right: which records of the genome its data blocks hold, all of them compared byte by byte."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from benchmarks.data import BGZF_EOF, RECORD_SIZE, RECORDS_PER_BLOCK, Genome, RecordRange, Region, record_numbers

Fetch = Callable[[str], bytes]

_BYTE_RANGE = re.compile(r"/blocks/[^/]+/([0-9]+)-([0-9]+)/")
_CHUNK = re.compile(r"/blocks/[^/]+/([0-9]+)\.([0-9]+)-([0-9]+)\.([0-9]+)/")
_DATA = "data:;base64,"


class Delivered(NamedTuple):
    """What a ticket delivers: runs of records in file order, and its bytes without header and end of file."""

    runs: list[RecordRange]
    size: int


def delivered(ticket: bytes, genome: Genome, fetch: Fetch) -> Delivered:
    """What a ticket delivers; `fetch` gets what is not inline, except byte ranges of the file, which may be holes.

    AssertionError unless it is the header, whole records each once and in file order, and the end of file.
    """
    first, *entries, last = [entry["url"] for entry in json.loads(ticket)["htsget"]["urls"]]
    if _content(first, fetch) != genome.header or _content(last, fetch) != BGZF_EOF:
        raise AssertionError("the ticket does not start with the header or does not end with the end of file")
    runs: list[RecordRange] = []
    size = 0
    for url in entries:
        run, length = _delivered_by(url, genome, fetch)
        size += length
        if runs and run.first < runs[-1].end:
            raise AssertionError("records come twice, or not in the order of the file")
        if runs and run.first == runs[-1].end:
            runs[-1] = RecordRange(runs[-1].first, run.end)
        else:
            runs.append(run)
    return Delivered(runs, size)


def check(ticket: bytes, genome: Genome, regions: list[Region], fetch: Fetch) -> Delivered:
    """AssertionError unless the ticket is right and holds all records that overlap the regions."""
    found = delivered(ticket, genome, fetch)
    for region in regions:
        expected = genome.overlapping(region)
        if not any(run.first <= expected.first and expected.end <= run.end for run in found.runs):
            raise AssertionError(f"records of {region} are missing")
    return found


def _content(url: str, fetch: Fetch) -> bytes:
    return base64.b64decode(url[len(_DATA) :], validate=True) if url.startswith(_DATA) else fetch(url)


def _delivered_by(url: str, genome: Genome, fetch: Fetch) -> tuple[RecordRange, int]:
    """The records that one data block holds, and its size in bytes."""
    if found := _BYTE_RANGE.search(url):
        start, end = int(found[1]), int(found[2])
        return _range_records(start, end, genome), end - start
    content = _content(url, fetch)
    if found := _CHUNK.search(url):
        first, first_cut, last, last_cut = map(int, found.groups())
        return _chunk_records(content, genome, (first, first_cut), (last, last_cut)), len(content)
    return _inline_records(content, genome), len(content)


def _chunk_records(content: bytes, genome: Genome, begin: tuple[int, int], end: tuple[int, int]) -> RecordRange:
    """The records of a chunk with whole blocks between its edges; only the edges are read, the rest may be a hole.

    The virtual offsets give the range of whole blocks; the bytes before and after it must be the edges.
    """
    (first, first_cut), (last, last_cut) = begin, end
    whole = genome.coffset(genome.block_at(first) + 1) if first_cut else first
    middle = last - whole
    before = _first_members(content, (RECORDS_PER_BLOCK * RECORD_SIZE - first_cut) if first_cut else 0)
    run = _range_records(whole, last, genome)
    if before:
        head = _inline_records(content[:before], genome)
        if head != RecordRange(run.first - len(range(*head)), run.first) or first_cut % RECORD_SIZE:
            raise AssertionError("the blocks after the first edge do not continue it")
        run = RecordRange(head.first, run.end)
    if last_cut:
        tail = _inline_records(content[before + middle :], genome)
        if tail != RecordRange(run.end, run.end + last_cut // RECORD_SIZE):
            raise AssertionError("the last edge does not follow the blocks before it")
        return RecordRange(run.first, tail.end)
    if len(content) != before + middle:
        raise AssertionError(f"{len(content)} bytes instead of {before + middle}")
    return run


def _first_members(content: bytes, length: int) -> int:
    """The size of the gzip members at the start of `content` that hold `length` bytes of data."""
    position = 0
    while length > 0:
        inflater = zlib.decompressobj(31)
        length -= len(inflater.decompress(content[position : position + (1 << 16)]))
        position += min(1 << 16, len(content) - position) - len(inflater.unused_data)
    return position


def _inline_records(block: bytes, genome: Genome) -> RecordRange:
    data = b""
    while block:
        inflater = zlib.decompressobj(31)
        data += inflater.decompress(block)
        if not inflater.eof:
            raise AssertionError("an inline block is truncated")
        block = inflater.unused_data
    numbers = record_numbers(data)
    if not len(numbers):
        raise AssertionError("an inline block has no records")
    run = RecordRange(int(numbers[0]), int(numbers[-1]) + 1)
    if data != _records(genome, run):
        raise AssertionError("an inline block differs from the records of the file")
    return run


def _records(genome: Genome, run: RecordRange) -> bytes:
    blocks = range(run.first // RECORDS_PER_BLOCK, (run.end - 1) // RECORDS_PER_BLOCK + 1)
    data = b"".join(_block_data(genome, block) for block in blocks)
    start = run.first % RECORDS_PER_BLOCK * RECORD_SIZE
    return data[start : start + (run.end - run.first) * RECORD_SIZE]


@lru_cache(maxsize=1000)
def _block_data(genome: Genome, block: int) -> bytes:
    return genome.block_data(block)


def _range_records(start: int, end: int, genome: Genome) -> RecordRange:
    first, last = genome.block_at(start), genome.block_at(end)
    return RecordRange(first * RECORDS_PER_BLOCK, min(last * RECORDS_PER_BLOCK, genome.record_count))


def check_positions(positions: "np.ndarray[tuple[int], np.dtype[np.int64]]", genome: Genome, region: Region) -> None:
    """AssertionError unless these are the starts of just the records that overlap the region."""
    expected = genome.positions_overlapping(region)
    if not np.array_equal(positions, expected):
        raise AssertionError(f"{len(positions)} records instead of {len(expected)} at {region}")
