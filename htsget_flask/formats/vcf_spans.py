"""Where the records of VCF lie (VCFv4.5 1.6.1): the longest of REF, INFO/END, INFO/SVLEN and FORMAT/LEN.

That is how htslib counts it from 1.23 on.
"""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from htsget_flask.errors import FormatError

Int64Array = npt.NDArray[np.int64]

_TAB, _LESS = 0x09, 0x3C
# Tabs before the columns POS, ID, REF, ALT, QUAL and INFO, and the one after INFO.
_POS, _ID, _REF, _ALT, _QUAL, _INFO, _FORMAT = 0, 1, 2, 3, 4, 6, 7
# In digits: what fits into 64 bits.
_MAX_DIGITS = 18
# In bytes: longer data are parsed record by record, as arrays of its columns would take many times its memory.
_MAX_PARSED = 1 << 20

_POSITION = re.compile(rb"[0-9]{1,18}")
_END = re.compile(rb"(?:^|;)END=\+?([0-9]{1,18})(?:;|$)")
_END_ANYWHERE = re.compile(rb"[\t;]END=\+?([0-9]{1,18})(?=[;\t\r\n]|\Z)")
_SVLEN = re.compile(rb"(?:^|;)SVLEN=([^;]*)")
_NUMBER = re.compile(rb"[+-]?([0-9]{1,18})")
# The symbolic alleles whose SVLEN counts bases of the reference, with all of their subtypes.
_SPANNING = re.compile(rb"<(?:CNV|DEL|DUP|INV)(?::[^>]*)?>")
# Those of gVCF, whose FORMAT/LEN counts bases of the reference.
_UNSPECIFIED = frozenset((b"<*>", b"<NON_REF>"))
# What records need whose alleles may be longer than REF and END say.
_LENGTHS = (b"SVLEN=", b":LEN", b"\tLEN")
# The search for a value after more of them takes hundreds of megabytes.
_MAX_KEYS = 10_000

_DAMAGED = "a record is damaged"


def find_vcf_spans(data: bytes, offsets: Int64Array) -> tuple[bytes, Int64Array, Int64Array]:
    """The reference's name, and the starts and ends (0-based, half-open) of the first records that have it.

    `offsets`: of whole lines in `data`, and at last the end of the last one.

    Raises:
        FormatError: when a record is damaged.
    """
    name = data[: max(0, data.find(b"\t"))]
    if not name or b"\n" in name:
        raise FormatError(_DAMAGED)
    if len(data) > _MAX_PARSED:
        return _find_one_by_one(data, offsets, name)
    content = np.frombuffer(data, np.uint8)
    count = _count_of_reference(content, offsets, name)
    starts_of_lines, ends_of_lines = offsets[:count], offsets[1 : count + 1]
    tabs = np.flatnonzero(content == _TAB)
    first = np.searchsorted(tabs, starts_of_lines)
    # A line without FORMAT has one tab less: the end of the line stands for it.
    tabs = np.append(tabs, np.repeat(len(data), _FORMAT + 1))
    columns = tabs[first[:, None] + np.arange(_FORMAT + 1)]
    if (columns[:, _INFO] >= ends_of_lines).any():
        raise FormatError(_DAMAGED)
    info_ends = np.minimum(columns[:, _FORMAT], ends_of_lines)
    starts = _numbers(content, columns[:, _POS] + 1, columns[:, _ID]) - 1
    ends = starts + columns[:, _ALT] - columns[:, _REF] - 1
    before = -1
    for match in _END_ANYWHERE.finditer(data, 0, int(ends_of_lines[-1])) if b"END=" in data else ():
        line = int(np.searchsorted(starts_of_lines, match.start(), "right")) - 1
        if line != before and columns[line, _INFO] <= match.start() < info_ends[line]:
            ends[line] = max(ends[line], int(match[1]))
            before = line
    if any(text in data for text in _LENGTHS):
        symbols = np.flatnonzero(content == _LESS)
        low, high = (np.searchsorted(symbols, columns[:, number]) for number in (_ALT, _QUAL))
        for line in np.flatnonzero(low < high).tolist():
            ends[line] = _span(data[starts_of_lines[line] : ends_of_lines[line]])[1]
    return name, starts, ends


def _count_of_reference(content: npt.NDArray[np.uint8], offsets: Int64Array, name: bytes) -> int:
    """How many of the first lines start with a name and a tab."""
    prefix = np.frombuffer(name + b"\t", np.uint8)
    # Shorter lines are not compared: with a long name that would take more memory than the data.
    long_lines = np.flatnonzero(offsets[1:] - offsets[:-1] >= len(prefix))
    is_same = np.zeros(len(offsets) - 1, bool)
    is_same[long_lines] = (content[offsets[long_lines][:, None] + np.arange(len(prefix))] == prefix).all(axis=1)
    return len(is_same) if is_same.all() else int(np.argmin(is_same))


def _numbers(content: npt.NDArray[np.uint8], starts: Int64Array, ends: Int64Array) -> Int64Array:
    """The numbers that the text has between these offsets.

    Raises:
        FormatError: where it has something else.
    """
    widths = ends - starts
    width = int(widths.max())
    if width > _MAX_DIGITS or widths.min() < 1:
        raise FormatError(_DAMAGED)
    columns = ends[:, None] - np.arange(width, 0, -1)
    digits = content[np.maximum(columns, 0)].astype(np.int64) - 0x30
    digits[columns < starts[:, None]] = 0
    if ((digits < 0) | (digits > 9)).any():
        raise FormatError(_DAMAGED)
    return digits @ 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)  # type: ignore[no-any-return]


def _find_one_by_one(data: bytes, offsets: Int64Array, name: bytes) -> tuple[bytes, Int64Array, Int64Array]:
    spans = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        if not data.startswith(name + b"\t", start):
            break
        spans.append(_span(data[start:end]))
    table = np.array(spans, np.int64).reshape(-1, 2)
    return name, table[:, 0], table[:, 1]


def _span(record: bytes) -> tuple[int, int]:
    fields = record.rstrip(b"\r\n").split(b"\t", 9)
    if len(fields) < 8 or not _POSITION.fullmatch(fields[1]):
        raise FormatError(_DAMAGED)
    start, alleles, info = int(fields[1]) - 1, fields[4], fields[7]
    end = start + len(fields[3])
    if match := _END.search(info):
        end = max(end, int(match[1]))
    if b"<" in alleles:
        if match := _SVLEN.search(info):
            lengths = zip(_split(alleles, b","), _split(match[1], b","), strict=False)
            spans = (_number(length) for allele, length in lengths if _SPANNING.fullmatch(allele))
            end = max(end, start + max(spans, default=0))
        if not _UNSPECIFIED.isdisjoint(_split(alleles, b",")) and len(fields) > 9:
            end = max(end, start + _longest_block(fields[8], fields[9]))
    return start, end


def _longest_block(formats: bytes, samples: bytes) -> int:
    """The greatest FORMAT/LEN of all samples; 0 without any."""
    names = b":%s:" % formats
    offset = names.find(b":LEN:")
    if offset < 0:
        return 0
    column = names.count(b":", 0, offset)
    if column > _MAX_KEYS:
        raise FormatError(f"a record has more than {_MAX_KEYS:,} keys in FORMAT")
    value = rb"(?:^|\t)(?:[^:\t]*:){%d}[+-]?([0-9]{1,18})" % column
    return max((int(stated[1]) for stated in re.finditer(value, samples)), default=0)


def _split(text: bytes, separator: bytes) -> Iterator[bytes]:
    """The parts of a text one by one: as a list, those of the longest record would take a gigabyte."""
    start = 0
    while (end := text.find(separator, start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _number(text: bytes) -> int:
    """The number that a text starts with, without its sign; 0 where it starts with none."""
    match = _NUMBER.match(text)
    return int(match[1]) if match else 0
