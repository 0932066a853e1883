"""The little that is asked of records: whether one can start at an offset, whether it has a place on a reference."""

import struct

_BAM_FIXED = struct.Struct("<iiiBBHHHiii")  # size, reference, position, name length, ..., next reference and position
_BCF_FIXED = struct.Struct("<IIiii")  # sizes of both parts, reference, position, length on the reference
_BAM_FIXED_SIZE, _BCF_SHARED_SIZE = 32, 24

# So many bytes of a BAM record tell its reference.
PLACE_SIZE = 8


def may_start(format_name: str, data: bytes, offset: int, reference_limit: int) -> bool:
    """Whether a record of a format can start at an offset in uncompressed data.

    `reference_limit`: one more than the largest number of a reference. A record whose fixed part goes beyond the data
    is taken for one.
    """
    if format_name == "VCF":
        return data[offset - 1] == 0x0A
    if format_name == "BCF":
        if len(data) - offset < _BCF_FIXED.size:
            return True
        shared, _, reference_id, position, length = _BCF_FIXED.unpack_from(data, offset)
        return bool(
            shared >= _BCF_SHARED_SIZE and 0 <= reference_id < reference_limit and position >= -1 and length >= 0
        )
    if len(data) - offset < _BAM_FIXED.size:
        return True
    fixed = _BAM_FIXED.unpack_from(data, offset)
    size, reference_id, position, name_length, next_reference_id, next_position = (*fixed[:4], *fixed[9:11])
    return bool(
        size >= _BAM_FIXED_SIZE + name_length
        and name_length > 0
        and -1 <= reference_id < reference_limit
        and -1 <= next_reference_id < reference_limit
        and position >= -1
        and next_position >= -1
    )


def is_unplaced(record: bytes) -> bool:
    """Whether a BAM record, of which the first `PLACE_SIZE` bytes do, has no reference."""
    return record[4:PLACE_SIZE] == b"\xff\xff\xff\xff"
