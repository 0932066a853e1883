"""Reading BAI (SAMv1 5.2), TBI (Tabix) and CSI (CSIv1) files into an `Index`.

The files are sequences of bins of varying length, 200,000 of them for a human genome, each of which tells only where
the next one starts. Where they start is guessed for the whole file at once and then proven: guesses of which each leads
to the next are as good as having followed them one by one.
"""

import struct
from array import array

import numpy as np
import numpy.typing as npt

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, first_bin
from htsget_flask.formats.index import Index
from htsget_flask.formats.references import check_count
from htsget_flask.formats.unpacking import MAX_DATA, unpack

_TABIX_HEADER_SIZE = 28
# A bin with more chunks than this is not guessed, but found behind the one before it.
_MANY_CHUNKS = 1 << 12
# So few bins are followed one by one: numpy's calls cost as much.
_FEW_BINS = 32
# Guesses are made for so many words of 32 bits at once.
_GUESSED = 1 << 20
# A bin with one chunk takes 24 bytes.
_MAX_BINS = MAX_DATA // 24
# Twice as many as cover the longest reference that BAI and TBI know.
_MAX_WINDOWS = 1 << 16
_WINDOWS_AT_ONCE = 1 << 18
_ABSENT_WINDOW = np.uint64((1 << 64) - 1)


def read_index(data: bytes | bytearray) -> Index:
    """The index that a BAI, TBI or CSI file holds.

    Raises:
        FormatError: when it is none of these, truncated or damaged, or larger than any that is kept in memory.
    """
    data = unpack(data)
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
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise FormatError("the index is truncated or damaged") from error
    raise FormatError("the index is not a BAI, TBI or CSI file")


def _tabix_names(data: bytes | bytearray, position: int) -> tuple[bytes | bytearray, int]:
    """The reference names in a tabix header, and where it ends."""
    length = struct.unpack_from("<i", data, position + 24)[0]
    end = position + _TABIX_HEADER_SIZE + length
    names = data[position + _TABIX_HEADER_SIZE : end]
    if length < 0 or len(names) < length:
        raise FormatError("the index is truncated")
    check_count(names.count(b"\0"), "the index")
    return names, end


class _Reader:
    """The part of an index file behind its header, in words of 32 bits: everything there is made of them."""

    def __init__(
        self,
        data: bytes | bytearray,
        position: int,
        min_shift: int,
        depth: int,
        *,
        is_csi: bool,
        count: int | None = None,
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
        self._guesses, self._guessed_end = np.empty(0, np.int64), 0
        self._count = self._next() if count is None else count

    def read(self, names: bytes | bytearray) -> Index:
        check_count(self._count, "the index")
        bin_counts = np.zeros(self._checked(self._count, 1), dtype=np.int64)
        window_counts = np.zeros(self._count, dtype=np.int64)
        places, window_places = array("I"), np.zeros(self._count, dtype=np.int64)
        for reference_id in range(self._count):
            before = len(places)
            self._find_bins(places)
            bin_counts[reference_id] = len(places) - before
            if not self._is_csi:
                window_counts[reference_id], window_places[reference_id] = self._skip_windows()
        unplaced = self._array[self._place : self._place + 2].tobytes()
        shape = np.array([self._min_shift, self._depth, int.from_bytes(unplaced, "little")], dtype=np.int64)
        reference_windows = _offsets(window_counts)
        windows = self._read_windows(window_places, window_counts)
        return self._assemble(shape, bin_counts, np.array(places, np.uint32), reference_windows, windows, names)

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
        """Where bins seem to start from here on, in order: what looks like one, and is where another such leads to."""
        if self._place >= self._guessed_end:
            head = self._head
            words = self._array[self._place : self._place + _GUESSED]
            bins, chunk_counts = words[: 1 - head], words[head - 1 :]
            places = np.flatnonzero((bins <= first_bin(self._depth + 1) + 1) & (chunk_counts < _MANY_CHUNKS))
            following = places + (head + 4 * chunk_counts[places].astype(np.int64))
            is_led_to = np.zeros(len(words) + head + 4 * _MANY_CHUNKS, dtype=bool)
            is_led_to[following] = True
            is_led_to[0] = True
            self._guesses, self._guessed_end = places[is_led_to[places]] + self._place, self._place + len(words)
        return self._guesses[np.searchsorted(self._guesses, self._place) :]

    def _find_bins(self, places: "array[int]") -> None:
        """Append where the bins of the next reference start."""
        left, longest = self._checked(self._next(), self._head), _FEW_BINS
        while left:
            most = min(left, longest)
            found = self._guess_bins(most, places) if left > _FEW_BINS else 0
            left -= found
            longest *= 8
            if found < most:
                # Short after a wrong guess: many wrong ones must not cost a look at all the rest each.
                left -= self._follow_bins(min(left, _FEW_BINS), places)
                longest = _FEW_BINS
            if len(places) > _MAX_BINS:
                raise FormatError(f"the index has more than {_MAX_BINS:,} bins")
        self._checked(0, 0)

    def _guess_bins(self, most: int, places: "array[int]") -> int:
        """Append where the next bins start, at most so many, as far as guesses lead to each other; their count."""
        run = self._guess()[:most]
        if not len(run) or run[0] != self._place:
            return 0
        following = run + (self._head + 4 * self._array[run + (self._head - 1)].astype(np.int64))
        breaks = np.flatnonzero(following[:-1] != run[1:])
        run = run[: breaks[0] + 1] if len(breaks) else run
        self._place = int(following[len(run) - 1])
        places.frombytes(run.astype(np.uint32).tobytes())
        return len(run)

    def _follow_bins(self, count: int, places: "array[int]") -> int:
        """Append where the next `count` bins start, found one by one; the count."""
        words, place, head = self._words, self._place, self._head
        for _ in range(count):
            places.append(place)
            chunks = words[place + head - 1]
            if chunks < 0:
                raise FormatError("the index is truncated or damaged")
            place += head + 4 * chunks
        self._place = place
        return count

    def _skip_windows(self) -> tuple[int, int]:
        """How many windows the next reference has, and where they start."""
        count, place = self._checked(self._next(), 2), self._place
        if count > _MAX_WINDOWS:
            raise FormatError("the index is damaged: a reference has more windows than fit the longest one")
        self._place += 2 * count
        return count, place

    def _read_windows(
        self, all_places: npt.NDArray[np.int64], all_counts: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint64]:
        """The windows of all references, some references at a time."""
        having = np.flatnonzero(all_counts)
        places, counts = all_places[having], all_counts[having]
        ends = np.cumsum(counts)
        windows = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
        first = 0
        while first < len(counts):
            start = int(ends[first] - counts[first])
            last = max(first + 1, int(np.searchsorted(ends, start + _WINDOWS_AT_ONCE, "right")))
            windows[start : int(ends[last - 1])] = self._some_windows(places[first:last], counts[first:last])
            first = last
        return windows

    def _some_windows(self, places: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        ends: npt.NDArray[np.int64] = np.cumsum(counts)
        starts = ends - counts
        ranks = np.arange(ends[-1])
        windows: npt.NDArray[np.uint64] = self._pairs[np.repeat(places - 2 * starts, counts) + 2 * ranks]
        # Old writers leave 0, others all ones, for a window in which no record starts: the next one's offset holds.
        empty = (windows == 0) | (windows == _ABSENT_WINDOW)
        if empty.any():
            present = np.minimum.reduceat(np.where(windows != 0, ranks, ends[-1]), starts)
            empty &= ranks >= np.repeat(present, counts)
            following = np.where(empty, np.repeat(ends - 1, counts), ranks)
            windows = windows[np.minimum.accumulate(following[::-1])[::-1]]
        return windows

    def _assemble(
        self,
        shape: npt.NDArray[np.int64],
        bin_counts: npt.NDArray[np.int64],
        places: npt.NDArray[np.uint32],
        reference_windows: npt.NDArray[np.int64],
        windows: npt.NDArray[np.uint64],
        names: bytes | bytearray,
    ) -> Index:
        words = self._array
        references = np.repeat(np.arange(len(bin_counts), dtype=np.uint32), bin_counts)
        bins = words[places]
        # Sorted by reference and bin; the file's order is close to it, which the stable sort uses.
        follows = (references[1:] > references[:-1]) | (bins[1:] > bins[:-1])
        if not follows.all():
            order = np.argsort(references.astype(np.uint64) << np.uint64(32) | bins, kind="stable").astype(np.uint32)
            places, references, bins = places[order], references[order], bins[order]
            del order
        del follows
        chunk_counts = words[places + (self._head - 1)].astype(np.int64)

        statistics = np.zeros((len(bin_counts), 5), dtype=np.uint64)
        limit = first_bin(self._depth + 1)
        pseudo = np.flatnonzero((bins == limit + 1) & (chunk_counts >= 2))
        statistics[references[pseudo], 0] = 1
        for column in range(4):
            statistics[references[pseudo], 1 + column] = self._pairs[places[pseudo] + (self._head + 2 * column)]
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
        if self._is_csi:
            loffsets = self._pairs[places + 1]
        else:
            loffsets = self._loffsets(bins, references, reference_windows, windows)
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
            windows=windows,
            statistics=statistics,
            names=np.frombuffer(names, np.uint8),
        )

    def _loffsets(
        self,
        bins: npt.NDArray[np.uint32],
        references: npt.NDArray[np.uint32],
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
