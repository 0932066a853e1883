"""What the confined process does with containers of a CRAM file: decodes, selects and encodes their records.

The files of a job: the containers with the EOF container after them, three empty ones for its use, and the target, to
which it appends.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pysam

from htsget_flask.fields import FieldSelection, parse_selection
from htsget_flask.formats.bgzf import deflate, read_blocks
from htsget_flask.records.bam_fields import select_bam_fields
from htsget_flask.records.job_fault import JobFaultError
from htsget_flask.records.region import UNPLACED_ID

# The output is sent once: half of the time for 3% more bytes.
_LEVEL = "level=1"
# CRAM 2 cannot state that a read without a reference has no qualities. Its slices embed a reference made of the reads
# instead, for which the reads have to be in order.
_EMBEDDED = ("embed_ref=2", "store_md=1", "store_nm=1")
# Encoding against a reference would take all of it into memory: 250 MB.
_UNREFERENCED = ("no_ref=1",)
# In bytes of BAM: as much is in memory at a time, and the records that are read before its size is known again.
_MAX_BAM_SIZE = 4 << 20
_RECORDS = 64

Records = Iterator[pysam.AlignedSegment]


def run_cram_job(job: dict[str, Any], files: Sequence[BinaryIO]) -> None:
    """Append the selected records of containers to the target, as BGZF blocks of BAM or as CRAM containers.

    Raises:
        JobFaultError: when the records are not what the job says of them.
        FormatError, OSError, ValueError: when they cannot be decoded.
    """
    containers, source, bam, output, target = files
    encoder = _CramEncoder(job, output)
    encoder.write_source(containers, source)
    decoder = _CramDecoder(job, bam, encoder.header)
    target.seek(0, os.SEEK_END)
    with decoder.reader(source) as reader:
        records = decoder.records(reader)
        if job["format"] == "BAM":
            for data in decoder.selected_data(records):
                target.write(deflate(data))
        else:
            encoder.encode(decoder.selected_records(records), target)


class _CramEncoder:
    """Encodes records in the version of the file that they are from."""

    def __init__(self, job: dict[str, Any], output: BinaryIO) -> None:
        major, minor = job["version"]
        self._embeds = major == 2
        self.header = pysam.AlignmentHeader.from_text(job["header"])
        self._eof = job["eof"]
        options = _EMBEDDED if self._embeds else _UNREFERENCED
        self._options = [option.encode() for option in (f"version={major}.{minor}", *options, _LEVEL)]
        self._output = output
        self._writer().close()
        self._begin = output.seek(0, os.SEEK_END) - self._eof

    def write_source(self, containers: BinaryIO, source: BinaryIO) -> None:
        """Write a CRAM file with these containers."""
        self._output.seek(0)
        source.write(self._output.read(self._begin))
        containers.seek(0)
        shutil.copyfileobj(containers, source)

    def encode(self, records: Records, target: BinaryIO) -> None:
        """Append records to the target, as containers."""
        self._output.seek(0)
        self._output.truncate()
        with self._writer() as writer:
            for record in _in_order(records) if self._embeds else records:
                writer.write(record)
        size = self._output.seek(0, os.SEEK_END) - self._eof
        if size < self._begin:
            raise JobFaultError("undecoded")
        self._output.truncate(size)
        self._output.seek(self._begin)
        shutil.copyfileobj(self._output, target)

    def _writer(self) -> pysam.AlignmentFile:
        # The stubs know options as text, pysam takes bytes.
        options: Any = self._options
        return pysam.AlignmentFile(self._output, "wc", header=self.header, format_options=options)


def _in_order(records: Records) -> Records:
    reference_id = before = 0
    for record in records:
        if record.reference_id == reference_id and record.reference_start < before:
            raise JobFaultError("unsorted")
        reference_id, before = record.reference_id, record.reference_start
        yield record


class _CramDecoder:
    """Decodes the records of a job, and verifies what the job says of them."""

    def __init__(self, job: dict[str, Any], bam: BinaryIO, header: pysam.AlignmentHeader) -> None:
        self._job = job
        self._bam = bam
        self._header = header
        selection = parse_selection(job["selection"])
        assert selection is not None
        self._selection: FieldSelection = selection

    def reader(self, source: BinaryIO) -> pysam.AlignmentFile:
        """A CRAM file, from its start."""
        source.seek(0)
        job = self._job
        options: Any = [
            b"name_prefix=" + job["name"].encode("utf-8", "surrogateescape"),
            b"required_fields=%d" % job["required_fields"],
            b"decode_md=%d" % job["decodes_md"],
        ]
        reference = job["reference"]
        return pysam.AlignmentFile(source, "rc", check_sq=False, reference_filename=reference, format_options=options)

    def records(self, reader: pysam.AlignmentFile) -> Records:
        """The records of the region, or all."""
        records = self._all_records(reader)
        if self._job["region"] is not None:
            records = self._overlapping(records)
        return self._within_bounds(records) if self._job["is_mixed"] else records

    def selected_data(self, records: Records) -> Iterator[bytes]:
        """The selected fields of records, as uncompressed BAM records, some MB at a time."""
        return (select_bam_fields(data, self._selection) for _, data in self._parts(records))

    def selected_records(self, records: Records) -> Records:
        """The selected fields of records."""
        if self._selection.is_everything:
            yield from records
            return
        for header, data in self._parts(records):
            self._bam.seek(0)
            self._bam.truncate()
            content = header + select_bam_fields(data, self._selection)
            if self._bam.write(content) < len(content):
                raise OSError(errno.ENOSPC, "the disk is full")
            self._bam.seek(0)
            with pysam.AlignmentFile(self._bam, "rb", check_sq=False) as reader:
                yield from reader.fetch(until_eof=True)

    def _all_records(self, reader: pysam.AlignmentFile) -> Records:
        count = 0
        for count, record in enumerate(reader.fetch(until_eof=True), 1):  # noqa: B007 - counted to its end
            yield record
        if count != self._job["records"]:
            raise JobFaultError("undecoded")

    def _overlapping(self, records: Records) -> Records:
        reference_id, start, end, min_start = self._job["region"]
        for record in records:
            if reference_id == record.reference_id == UNPLACED_ID:
                yield record
                continue
            first = record.reference_start
            if record.reference_id != reference_id or first < min_start or (end is not None and first >= end):
                continue
            if (record.reference_end or first + 1) > start:
                yield record

    def _within_bounds(self, records: Records) -> Records:
        lengths, parts = self._job["lengths"], dict(self._job["parts"])
        for record in records:
            reference_id, first = record.reference_id, record.reference_start
            if reference_id != UNPLACED_ID and not record.is_unmapped:
                last = min(record.reference_end or first + 1, lengths[reference_id])
                if not any(low <= first and last <= high for low, high in parts.get(reference_id, ())):
                    raise JobFaultError("elsewhere")
            yield record

    def _parts(self, records: Records) -> Iterator[tuple[bytes, bytes]]:
        """The header and some records, uncompressed; htslib's BAM files have BGZF blocks, here without compression."""
        while self._write_part(records):
            self._bam.seek(0)
            data = b"".join(block.data for block in read_blocks(self._bam, 0))
            end = _header_end(data)
            yield data[:end], data[end:]

    def _write_part(self, records: Records) -> bool:
        """Write the next records as a BAM file; False without any."""
        self._bam.seek(0)
        self._bam.truncate()
        count = 0
        with pysam.AlignmentFile(self._bam, "wb0", header=self._header) as writer:
            limit = os.fstat(self._bam.fileno()).st_size + _MAX_BAM_SIZE
            while True:
                before = count
                for record in islice(records, _RECORDS):
                    writer.write(record)
                    count += 1
                if count == before or os.fstat(self._bam.fileno()).st_size > limit:
                    return count > 0


def _header_end(data: bytes) -> int:
    """Where the records start in the data of a BAM file that htslib wrote."""
    position = 8 + int.from_bytes(data[4:8], "little")
    references, position = int.from_bytes(data[position : position + 4], "little"), position + 4
    for _ in range(references):
        position += 8 + int.from_bytes(data[position : position + 4], "little")
    return position
