"""Whether a ticket is right: which records of the genome its data blocks hold, all of them compared byte by byte."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.data import BGZF_EOF, RECORD_SIZE, RECORDS_PER_BLOCK, Genome, Place, RecordRange, record_numbers

Fetch = Callable[[str], bytes]

_BYTE_RANGE = re.compile(r"/blocks/[^/]+/([0-9]+)-([0-9]+)/")
_DATA = "data:;base64,"


class Delivered(NamedTuple):
    """What a ticket delivers: runs of records in file order, and its bytes without header and end of file."""

    runs: list[RecordRange]
    size: int


def delivered(ticket: bytes, genome: Genome, fetch: Fetch) -> Delivered:
    """What a ticket delivers; `fetch` gets what is not inline, except byte ranges of the file, which may be holes.

    AssertionError unless it is the header, whole records each once and in file order, and the end of file.
    """
    pieces = [_piece(entry["url"], fetch) for entry in json.loads(ticket)["htsget"]["urls"]]
    if pieces[0] != genome.header or pieces[-1] != BGZF_EOF:
        raise AssertionError("the ticket does not start with the header or does not end with the end of file")
    runs: list[RecordRange] = []
    size = 0
    for piece in pieces[1:-1]:
        run = _literal_records(piece, genome) if isinstance(piece, bytes) else _range_records(piece, genome)
        size += len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
        if runs and run.first < runs[-1].end:
            raise AssertionError("records come twice, or not in the order of the file")
        if runs and run.first == runs[-1].end:
            runs[-1] = RecordRange(runs[-1].first, run.end)
        else:
            runs.append(run)
    return Delivered(runs, size)


def check(ticket: bytes, genome: Genome, places: list[Place], fetch: Fetch) -> Delivered:
    """AssertionError unless the ticket is right and holds all records that overlap the regions."""
    found = delivered(ticket, genome, fetch)
    for place in places:
        wanted = genome.overlapping(place)
        if not any(run.first <= wanted.first and wanted.end <= run.end for run in found.runs):
            raise AssertionError(f"records of {place} are missing")
    return found


def _piece(url: str, fetch: Fetch) -> bytes | tuple[int, int]:
    if url.startswith(_DATA):
        return base64.b64decode(url[len(_DATA) :], validate=True)
    found = _BYTE_RANGE.search(url)
    return (int(found[1]), int(found[2])) if found else fetch(url)


def _literal_records(piece: bytes, genome: Genome) -> RecordRange:
    data = b""
    while piece:
        inflater = zlib.decompressobj(31)
        data += inflater.decompress(piece)
        if not inflater.eof:
            raise AssertionError("a literal piece is truncated")
        piece = inflater.unused_data
    numbers = record_numbers(data)
    if not len(numbers):
        raise AssertionError("a literal piece without records")
    run = RecordRange(int(numbers[0]), int(numbers[-1]) + 1)
    if data != _records(genome, run):
        raise AssertionError("a literal piece holds other records than the file")
    return run


def _records(genome: Genome, run: RecordRange) -> bytes:
    blocks = range(run.first // RECORDS_PER_BLOCK, (run.end - 1) // RECORDS_PER_BLOCK + 1)
    data = b"".join(genome.block_data(block) for block in blocks)
    start = run.first % RECORDS_PER_BLOCK * RECORD_SIZE
    return data[start : start + (run.end - run.first) * RECORD_SIZE]


def _range_records(piece: tuple[int, int], genome: Genome) -> RecordRange:
    first, last = (genome.block_at(coffset) for coffset in piece)
    return RecordRange(first * RECORDS_PER_BLOCK, min(last * RECORDS_PER_BLOCK, genome.record_count))


def check_positions(positions: "np.ndarray[tuple[int], np.dtype[np.int64]]", genome: Genome, place: Place) -> None:
    """AssertionError unless these are the starts of just the records that overlap the region."""
    wanted = genome.positions_overlapping(place)
    if not np.array_equal(positions, wanted):
        raise AssertionError(f"{len(positions)} records instead of {len(wanted)} at {place}")
