"""The kinds of data block, and how block URLs format them."""

import enum
import re
from collections.abc import Iterator
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


class RecordGroup(NamedTuple):
    """The record blocks of several short regions one after the other, as one data block."""

    regions: tuple[RegionFilter, ...]
    selection: FieldSelection = EVERYTHING
    format_name: str | None = None

    @property
    def blocks(self) -> Iterator[Records]:
        """The record blocks."""
        return (Records(region, None, self.selection, self.format_name) for region in self.regions)


class ConvertedPart(NamedTuple):
    """The file's header or end in another format."""

    part: FilePart
    format_name: str


# A chunk's bytes are those of the file except at its edges, where the BGZF blocks are cut and compressed again.
DataBlock = ByteRange | Chunk | FilePart | Records | RecordGroup | ConvertedPart


_FORMAT = r"[A-Z]{1,10}"
_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,15})\.([0-9]{1,5})-([0-9]{1,15})\.([0-9]{1,5})", re.ASCII)
_REGION = r"([0-9]{1,9}|u)\.([0-9]{1,18})-([0-9]{1,18})?\.([0-9]{1,18})"
_CHANGES = rf"(?:~f([^~]+))?(?:~({_FORMAT}))?"
_RECORDS = re.compile(rf"records(?:-{_REGION})?(?:~([0-9.-]+))?{_CHANGES}", re.ASCII)
_REGIONS = re.compile(rf"regions-([0-9u.,-]+){_CHANGES}", re.ASCII)
_ONE_REGION = re.compile(_REGION, re.ASCII)
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
            name = "records" if region is None else f"records-{_region_text(region)}"
            return "~".join(
                (name, *(() if span is None else (to_path_segment(span),)), *_changes(selection, format_name))
            )
        case RecordGroup(regions, selection, format_name):
            return "~".join((f"regions-{','.join(map(_region_text, regions))}", *_changes(selection, format_name)))


def _changes(selection: FieldSelection, format_name: str | None) -> Iterator[str]:
    if selection != EVERYTHING:
        yield f"f{selection}"
    if format_name is not None:
        yield format_name


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
    if match := _REGIONS.fullmatch(text):
        return _group(*match.groups())
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
    *region_texts, span_text, fields, format_name = match.groups()
    span = None if span_text is None else _span(span_text)
    selection = EVERYTHING if fields is None else parse_selection(fields)
    if (span_text is not None and span is None) or selection is None:
        return None
    return Records(None if region_texts[0] is None else _region(*region_texts), span, selection, format_name)


def _group(regions: str, fields: str | None, format_name: str | None) -> RecordGroup | None:
    matches = [_ONE_REGION.fullmatch(text) for text in regions.split(",")]
    selection = EVERYTHING if fields is None else parse_selection(fields)
    if None in matches or selection is None:
        return None
    return RecordGroup(tuple(_region(*match.groups()) for match in matches if match), selection, format_name)


def _region(reference: str, start: str, end: str | None, min_start: str) -> RegionFilter:
    reference_id = UNPLACED_ID if reference == "u" else int(reference)
    return RegionFilter(reference_id, int(start), None if end is None else int(end), int(min_start))


def least_file_size(block: DataBlock) -> int:
    """The size in bytes of the smallest file that can have the data block."""
    match block:
        case ByteRange(_, end):
            return end
        case Chunk(_, end):
            return (end + 0xFFFF) >> 16
        case Records(_, span):
            return 0 if span is None else least_file_size(span)
        case FilePart() | ConvertedPart() | RecordGroup():
            return 0
