"""The bytes of data blocks: those of the file where that is possible, others made of its records."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO, NamedTuple

from htsget_flask.datasets.edges import ChunkParts, chunk_parts, cut_chunk, cut_region, edges_size, read_parts
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.reference_checks import missing_reference
from htsget_flask.datasets.region_records import MAX_ROWS_IN_MEMORY, earlier_records, extent_of, prefetch_extents
from htsget_flask.errors import FileFaultError, FormatError, NotFound
from htsget_flask.formats import bgzf
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.references import Reference
from htsget_flask.htsget.data_blocks import TEXT, ConvertedPart, FilePart, RecordGroup, Records
from htsget_flask.htsget.record_spans import is_groupable
from htsget_flask.ranges import ByteRange
from htsget_flask.records.bam_fields import select_bam_fields
from htsget_flask.records.bam_header import bam_header
from htsget_flask.records.bcf import format_bcf, vcf_header
from htsget_flask.records.cram import CramSource, decode_containers, needs_bases
from htsget_flask.records.decoder import Decoder
from htsget_flask.records.stream import batch_records, read_data, write_bgzf
from htsget_flask.sequences.open_sequence import LibraryBases

# In bytes of the file: blocks of tickets have some MB, or a container of up to 256 MiB. Temporary files of many longer
# ones, which anyone can request without access control, would fill the disk.
_MAX_SPAN = 264 << 20

InlineBlock = Chunk | FilePart | ConvertedPart | Records


class Tools(NamedTuple):
    """What records are decoded with: the bases of references, and the processes that decode."""

    bases: LibraryBases
    decoder: Decoder


def is_written(file: OpenFile, block: Records) -> bool:
    """Whether the records of a block are written to a file, as they are decoded, changed, or too many for the memory.

    In deep data thousands of blocks may have records that start before a region.
    """
    if not (block.is_cut_only and file.source.format.is_bgzf):
        return True
    if file.is_cached(("parts", block)):
        # Where they lie needs the index, whose version may have to be requested.
        return False
    extent = None if block.region is None else extent_of(file, block.region)
    return extent is not None and len(extent.earlier) > MAX_ROWS_IN_MEMORY


def parts_of(file: OpenFile, block: Chunk | Records) -> ChunkParts:
    """The parts of a data block of a BGZF file whose records are not changed."""
    if isinstance(block, Chunk):
        return chunk_parts(file, block)
    return file.cached(("parts", block), lambda: _cut_region(file, block), edges_size)


def read_inline(file: OpenFile, block: InlineBlock, tools: Tools) -> bytes:
    """The bytes of a data block that may be inline.

    Raises:
        FileFaultError: when the index does not fit the data, or they are damaged.
        ServiceUnavailable: when decoding is needed, and not possible now.
    """
    match block:
        case FilePart.HEADER:
            return file.header.raw
        case FilePart.EOF:
            return file.header.eof_marker
        case ConvertedPart(FilePart.HEADER, format_name):
            return _convert_header(file, format_name, tools)
        case ConvertedPart():
            return bgzf.EOF_BLOCK
        case Chunk():
            with _located_faults(file):
                return read_parts(lambda: file.content, cut_chunk(file, block))
        case Records():
            with _located_faults(file):
                return read_parts(lambda: file.pages, _cut_region(file, block))


def _convert_header(file: OpenFile, format_name: str, tools: Tools) -> bytes:
    header = file.header
    if format_name == "BAM":
        return bam_header(header)
    if file.source.format.name == "VCF":
        return b"".join(block.data for block in bgzf.read_blocks(io.BytesIO(header.raw), 0))
    text = vcf_header(header.raw, tools.decoder)
    return text if format_name == TEXT else bgzf.deflate(text)


def write_records(file: OpenFile, block: Records, tools: Tools, target: BinaryIO) -> None:
    """Write the bytes of a record block, with memory of some MB whatever its length.

    Raises:
        NotFound: when the block is longer than those of tickets.
        FileFaultError: when the file is damaged, or records cannot be decoded.
        ServiceUnavailable: when they cannot be decoded now.
    """
    with _located_faults(file):
        layout, format_name = file.source.format.records, block.format_name
        if layout is None:
            _write_decoded(file, block, tools, target)
            return
        earlier, chunk = _records_of(file, block)
        _check_size((chunk.end >> 16) - (chunk.begin >> 16))
        # Long blocks would fill the cache with pages that nobody needs again.
        data = chain(earlier, read_data(file.pages if block.span is None else file.content, chunk))
        if file.source.format.name == "BCF" and format_name is not None:
            records = batch_records(data, layout)
            format_bcf(file.header.raw, records, tools.decoder, target, is_text=format_name == TEXT)
        else:
            with tools.decoder.occupy():
                if format_name == TEXT:
                    target.writelines(data)
                elif block.is_cut_only:
                    # The block may end in mid-record, where a range of the file follows.
                    write_bgzf(data, target)
                else:
                    batches = batch_records(data, layout)
                    write_bgzf((select_bam_fields(batch, block.selection) for batch in batches), target)


def write_group(file: OpenFile, group: RecordGroup, tools: Tools, target: BinaryIO) -> None:
    """Write the bytes of the record blocks of several regions; the errors are those of `write_records`."""
    if not all(is_groupable(file, block) for block in group.blocks):
        raise NotFound("there is no such data block")
    if file.source.storage.reads_are_requests:
        prefetch_extents(file, group.regions)
    for block in group.blocks:
        if is_written(file, block):
            write_records(file, block, tools, target)
        else:
            target.write(read_inline(file, block, tools))


@contextmanager
def _located_faults(file: OpenFile) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise FileFaultError(str(error), location=file.source.location) from error


def _write_decoded(file: OpenFile, block: Records, tools: Tools, target: BinaryIO) -> None:
    references = file.references_with_md5s

    def letters(reference_id: int, start: int, end: int) -> Iterator[bytes]:
        reference = references.with_id(reference_id)
        if reference is None or reference.md5 is None:
            raise FormatError("the header has no checksum of a reference that its records need")
        return tools.bases.letters(reference.md5, start, end)

    assert isinstance(block.span, ByteRange)
    _check_size(len(block.span))
    decode_containers(
        CramSource(file.content, file.header, file.source.key.rpartition("/")[2]),
        [block.span],
        block.region,
        block.selection,
        block.format_name or "CRAM",
        letters,
        file.crai.bounds,
        tools.decoder,
        target,
    )


def _check_size(size: int) -> None:
    if size > _MAX_SPAN:
        raise NotFound("there is no such data block")


def _cut_region(file: OpenFile, block: Records) -> ChunkParts:
    earlier, chunk = _records_of(file, block)
    return cut_region(file, chunk, b"".join(earlier))


def _records_of(file: OpenFile, block: Records) -> tuple[Iterator[bytes], Chunk]:
    """The records of a block that lie before its chunk, and the chunk."""
    region, span = block.region, block.span
    if region is None:
        return iter(()), span if isinstance(span, Chunk) else Chunk(0, 0)
    extent = extent_of(file, region)
    if extent is None:
        return iter(()), Chunk(0, 0)
    begin, end = extent.chunk
    has_earlier = True
    if isinstance(span, Chunk):
        begin, end, has_earlier = max(begin, span.begin), min(end, span.end), not span.begin
    return earlier_records(file, region, extent) if has_earlier else iter(()), Chunk(begin, max(begin, end))


def find_missing_reference(file: OpenFile, blocks: Iterable[object], bases: LibraryBases) -> Reference | None:
    """A reference that the records of data blocks of a CRAM file need, and that is not available; None without one."""
    regions = {block.region for block in blocks if isinstance(block, Records) and needs_bases(block.selection)}
    if not regions:
        return None
    ids = None if None in regions else {region.reference_id for region in regions if region is not None}
    return missing_reference(file, bases.has, ids)
