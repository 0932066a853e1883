"""Reading BAI (SAMv1 5.2), TBI (Tabix) and CSI (CSIv1) files into an `Index`.

The files are sequences of bins of varying length, 200,000 of them for a human genome: a loop finds where each starts,
and does no more; everything else is done for all of them at once.
"""

import struct
import zlib
from array import array

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, first_bin
from htsget_flask.formats.index import Index

_TABIX_HEADER_SIZE = 28
_ABSENT_WINDOW = np.uint64((1 << 64) - 1)


def read_index(data: bytes) -> Index:
    """The index that a BAI, TBI or CSI file holds.

    Raises:
        FormatError: when it is none of these, truncated or damaged.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = igzip.decompress(data)
        except (isal_zlib.error, zlib.error, EOFError, OSError) as error:
            raise FormatError("the index is truncated or damaged") from error
    try:
        if data[:4] == b"BAI\1":
            return _Reader(data, 4, BAI_MIN_SHIFT, BAI_DEPTH, is_csi=False).read(b"")
        if data[:4] == b"TBI\1":
            count = struct.unpack_from("<i", data, 4)[0]
            names, position = _tabix_names(data, 8)
            reader = _Reader(data, position, BAI_MIN_SHIFT, BAI_DEPTH, is_csi=False, count=count)
            return reader.read(names)
        if data[:4] == b"CSI\1":
            min_shift, depth, aux_length = struct.unpack_from("<3i", data, 4)
            if not (0 < min_shift < 32 and 0 <= depth <= 10 and 0 <= aux_length <= len(data) - 16):
                raise FormatError("the index is damaged: its CSI header is out of bounds")
            names = _tabix_names(data, 16)[0] if aux_length >= _TABIX_HEADER_SIZE else b""
            return _Reader(data, 16 + aux_length, min_shift, depth, is_csi=True).read(names)
    except (struct.error, ValueError, IndexError) as error:
        raise FormatError("the index is truncated or damaged") from error
    raise FormatError("the index is not a BAI, TBI or CSI file")


def _tabix_names(data: bytes, position: int) -> tuple[bytes, int]:
    """The reference names in a tabix header, and where it ends."""
    length = struct.unpack_from("<i", data, position + 24)[0]
    end = position + _TABIX_HEADER_SIZE + length
    names = data[position + _TABIX_HEADER_SIZE : end]
    if length < 0 or len(names) < length:
        raise FormatError("the index is truncated")
    return names, end


class _Reader:
    """The part of an index file behind its header, in words of 32 bits: everything there is made of them."""

    def __init__(
        self, data: bytes, position: int, min_shift: int, depth: int, *, is_csi: bool, count: int | None = None
    ) -> None:
        length = (len(data) - position) // 4
        self._words = memoryview(data)[position : position + 4 * length].cast("i")
        self._array = np.frombuffer(data, "<u4", length, position)
        self._min_shift, self._depth = min_shift, depth
        self._is_csi = is_csi
        self._head = 4 if is_csi else 2
        self._place = 0
        self._count = self._next() if count is None else count

    def read(self, names: bytes) -> Index:
        bin_counts = np.zeros(self._checked(self._count, 1), dtype=np.int64)
        places = array("q")
        windows = []
        for reference_id in range(self._count):
            bin_counts[reference_id] = self._find_bins(places)
            windows.append(np.empty(0, np.uint64) if self._is_csi else self._read_windows())
        unplaced = self._array[self._place : self._place + 2].tobytes()
        shape = np.array([self._min_shift, self._depth, int.from_bytes(unplaced, "little")], dtype=np.int64)
        return self._assemble(shape, bin_counts, np.frombuffer(places, np.int64), windows, names)

    def _next(self) -> int:
        value: int = self._words[self._place]
        self._place += 1
        return value

    def _checked(self, count: int, size: int) -> int:
        """A count of things of at least `size` words each, which have to fit the rest of the file."""
        if not 0 <= count * size <= len(self._words) - self._place:
            raise FormatError("the index is truncated or damaged")
        return count

    def _find_bins(self, places: "array[int]") -> int:
        """Append where each bin of the next reference starts; return their number."""
        count = self._checked(self._next(), self._head)
        words, place, head, chunks_at, append = self._words, self._place, self._head, self._head - 1, places.append
        for _ in range(count):
            append(place)
            place += head + 4 * words[place + chunks_at]
        if not self._place <= place <= len(words):
            raise FormatError("the index is truncated or damaged")
        self._place = place
        return count

    def _read_windows(self) -> npt.NDArray[np.uint64]:
        count = self._checked(self._next(), 2)
        windows = self._array[self._place : self._place + 2 * count].view("<u8").astype(np.uint64)
        self._place += 2 * count
        # Old writers leave 0, others all ones, for a window in which no record starts: the next one's offset holds.
        present = np.flatnonzero(windows)
        if len(present):
            empty = (windows == 0) | (windows == _ABSENT_WINDOW)
            empty[: present[0]] = False
            if empty.any():
                following = np.where(empty, len(windows) - 1, np.arange(len(windows)))
                windows = windows[np.minimum.accumulate(following[::-1])[::-1]]
        return windows

    def _assemble(
        self,
        shape: npt.NDArray[np.int64],
        bin_counts: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        windows: list[npt.NDArray[np.uint64]],
        names: bytes,
    ) -> Index:
        words = self._array
        references = np.repeat(np.arange(len(bin_counts)), bin_counts)
        bins = words[places]
        # Sorted by reference and bin; the file's order is close to it, which the stable sort uses.
        order = np.argsort(references << 32 | bins, kind="stable")
        places, references, bins = places[order], references[order], bins[order]
        chunk_counts = words[places + self._head - 1].view("<i4").astype(np.int64)
        if (chunk_counts < 0).any():
            raise FormatError("the index is damaged: a bin has a negative number of chunks")

        statistics = np.zeros((len(bin_counts), 5), dtype=np.uint64)
        limit = first_bin(self._depth + 1)
        for bin_place in np.flatnonzero((bins == limit + 1) & (chunk_counts >= 2)).tolist():
            start = int(places[bin_place]) + self._head
            statistics[references[bin_place]] = [1, *words[start : start + 8].view("<u8")]
        real = bins < limit
        places, references, bins, chunk_counts = places[real], references[real], bins[real], chunk_counts[real]

        bin_chunks = _offsets(chunk_counts)
        firsts = np.repeat(places + self._head - 4 * bin_chunks[:-1], chunk_counts)
        chunk_places = firsts + 4 * np.arange(len(firsts))
        begins, ends = _uint64(words, chunk_places), _uint64(words, chunk_places + 2)
        if (begins > ends).any():
            raise FormatError("the index is damaged: a chunk ends before it begins")
        reference_windows = _offsets(np.array([len(part) for part in windows], dtype=np.int64))
        flat_windows = np.concatenate(windows) if windows else np.empty(0, np.uint64)
        if self._is_csi:
            loffsets = _uint64(words, places + 1)
        else:
            loffsets = self._loffsets(bins, references, reference_windows, flat_windows)
        return Index(
            shape=shape,
            reference_bins=np.searchsorted(references, np.arange(len(bin_counts) + 1)).astype(np.int64),
            bins=bins.astype(np.uint32),
            bin_chunks=bin_chunks,
            loffsets=loffsets,
            chunk_begins=begins,
            chunk_ends=ends,
            extent=_extent(begins, ends, statistics),
            reference_windows=reference_windows,
            windows=flat_windows,
            statistics=statistics,
            names=np.frombuffer(names, np.uint8),
        )

    def _loffsets(
        self,
        bins: npt.NDArray[np.uint32],
        references: npt.NDArray[np.int64],
        reference_windows: npt.NDArray[np.int64],
        windows: npt.NDArray[np.uint64],
    ) -> npt.NDArray[np.uint64]:
        """What a CSI states and BAI and TBI imply: the linear index at each bin's leftmost window, 0 beyond its end."""
        firsts = np.array([first_bin(level) for level in range(self._depth + 1)])
        levels = np.searchsorted(firsts, bins, side="right") - 1
        places = reference_windows[references] + ((bins - firsts[levels]) << 3 * (self._depth - levels))
        inside = places < reference_windows[references + 1]
        loffsets = np.zeros(len(bins), dtype=np.uint64)
        loffsets[inside] = windows[places[inside]]
        return loffsets


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each of consecutive groups of these sizes starts, and where the last one ends."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _uint64(words: npt.NDArray[np.uint32], places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The 64-bit numbers whose lower halves stand at these places."""
    numbers = np.empty((len(places), 2), np.uint32)
    numbers[:, 0] = words[places]
    numbers[:, 1] = words[places + 1]
    return numbers.view(np.uint64).reshape(-1)


def _extent(
    begins: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64], statistics: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    if not len(begins):
        return np.array([0, int(statistics[:, 2].max(initial=0))], dtype=np.uint64)
    return np.array([begins.min(), max(ends.max(), statistics[:, 2].max(initial=0))], dtype=np.uint64)
