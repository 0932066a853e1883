"""Reading BAI (SAMv1 5.2), TBI (Tabix) and CSI (CSIv1) files into an `Index`.

The files are sequences of bins of varying length, 200,000 of them for a human genome, each of which tells only where
the next one starts. Where they start is guessed for the whole file at once and then proven: guesses of which each leads
to the next are as good as having followed them one by one.
"""

import struct
import zlib

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, first_bin
from htsget_flask.formats.index import Index

_TABIX_HEADER_SIZE = 28
# A bin with more chunks than this is not guessed, but found behind the one before it.
_MANY_CHUNKS = 1 << 12
_SHORT_RUN = 32
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
        # The same as numbers of 64 bits, which may start at any word.
        self._pairs = np.ndarray((max(0, length - 1),), "<u8", data, position, (4,))
        self._min_shift, self._depth = min_shift, depth
        self._is_csi = is_csi
        self._head = 4 if is_csi else 2
        self._place = 0
        self._count = self._next() if count is None else count

    def read(self, names: bytes) -> Index:
        guesses = self._guess()
        bin_counts = np.zeros(self._checked(self._count, 1), dtype=np.int64)
        places = [np.empty(0, np.int64)]
        windows = []
        for reference_id in range(self._count):
            found = self._find_bins(guesses)
            bin_counts[reference_id] = sum(map(len, found))
            places += found
            windows.append(np.empty(0, np.uint64) if self._is_csi else self._read_windows())
        unplaced = self._array[self._place : self._place + 2].tobytes()
        shape = np.array([self._min_shift, self._depth, int.from_bytes(unplaced, "little")], dtype=np.int64)
        return self._assemble(shape, bin_counts, np.concatenate(places), windows, names)

    def _next(self) -> int:
        value: int = self._words[self._place]
        self._place += 1
        return value

    def _checked(self, count: int, size: int) -> int:
        """A count of things of at least `size` words each, which have to fit the rest of the file."""
        if not 0 <= count * size <= len(self._words) - self._place:
            raise FormatError("the index is truncated or damaged")
        return count

    def _guess(self) -> npt.NDArray[np.int64]:
        """Where bins seem to start, in order: whatever looks like one and is where another such leads to."""
        head = self._head
        bins, chunk_counts = self._array[: 1 - head], self._array[head - 1 :]
        seeming = (bins <= first_bin(self._depth + 1) + 1) & (chunk_counts < _MANY_CHUNKS)
        places = np.flatnonzero(seeming)
        following = places + (head + 4 * chunk_counts[places].astype(np.int64))
        is_led_to = np.zeros(len(self._array) + head + 4 * _MANY_CHUNKS, dtype=bool)
        is_led_to[following] = True
        return places[is_led_to[places]]

    def _find_bins(self, guesses: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Where the bins of the next reference start, in parts: a guess counts when the one before leads to it."""
        left = self._checked(self._next(), self._head)
        parts, longest = [], _SHORT_RUN
        while left:
            self._checked(1, self._head)
            first = int(np.searchsorted(guesses, self._place))
            run = guesses[first : first + min(left, longest)]
            if not len(run) or run[0] != self._place:
                run = np.array([self._place])
            following = run + (self._head + 4 * self._array[run + (self._head - 1)].astype(np.int64))
            breaks = np.flatnonzero(following[:-1] != run[1:])
            # Short after a wrong guess, else longer each time: many wrong ones must not cost a look at the rest each.
            longest = _SHORT_RUN if len(breaks) else 8 * longest
            run = run[: breaks[0] + 1] if len(breaks) else run
            self._place = int(following[len(run) - 1])
            left -= len(run)
            parts.append(run)
        self._checked(0, 0)
        return parts

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
        keys = references << 32 | bins
        if not (keys[1:] > keys[:-1]).all():
            order = np.argsort(keys, kind="stable")
            places, references, bins = places[order], references[order], bins[order]
        chunk_counts = words[places + (self._head - 1)].astype(np.int64)

        statistics = np.zeros((len(bin_counts), 5), dtype=np.uint64)
        limit = first_bin(self._depth + 1)
        for bin_place in np.flatnonzero((bins == limit + 1) & (chunk_counts >= 2)).tolist():
            start = int(places[bin_place]) + self._head
            statistics[references[bin_place]] = [1, *words[start : start + 8].view("<u8")]
        real = np.flatnonzero(bins < limit)
        places, references, bins, chunk_counts = places[real], references[real], bins[real], chunk_counts[real]

        bin_chunks = _offsets(chunk_counts)
        chunk_places = np.repeat(places + self._head - 4 * bin_chunks[:-1], chunk_counts)
        chunk_places += np.arange(0, 4 * len(chunk_places), 4)
        begins = self._pairs[chunk_places]
        chunk_places += 2
        ends = self._pairs[chunk_places]
        if (begins > ends).any():
            raise FormatError("the index is damaged: a chunk ends before it begins")
        reference_windows = _offsets(np.array([len(part) for part in windows], dtype=np.int64))
        flat_windows = np.concatenate(windows) if windows else np.empty(0, np.uint64)
        if self._is_csi:
            loffsets = self._pairs[places + 1]
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
        levels = [np.arange(1 << 3 * level) << 3 * (self._depth - level) for level in range(self._depth + 1)]
        places = reference_windows[references] + np.concatenate(levels)[bins]
        inside = places < reference_windows[references + 1]
        return np.where(inside, np.append(windows, np.uint64(0))[np.minimum(places, len(windows))], np.uint64(0))


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each of consecutive groups of these sizes starts, and where the last one ends."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _extent(
    begins: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64], statistics: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    if not len(begins):
        return np.array([0, int(statistics[:, 2].max(initial=0))], dtype=np.uint64)
    return np.array([begins.min(), max(ends.max(), statistics[:, 2].max(initial=0))], dtype=np.uint64)
