"""Reading BAI (SAMv1 5.2), TBI (Tabix) and CSI (CSIv1) files into an `Index`.

The files are sequences of bins of varying length, 200,000 of them for a human genome: they are decoded a run of equal
bins at a time, not one by one.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from htsget_flask.errors import FormatError
from htsget_flask.formats.binning import BAI_DEPTH, BAI_MIN_SHIFT, first_bin
from htsget_flask.formats.index import Index

_TABIX_HEADER_SIZE = 28
_ABSENT_WINDOW = np.uint64((1 << 64) - 1)
_FIRST_RUN, _LONGEST_RUN = 32, 1 << 16


class _Run(NamedTuple):
    """Consecutive bins in the file that have the same number of chunks."""

    position: int
    length: int
    chunks: int


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
    def __init__(
        self, data: bytes, position: int, min_shift: int, depth: int, *, is_csi: bool, count: int | None = None
    ) -> None:
        self._data = data
        self._position = position
        self._min_shift, self._depth = min_shift, depth
        self._is_csi = is_csi
        self._head = 16 if is_csi else 8
        self._count = self._int32() if count is None else count
        self._runs: list[_Run] = []

    def read(self, names: bytes) -> Index:
        bin_counts = np.zeros(self._checked(self._count, 4), dtype=np.int64)
        windows = []
        for reference_id in range(self._count):
            bin_counts[reference_id] = self._read_bins()
            windows.append(np.empty(0, np.uint64) if self._is_csi else self._read_windows())
        unplaced = self._data[self._position : self._position + 8]
        shape = np.array([self._min_shift, self._depth, int.from_bytes(unplaced, "little")], dtype=np.int64)
        return self._assemble(shape, bin_counts, windows, names)

    def _int32(self) -> int:
        value: int = struct.unpack_from("<i", self._data, self._position)[0]
        self._position += 4
        return value

    def _checked(self, count: int, size: int) -> int:
        """A count of things of at least `size` bytes each, which have to fit the rest of the file."""
        if not 0 <= count * size <= len(self._data) - self._position:
            raise FormatError("the index is truncated or damaged")
        return count

    def _read_bins(self) -> int:
        count = remaining = self._checked(self._int32(), self._head)
        guess = _FIRST_RUN
        while remaining:
            position = self._position
            chunks = struct.unpack_from("<i", self._data, position + self._head - 4)[0]
            stride = self._head + 16 * self._checked(chunks, 16)
            fitting = (len(self._data) - position) // stride
            if not fitting:
                raise FormatError("the index is truncated")
            candidates = np.ndarray(
                min(guess, remaining, fitting), "<i4", self._data, position + self._head - 4, (stride,)
            )
            different = np.flatnonzero(candidates != chunks)
            length = int(different[0]) if len(different) else len(candidates)
            self._runs.append(_Run(position, length, chunks))
            guess = _FIRST_RUN if len(different) else min(2 * guess, _LONGEST_RUN)
            self._position += length * stride
            remaining -= length
        return count

    def _read_windows(self) -> npt.NDArray[np.uint64]:
        count = self._checked(self._int32(), 8)
        windows = np.frombuffer(self._data, "<u8", count, self._position).astype(np.uint64)
        self._position += 8 * count
        # Old writers leave 0, others all ones, for a window in which no record starts: the next one's offset holds.
        present = np.flatnonzero(windows)
        if len(present):
            empty = (windows == 0) | (windows == _ABSENT_WINDOW)
            empty[: present[0]] = False
            following = np.where(empty, len(windows) - 1, np.arange(len(windows)))
            windows = windows[np.minimum.accumulate(following[::-1])[::-1]]
        return windows

    def _assemble(
        self,
        shape: npt.NDArray[np.int64],
        bin_counts: npt.NDArray[np.int64],
        windows: list[npt.NDArray[np.uint64]],
        names: bytes,
    ) -> Index:
        numbers, loffsets, chunk_counts, chunks = self._decode_runs()
        references = np.repeat(np.arange(len(bin_counts), dtype=np.uint64), bin_counts)
        # Sorted by reference and bin; the file's order is close to it, which the stable sort uses.
        order = np.argsort(references << np.uint64(32) | numbers, kind="stable")
        starts = _offsets(chunk_counts)[:-1][order]
        bins, references = numbers[order].astype(np.uint32), references[order]
        loffsets, chunk_counts = loffsets[order], chunk_counts[order]

        statistics = np.zeros((len(bin_counts), 5), dtype=np.uint64)
        limit = first_bin(self._depth + 1)
        for place in np.flatnonzero((bins == limit + 1) & (chunk_counts >= 2)).tolist():
            start = starts[place]
            statistics[int(references[place])] = [1, *chunks[start], *chunks[start + 1]]
        real = bins < limit
        bins, references, loffsets = bins[real], references[real], loffsets[real]
        starts, chunk_counts = starts[real], chunk_counts[real]

        bin_chunks = _offsets(chunk_counts)
        places = np.arange(bin_chunks[-1]) + np.repeat(starts - bin_chunks[:-1], chunk_counts)
        reference_bins = np.searchsorted(references, np.arange(len(bin_counts) + 1, dtype=np.uint64)).astype(np.int64)
        reference_windows = _offsets(np.array([len(part) for part in windows], dtype=np.int64))
        flat_windows = np.concatenate(windows) if windows else np.empty(0, np.uint64)
        if not self._is_csi:
            loffsets = self._loffsets(bins, references, reference_windows, flat_windows)
        begins, ends = np.ascontiguousarray(chunks[places, 0]), np.ascontiguousarray(chunks[places, 1])
        if (begins > ends).any():
            raise FormatError("the index is damaged: a chunk ends before it begins")
        return Index(
            shape=shape,
            reference_bins=reference_bins,
            bins=bins,
            bin_chunks=bin_chunks,
            loffsets=loffsets,
            chunk_begins=begins,
            chunk_ends=ends,
            reference_windows=reference_windows,
            windows=flat_windows,
            statistics=statistics,
            names=np.frombuffer(names, np.uint8),
        )

    def _decode_runs(
        self,
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Bin numbers, loffsets and numbers of chunks, one each per bin, and all chunks, in the file's order."""
        bin_count = sum(run.length for run in self._runs)
        bins = np.empty(bin_count, np.uint64)
        loffsets = np.zeros(bin_count, np.uint64)
        chunk_counts = np.empty(bin_count, np.int64)
        chunks = np.empty((sum(run.length * run.chunks for run in self._runs), 2), np.uint64)
        place = chunk_place = 0
        for position, length, count in self._runs:
            stride = self._head + 16 * count
            following, chunk_following = place + length, chunk_place + length * count
            bins[place:following] = np.ndarray(length, "<u4", self._data, position, (stride,))
            if self._is_csi:
                loffsets[place:following] = np.ndarray(length, "<u8", self._data, position + 4, (stride,))
            chunk_counts[place:following] = count
            if count:
                chunks[chunk_place:chunk_following] = np.ndarray(
                    (length, count, 2), "<u8", self._data, position + self._head, (stride, 16, 8)
                ).reshape(-1, 2)
            place, chunk_place = following, chunk_following
        return bins, loffsets, chunk_counts, chunks

    def _loffsets(
        self,
        bins: npt.NDArray[np.uint32],
        references: npt.NDArray[np.uint64],
        reference_windows: npt.NDArray[np.int64],
        windows: npt.NDArray[np.uint64],
    ) -> npt.NDArray[np.uint64]:
        """What a CSI states and BAI and TBI imply: the linear index at each bin's leftmost window, 0 beyond its end."""
        leftmost = np.zeros(len(bins), dtype=np.int64)
        for level in range(self._depth + 1):
            first, following = first_bin(level), first_bin(level + 1)
            here = (bins >= first) & (bins < following)
            leftmost[here] = (bins[here].astype(np.int64) - first) << 3 * (self._depth - level)
        owners = references.astype(np.int64)
        places = reference_windows[owners] + leftmost
        inside = places < reference_windows[owners + 1]
        loffsets = np.zeros(len(bins), dtype=np.uint64)
        loffsets[inside] = windows[places[inside]]
        return loffsets


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each of consecutive groups of these sizes starts, and where the last one ends."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
