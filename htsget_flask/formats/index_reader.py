"""Reading BAI (SAMv1 5.2), TBI (Tabix) and CSI (CSIv1) files into an `Index`.

The files are sequences of bins of varying length, 200,000 of them for a human genome; only a bin's own length shows
where the next one starts. This module guesses the starts for the whole file at once and then proves them: a run of
guesses in which each bin ends where the next one starts equals following them one by one (5 ms against 18).
"""

import struct
from array import array

import numpy as np

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, first_bin
from htsget_flask.formats.index import Index
from htsget_flask.formats.linear_index import Int64Array, UInt32Array, UInt64Array, imply_loffsets, read_windows
from htsget_flask.formats.references import check_count
from htsget_flask.formats.unpacking import MAX_DATA, unpack

_TABIX_HEADER_SIZE = 28
# A bin with more chunks than this is not guessed, but found at the end of the one before it.
_MANY_CHUNKS = 1 << 12
# Up to this many bins are followed one by one: numpy's calls cost as much.
_FEW_BINS = 32
# Guesses are made for this many words of 32 bits at once.
_GUESSED = 1 << 20
# A bin with one chunk takes 24 bytes.
_MAX_BINS = MAX_DATA // 24
# Twice as many as cover the longest reference that BAI and TBI know.
_MAX_WINDOWS = 1 << 16


def read_index(data: bytes | bytearray) -> Index:
    """The index that a BAI, TBI or CSI file holds.

    Raises:
        FormatError: when it is none of these, truncated or damaged, or too large for the memory.
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
    """The part of an index file after its header, which consists of words of 32 bits; positions count them."""

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
        self._position = 0
        self._guesses, self._guessed_end = np.empty(0, np.int64), 0
        self._count = self._next() if count is None else count

    def read(self, names: bytes | bytearray) -> Index:
        check_count(self._count, "the index")
        bin_counts = np.zeros(self._checked(self._count, 1), dtype=np.int64)
        window_counts = np.zeros(self._count, dtype=np.int64)
        positions, window_positions = array("I"), np.zeros(self._count, dtype=np.int64)
        for reference_id in range(self._count):
            before = len(positions)
            self._find_bins(positions)
            bin_counts[reference_id] = len(positions) - before
            if not self._is_csi:
                window_counts[reference_id], window_positions[reference_id] = self._skip_windows()
        unplaced = self._array[self._position : self._position + 2].tobytes()
        shape = np.array([self._min_shift, self._depth, int.from_bytes(unplaced, "little")], dtype=np.int64)
        reference_windows = np.append(0, np.cumsum(window_counts))
        windows = read_windows(self._pairs, window_positions, window_counts)
        return self._assemble(shape, bin_counts, np.array(positions, np.uint32), reference_windows, windows, names)

    def _next(self) -> int:
        value: int = self._words[self._position]
        self._position += 1
        return value

    def _checked(self, count: int, size: int) -> int:
        """A count of items of at least `size` words each, which have to fit the rest of the file."""
        if not 0 <= count * size <= len(self._words) - self._position:
            raise FormatError("the index is truncated or damaged")
        return count

    def _guess(self) -> Int64Array:
        """Where bins may start from here on, in order: what looks like a bin, where another candidate ends."""
        if self._position >= self._guessed_end:
            head = self._head
            words = self._array[self._position : self._position + _GUESSED]
            bins, chunk_counts = words[: 1 - head], words[head - 1 :]
            positions = np.flatnonzero((bins <= first_bin(self._depth + 1) + 1) & (chunk_counts < _MANY_CHUNKS))
            following = positions + (head + 4 * chunk_counts[positions].astype(np.int64))
            is_end = np.zeros(len(words) + head + 4 * _MANY_CHUNKS, dtype=bool)
            is_end[following] = True
            is_end[0] = True
            self._guesses, self._guessed_end = (
                positions[is_end[positions]] + self._position,
                self._position + len(words),
            )
        return self._guesses[np.searchsorted(self._guesses, self._position) :]

    def _find_bins(self, positions: "array[int]") -> None:
        """Append where the bins of the next reference start."""
        left, longest = self._checked(self._next(), self._head), _FEW_BINS
        while left:
            limit = min(left, longest)
            count = self._guess_bins(limit, positions) if left > _FEW_BINS else 0
            left -= count
            longest *= 8
            if count < limit:
                # Fewer after a wrong guess: a check of all the rest for each of many wrong ones would take too long.
                left -= self._follow_bins(min(left, _FEW_BINS), positions)
                longest = _FEW_BINS
            if len(positions) > _MAX_BINS:
                raise FormatError(f"the index has more than {_MAX_BINS:,} bins")
        self._checked(0, 0)

    def _guess_bins(self, limit: int, positions: "array[int]") -> int:
        """Append where the next bins start, at most `limit`, as far as each guess leads to the next; their count."""
        run = self._guess()[:limit]
        if not len(run) or run[0] != self._position:
            return 0
        following = run + (self._head + 4 * self._array[run + (self._head - 1)].astype(np.int64))
        breaks = np.flatnonzero(following[:-1] != run[1:])
        run = run[: breaks[0] + 1] if len(breaks) else run
        self._position = int(following[len(run) - 1])
        positions.frombytes(run.astype(np.uint32).tobytes())
        return len(run)

    def _follow_bins(self, count: int, positions: "array[int]") -> int:
        """Append where the next `count` bins start, found one by one; the count."""
        words, position, head = self._words, self._position, self._head
        for _ in range(count):
            positions.append(position)
            chunks = words[position + head - 1]
            if chunks < 0:
                raise FormatError("the index is truncated or damaged")
            position += head + 4 * chunks
        self._position = position
        return count

    def _skip_windows(self) -> tuple[int, int]:
        """How many windows the next reference has, and where they start."""
        count, position = self._checked(self._next(), 2), self._position
        if count > _MAX_WINDOWS:
            raise FormatError("the index is damaged: a reference has more windows than fit the longest one")
        self._position += 2 * count
        return count, position

    def _assemble(
        self,
        shape: Int64Array,
        bin_counts: Int64Array,
        positions: UInt32Array,
        reference_windows: Int64Array,
        windows: UInt64Array,
        names: bytes | bytearray,
    ) -> Index:
        words = self._array
        references = np.repeat(np.arange(len(bin_counts), dtype=np.uint32), bin_counts)
        bins = words[positions]
        # Sorted by reference and bin; the file's order is close to it, which the stable sort uses.
        follows = (references[1:] > references[:-1]) | (bins[1:] > bins[:-1])
        if not follows.all():
            order = np.argsort(references.astype(np.uint64) << np.uint64(32) | bins, kind="stable").astype(np.uint32)
            positions, references, bins = positions[order], references[order], bins[order]
            del order
        del follows
        chunk_counts = words[positions + (self._head - 1)].astype(np.int64)

        limit = first_bin(self._depth + 1)
        pseudo = np.flatnonzero((bins == limit + 1) & (chunk_counts >= 2))
        statistics = self._statistics(len(bin_counts), references[pseudo], positions[pseudo])
        real = np.flatnonzero(bins < limit)
        positions, references, bins, chunk_counts = positions[real], references[real], bins[real], chunk_counts[real]

        bin_chunks = np.append(0, np.cumsum(chunk_counts))
        begins, ends = self._chunks(positions, bin_chunks, chunk_counts)
        last = max(ends.max(initial=0), statistics[:, 2].max(initial=0))
        if self._is_csi:
            loffsets = self._pairs[positions + 1]
        else:
            loffsets = imply_loffsets(self._depth, bins, references, reference_windows, windows)
        return Index(
            shape=shape,
            reference_bins=np.searchsorted(references, np.arange(len(bin_counts) + 1)).astype(np.int64),
            bins=bins.astype(np.uint32),
            bin_chunks=bin_chunks,
            loffsets=loffsets,
            chunk_begins=begins,
            chunk_ends=ends,
            extent=np.array([begins.min() if len(begins) else 0, last], dtype=np.uint64),
            reference_windows=reference_windows,
            windows=windows,
            statistics=statistics,
            names=np.frombuffer(names, np.uint8),
        )

    def _statistics(self, reference_count: int, references: UInt32Array, positions: UInt32Array) -> UInt64Array:
        """What the pseudo-bins at these positions state of these references."""
        statistics = np.zeros((reference_count, 5), dtype=np.uint64)
        statistics[references, 0] = 1
        for column in range(4):
            statistics[references, 1 + column] = self._pairs[positions + (self._head + 2 * column)]
        return statistics

    def _chunks(
        self, positions: UInt32Array, bin_chunks: Int64Array, chunk_counts: Int64Array
    ) -> tuple[UInt64Array, UInt64Array]:
        """Where the chunks of the bins at these positions begin and end."""
        chunk_positions = np.repeat(positions + self._head - 4 * bin_chunks[:-1], chunk_counts)
        chunk_positions += np.arange(0, 4 * len(chunk_positions), 4)
        begins = self._pairs[chunk_positions]
        chunk_positions += 2
        ends = self._pairs[chunk_positions]
        if (begins > ends).any():
            raise FormatError("the index is damaged: a chunk ends before it begins")
        return begins, ends
