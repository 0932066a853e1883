"""The kinds of data block, and how block URLs format them."""

import enum
import re
from typing import NamedTuple

from htsget_flask.fields import EVERYTHING, FieldSelection, parse_selection
from htsget_flask.formats.bgzf import MAX_BLOCK_SIZE, split_offset, virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.ranges import ByteRange
from htsget_flask.records.region import UNPLACED_ID, RegionFilter

TEXT = "VCFTEXT"
"""The format of plain text: it has no end-of-file marker."""


class FilePart(enum.Enum):
    """A part that every file has once."""

    HEADER = "header"
    EOF = "eof"


class Records(NamedTuple):
    """A record block: which records, what of them, in which format.

    `region` None: all records of the span. `span`: of the file, a chunk, or in CRAM a range of whole containers; a
    chunk that starts at 0 has the region's records that start before the region, too. None: the whole file.
    `format_name` None: the file's own format.
    """

    region: RegionFilter | None
    span: Chunk | ByteRange | None = None
    selection: FieldSelection = EVERYTHING
    format_name: str | None = None

    @property
    def is_cut_only(self) -> bool:
        """Whether the records are those of the file, unchanged."""
        return self.format_name is None and self.selection == EVERYTHING


class ConvertedPart(NamedTuple):
    """The file's header or end in another format."""

    part: FilePart
    format_name: str


# A chunk's bytes are those of the file except at its edges, where the BGZF blocks are cut and compressed again.
DataBlock = ByteRange | Chunk | FilePart | Records | ConvertedPart


_FORMAT = r"[A-Z]{1,10}"
_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,15})\.([0-9]{1,5})-([0-9]{1,15})\.([0-9]{1,5})", re.ASCII)
_REGION = r"([0-9]{1,9}|u)\.([0-9]{1,18})-([0-9]{1,18})?\.([0-9]{1,18})"
_RECORDS = re.compile(rf"records(?:-{_REGION})?(?:~([0-9.-]+))?(?:~f([^~]+))?(?:~({_FORMAT}))?", re.ASCII)
_CONVERTED = re.compile(rf"(header|eof)~({_FORMAT})", re.ASCII)


def to_path_segment(block: DataBlock) -> str:
    """The data block as a segment of a URL's path; byte ranges stay half-open."""
    match block:
        case ByteRange(start, end):
            return f"{start}-{end}"
        case Chunk(begin, end):
            return "{}.{}-{}.{}".format(*split_offset(begin), *split_offset(end))
        case FilePart():
            return str(block.value)
        case ConvertedPart(part, name):
            return f"{part.value}~{name}"
        case Records(region, span, selection, format_name):
            return "~".join(
                (
                    "records" if region is None else f"records-{_region_text(region)}",
                    *(() if span is None else (to_path_segment(span),)),
                    *(() if selection == EVERYTHING else (f"f{selection}",)),
                    *(() if format_name is None else (format_name,)),
                )
            )


def _region_text(region: RegionFilter) -> str:
    reference_id, start, end, min_start = region
    name = "u" if reference_id == UNPLACED_ID else reference_id
    return f"{name}.{start}-{'' if end is None else end}.{min_start}"


def from_path_segment(text: str) -> DataBlock | None:
    """The data block that `to_path_segment` wrote; None for any other text."""
    for part in FilePart:
        if text == part.value:
            return part
    if match := _CONVERTED.fullmatch(text):
        return ConvertedPart(FilePart(match[1]), match[2])
    return _span(text) if text[:1].isdigit() else _records(text)


def _span(text: str) -> Chunk | ByteRange | None:
    if match := _RANGE.fullmatch(text):
        start, end = int(match[1]), int(match[2])
        return ByteRange(start, end) if start < end else None
    if match := _CHUNK.fullmatch(text):
        first, first_cut, last, last_cut = map(int, match.groups())
        if max(first_cut, last_cut) < MAX_BLOCK_SIZE and (first, first_cut) < (last, last_cut):
            return Chunk(virtual_offset(first, first_cut), virtual_offset(last, last_cut))
    return None


def _records(text: str) -> Records | None:
    match = _RECORDS.fullmatch(text)
    if match is None:
        return None
    reference, start, end, min_start, span_text, fields, format_name = match.groups()
    span = None if span_text is None else _span(span_text)
    selection = EVERYTHING if fields is None else parse_selection(fields)
    if (span_text is not None and span is None) or selection is None:
        return None
    region = None
    if reference is not None:
        reference_id = UNPLACED_ID if reference == "u" else int(reference)
        region = RegionFilter(reference_id, int(start), None if end is None else int(end), int(min_start))
    return Records(region, span, selection, format_name)


def least_file_size(block: DataBlock) -> int:
    """The size in bytes of the smallest file that can have the data block."""
    match block:
        case ByteRange(_, end):
            return end
        case Chunk(_, end):
            return (end + 0xFFFF) >> 16
        case Records(_, span):
            return 0 if span is None else least_file_size(span)
        case FilePart() | ConvertedPart():
            return 0
