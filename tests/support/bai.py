"""BAI indexes of any records, built from the definition of their bins (SAMv1 5.2 and 5.3)."""

import random
import struct

from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, first_bin


def bin_of(start: int, end: int) -> int:
    """The smallest bin that holds positions start to end, from its definition (SAMv1 5.3)."""
    for level in range(BAI_DEPTH, -1, -1):
        size = 1 << (BAI_MIN_SHIFT + 3 * (BAI_DEPTH - level))
        if start // size == (end - 1) // size:
            return first_bin(level) + start // size
    raise AssertionError("beyond the index")


def bai(
    references: list[list[tuple[int, int]]], *, with_statistics: bool, fillers: int
) -> tuple[bytes, list[list[int]]]:
    """A BAI over records (start, end), sorted, each 1,000 virtual bytes long; and the records' virtual offsets."""
    offset, parts = 5 << 16, []
    offsets: list[list[int]] = []
    for records in references:
        bins: dict[int, list[tuple[int, int]]] = {}
        windows: dict[int, int] = {}
        offsets.append([])
        begin = offset
        for start, end in records:
            chunks = bins.setdefault(bin_of(start, end), [])
            following = offset + 1000 if (offset & 0xFFFF) < 60_000 else ((offset >> 16) + 20_000) << 16
            if chunks and chunks[-1][1] == offset:
                chunks[-1] = (chunks[-1][0], following)
            else:
                chunks.append((offset, following))
            for window in range(start >> 14, ((end - 1) >> 14) + 1):
                windows.setdefault(window, offset)
            offsets[-1].append(offset)
            offset = following
        items = list(bins.items())
        random.Random(len(records)).shuffle(items)
        part = struct.pack("<i", len(items) + (with_statistics and bool(records)))
        for number, chunks in items:
            part += struct.pack("<Ii", number, len(chunks)) + b"".join(struct.pack("<QQ", *chunk) for chunk in chunks)
        if with_statistics and records:
            part += struct.pack("<IiQQQQ", 37450, 2, begin, offset, len(records), 0)
        last = max(windows, default=-1) + 1
        part += struct.pack("<i", last) + b"".join(struct.pack("<Q", windows.get(window, 0)) for window in range(last))
        parts.append(part)
    data = b"BAI\1" + struct.pack("<i", len(references)) + b"".join(parts) + struct.pack("<Q", fillers)
    return data, offsets
