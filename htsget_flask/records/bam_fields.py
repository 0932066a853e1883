"""BAM records with a selection of their fields and tags (SAMv1 4.2); the others have the value for "unavailable"."""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from htsget_flask.errors import FormatError
from htsget_flask.fields import FieldSelection
from htsget_flask.formats.records import BAM_FIXED

_Positions = NDArray[np.int64]

_SIZE = struct.Struct("<i")
_UNAVAILABLE = (("RNEXT", "next_reference", -1), ("PNEXT", "next_position", -1), ("TLEN", "template_length", 0))
_NO_NAME_LENGTH = len(b"*\0")
_SOFT_CLIP = 4

_STRING, _ARRAY = -1, -2
# The size of a tag's value by its type, in bytes; 0: there is no such type.
_SIZES = {
    "A": 1,
    "c": 1,
    "C": 1,
    "s": 2,
    "S": 2,
    "i": 4,
    "I": 4,
    "f": 4,
    "d": 8,
    "Z": _STRING,
    "H": _STRING,
    "B": _ARRAY,
}
_VALUE_SIZES = np.array([_SIZES.get(chr(byte), 0) for byte in range(256)], np.int64)
# A record has each tag once (SAMv1 1.5): this many names match [A-Za-z][A-Za-z0-9].
_MAX_TAGS = 52 * 62


class _Records(NamedTuple):
    """Records by column: their fixed parts, and where the others start in the data, in bytes."""

    fixed: NDArray[np.void]
    start: _Positions
    cigar: _Positions
    bases: _Positions
    qualities: _Positions
    tags: _Positions
    end: _Positions


class _Tags(NamedTuple):
    """The spans of the selected tags, in any order, and for each record their size; and which CIGARs are tags."""

    starts: list[_Positions]
    ends: list[_Positions]
    sizes: _Positions
    has_long_cigar: NDArray[np.bool_]


def select_bam_fields(data: bytes, selection: FieldSelection) -> bytes:
    """The records, uncompressed and whole, with only the fields and tags of the selection.

    A CIGAR that is in the tag CG, as it has more than 65,535 operations, is kept as the record's CIGAR is.
    Takes memory of up to about 15 times the data.

    Raises:
        FormatError: when the records are damaged.
    """
    if not data or selection.is_everything:
        return data
    records = _read_records(data)
    buffer = bytearray(data)
    array = np.frombuffer(buffer, np.uint8)
    tags = _select_tags(array, records, selection)
    first, last = _remove_name(array, records, selection), records.tags
    if "SEQ" not in selection.fields:
        last = records.bases
        records.fixed["bases"] = 0
        # htslib takes the CIGAR from the tag only if the first operation clips all bases.
        for start in records.cigar[tags.has_long_cigar].tolist():
            _SIZE.pack_into(buffer, start, _SOFT_CLIP)
    elif "QUAL" not in selection.fields:
        _clear_qualities(buffer, records)
    for field, column, value in _UNAVAILABLE:
        if field not in selection.fields:
            records.fixed[column] = value
    records.fixed["size"] = last - first + tags.sizes - _SIZE.size
    _fixed_parts(buffer)[first] = records.fixed
    return _join(bytes(buffer), [first, *tags.starts], [last, *tags.ends])


def _read_records(data: bytes) -> _Records:
    """The records' columns, with every length checked."""
    starts, start, last = [], 0, len(data) - BAM_FIXED.itemsize
    read_size, least = _SIZE.unpack_from, BAM_FIXED.itemsize - _SIZE.size
    while start <= last:
        starts.append(start)
        (size,) = read_size(data, start)
        if size < least:
            raise FormatError("a record is damaged: it is too short")
        start += _SIZE.size + size
    if start != len(data):
        raise FormatError("a record is damaged: it goes beyond the data")
    start_of = np.array(starts, np.int64)
    fixed = _fixed_parts(data)[start_of]
    end = np.append(start_of[1:], len(data))
    cigar = start_of + BAM_FIXED.itemsize + fixed["name_length"]
    bases = cigar + 4 * fixed["operations"].astype(np.int64)
    lengths = fixed["bases"].astype(np.int64)
    qualities = bases + (lengths + 1) // 2
    tags = qualities + lengths
    if not (fixed["name_length"].all() and (lengths >= 0).all() and (tags <= end).all()):
        raise FormatError("a record is damaged: its fields are longer than the record")
    return _Records(fixed, start_of, cigar, bases, qualities, tags, end)


def _fixed_parts(data: bytes | bytearray) -> NDArray[np.void]:
    """What would be a record's fixed part at each offset in the data; a view."""
    parts: NDArray[np.void] = np.ndarray((len(data) - BAM_FIXED.itemsize + 1,), BAM_FIXED, data, strides=(1,))
    return parts


def _remove_name(array: NDArray[np.uint8], records: _Records, selection: FieldSelection) -> _Positions:
    """Where the records start without the name, if it is not selected: the fixed part moves towards the CIGAR."""
    if "QNAME" in selection.fields:
        return records.start
    lengths: _Positions = np.minimum(records.fixed["name_length"], _NO_NAME_LENGTH).astype(np.int64)
    records.fixed["name_length"] = lengths
    array[records.cigar - lengths] = ord("*")
    array[records.cigar - 1] = 0
    return records.cigar - lengths - BAM_FIXED.itemsize


def _clear_qualities(buffer: bytearray, records: _Records) -> None:
    longest = int((records.tags - records.qualities).max())
    unavailable = memoryview(b"\xff" * longest)
    view = memoryview(buffer)
    for start, end in zip(records.qualities.tolist(), records.tags.tolist(), strict=True):
        view[start:end] = unavailable[: end - start]


def _select_tags(array: NDArray[np.uint8], records: _Records, selection: FieldSelection) -> _Tags:
    """The selected tags; only where the selection or the CIGAR depends on single tags, these are read."""
    all_or_none = not selection.notags if selection.tags is None else not selection.tags
    keeps_all = selection.tags is None
    placeholders = _has_placeholder(array, records)
    single = np.flatnonzero(placeholders if all_or_none else np.ones_like(placeholders))
    is_selected = np.full(1 << 16, keeps_all)
    for tag in (selection.notags if keeps_all else selection.tags) or ():
        is_selected[int.from_bytes(tag.encode(), "little")] = not keeps_all
    sizes = records.end - records.tags if keeps_all else np.zeros_like(records.end)
    sizes[single] = 0
    tags = _Tags([], [], sizes, np.zeros_like(placeholders))
    if keeps_all and all_or_none:
        others = ~placeholders
        tags.starts.append(records.tags[others])
        tags.ends.append(records.end[others])
    _read_tags(array, records, single, placeholders, is_selected, tags)
    return tags


def _has_placeholder(array: NDArray[np.uint8], records: _Records) -> NDArray[np.bool_]:
    """Whether the first operation clips all bases, on a placed record: htslib then takes the CIGAR from the tag CG."""
    fixed = records.fixed
    has = (fixed["operations"] > 0) & (fixed["reference"] >= 0) & (fixed["position"] >= 0)
    some = np.flatnonzero(has)
    has[some] = _number(array, records.cigar[some]) == fixed["bases"][some].astype(np.int64) << 4 | _SOFT_CLIP
    return has


def _read_tags(
    array: NDArray[np.uint8],
    records: _Records,
    numbers: _Positions,
    placeholders: NDArray[np.bool_],
    is_selected: NDArray[np.bool_],
    tags: _Tags,
) -> None:
    """Read the tags of the records with these numbers: the first of each record, then the second of each, ..."""
    position, end = records.tags[numbers], records.end[numbers]
    terminators: _Positions | None = None
    for _ in range(_MAX_TAGS + 1):
        more = position < end
        if not more.all():
            numbers, position, end = numbers[more], position[more], end[more]
        if not numbers.size:
            return
        if (position + 4 > end).any():
            raise FormatError("a record is damaged: a tag goes beyond its end")
        name = array[position].astype(np.int64) | array[position + 1].astype(np.int64) << 8
        sizes = _VALUE_SIZES[array[position + 2]]
        after = position + 3 + sizes
        keep = is_selected[name]
        strings = np.flatnonzero(sizes == _STRING)
        if strings.size:
            if terminators is None:
                terminators = np.append(np.flatnonzero(array == 0), len(array))
            after[strings] = terminators[np.searchsorted(terminators, position[strings] + 3)] + 1
        arrays = np.flatnonzero(sizes == _ARRAY)
        if arrays.size:
            after[arrays], is_cigar = _read_arrays(array, position[arrays], end[arrays])
            is_cigar &= placeholders[numbers[arrays]]
            keep[arrays] |= is_cigar
            tags.has_long_cigar[numbers[arrays[is_cigar]]] = True
        if (after > end).any() or not sizes.all():
            raise FormatError("a record is damaged: a tag goes beyond its end or has an unknown type")
        tags.starts.append(position[keep])
        tags.ends.append(after[keep])
        tags.sizes[numbers[keep]] += (after - position)[keep]
        position = after
    raise FormatError(f"a record is damaged: it has more than {_MAX_TAGS} tags")


def _read_arrays(
    array: NDArray[np.uint8], position: _Positions, end: _Positions
) -> tuple[_Positions, NDArray[np.bool_]]:
    """Where these tags, with the type B, end; and whether each can be a CIGAR (SAMv1 4.2.2)."""
    if (position + 8 > end).any():
        raise FormatError("a record is damaged: a tag goes beyond its end")
    types = array[position + 3]
    sizes = _VALUE_SIZES[types]
    if (sizes <= 0).any():
        raise FormatError("a record is damaged: a tag has an unknown type")
    is_cigar = (array[position] == ord("C")) & (array[position + 1] == ord("G")) & np.isin(types, (ord("I"), ord("i")))
    return position + 8 + sizes * _number(array, position + 4), is_cigar


def _number(array: NDArray[np.uint8], position: _Positions) -> _Positions:
    """The unsigned 32-bit numbers at these positions."""
    return np.ndarray((len(array) - 3,), "<u4", array, strides=(1,))[position].astype(np.int64)


def _join(data: bytes, starts: list[_Positions], ends: list[_Positions]) -> bytes:
    """Spans of the data in the order of the data; they do not overlap."""
    start, end = np.sort(np.concatenate(starts), kind="stable"), np.sort(np.concatenate(ends), kind="stable")
    gaps = start[1:] != end[:-1]
    start, end = start[np.append(True, gaps)], end[np.append(gaps, True)]
    return b"".join(map(data.__getitem__, map(slice, start.tolist(), end.tolist())))
