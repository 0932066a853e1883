"""htslib's own index queries through ctypes, as the oracle for the server's; the library is that of pysam."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType

import pysam

_NO_COORDINATE = -2
_SILENT_FAIL = 2


class _Chunk(ctypes.Structure):
    """`hts_pair64_max_t`."""

    _fields_ = (("u", ctypes.c_uint64), ("v", ctypes.c_uint64), ("max", ctypes.c_uint64))


class _Iterator(ctypes.Structure):
    """The leading fields of `hts_itr_t` in htslib 1.24."""

    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("tid", ctypes.c_int),
        ("n_off", ctypes.c_int),
        ("i", ctypes.c_int),
        ("n_reg", ctypes.c_int),
        ("beg", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("reg_list", ctypes.c_void_p),
        ("curr_tid", ctypes.c_int),
        ("curr_reg", ctypes.c_int),
        ("curr_intv", ctypes.c_int),
        ("curr_beg", ctypes.c_int64),
        ("curr_end", ctypes.c_int64),
        ("curr_off", ctypes.c_uint64),
        ("nocoor_off", ctypes.c_uint64),
        ("off", ctypes.POINTER(_Chunk)),
    )


def _library() -> ctypes.CDLL:
    """pysam's htslib, with declarations of the functions used here."""
    library = ctypes.CDLL(pysam.libchtslib.__file__)  # type: ignore[attr-defined]
    index = ctypes.c_void_p
    iterator = ctypes.POINTER(_Iterator)
    library.hts_idx_load3.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
    library.hts_idx_load3.restype = index
    library.hts_idx_destroy.argtypes = (index,)
    library.hts_idx_destroy.restype = None
    library.hts_idx_fmt.argtypes = (index,)
    library.hts_idx_fmt.restype = ctypes.c_int
    library.hts_idx_nseq.argtypes = (index,)
    library.hts_idx_nseq.restype = ctypes.c_int
    library.hts_idx_get_n_no_coor.argtypes = (index,)
    library.hts_idx_get_n_no_coor.restype = ctypes.c_uint64
    library.hts_idx_get_stat.argtypes = (
        index,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_uint64),
        ctypes.POINTER(ctypes.c_uint64),
    )
    library.hts_idx_get_stat.restype = ctypes.c_int
    library.hts_idx_get_meta.argtypes = (index, ctypes.POINTER(ctypes.c_uint32))
    library.hts_idx_get_meta.restype = ctypes.c_void_p
    library.hts_itr_query.argtypes = (index, ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    library.hts_itr_query.restype = iterator
    library.hts_itr_destroy.argtypes = (iterator,)
    library.hts_itr_destroy.restype = None
    return library


_LIBRARY = _library()
_FORMATS = {0: "CSI", 1: "BAI", 2: "TBI"}


class HtslibIndex:
    """A BAI, CSI or TBI index that htslib loaded; a context manager."""

    def __init__(self, path_of_data: Path, path_of_index: Path) -> None:
        self._index: int | None = _LIBRARY.hts_idx_load3(
            os.fsencode(path_of_data), os.fsencode(path_of_index), 0, _SILENT_FAIL
        )
        if self._index is None:
            raise OSError(f"htslib cannot load {path_of_index}")

    def __enter__(self) -> HtslibIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_index"):
            self.close()

    def close(self) -> None:
        """Free the index; further calls have no effect."""
        if self._index is not None:
            _LIBRARY.hts_idx_destroy(self._index)
            self._index = None

    @property
    def _open_index(self) -> int:
        """The pointer to the index."""
        if self._index is None:
            raise ValueError("the index is closed")
        return self._index

    @property
    def format(self) -> str:
        """BAI, CSI or TBI."""
        return _FORMATS[_LIBRARY.hts_idx_fmt(self._open_index)]

    @property
    def n_refs(self) -> int:
        """The number of references in the index."""
        return int(_LIBRARY.hts_idx_nseq(self._open_index))

    @property
    def n_no_coordinate(self) -> int:
        """The number of unplaced records according to the index."""
        return int(_LIBRARY.hts_idx_get_n_no_coor(self._open_index))

    def counts(self, reference_id: int) -> tuple[int, int] | None:
        """The numbers of mapped and unmapped records on a reference, or None if the index does not contain them."""
        if not 0 <= reference_id < self.n_refs:
            raise ValueError(f"the index has no reference {reference_id}")
        mapped, unmapped = ctypes.c_uint64(), ctypes.c_uint64()
        status = _LIBRARY.hts_idx_get_stat(self._open_index, reference_id, ctypes.byref(mapped), ctypes.byref(unmapped))
        return (mapped.value, unmapped.value) if status == 0 else None

    def names(self) -> list[str]:
        """The names of the references in the order of their ids; empty unless tabix built the index."""
        size = ctypes.c_uint32()
        pointer = _LIBRARY.hts_idx_get_meta(self._open_index, ctypes.byref(size))
        meta = ctypes.string_at(pointer, size.value) if pointer else b""
        if len(meta) < 28:
            return []
        (length,) = struct.unpack_from("<i", meta, 24)
        return [name.decode() for name in meta[28 : 28 + length].split(b"\0")[:-1]]

    def chunks(self, reference_id: int, start: int, end: int) -> list[tuple[int, int]]:
        """The chunks, as pairs of virtual offsets, in which htslib would search for the records of a region."""
        if reference_id < 0:
            raise ValueError(f"{reference_id} is not a reference")
        iterator = _LIBRARY.hts_itr_query(self._open_index, reference_id, start, end, None)
        if not iterator:
            raise ValueError(f"htslib refuses the region {reference_id}:{start}-{end}")
        try:
            content = iterator.contents
            return [(content.off[number].u, content.off[number].v) for number in range(content.n_off)]
        finally:
            _LIBRARY.hts_itr_destroy(iterator)

    def no_coordinate_offset(self) -> int | None:
        """The virtual offset from which htslib would read the unplaced records.

        None: the index has no records at all. 0: all records are unplaced, and htslib reads from the first record after
        the header.
        """
        iterator = _LIBRARY.hts_itr_query(self._open_index, _NO_COORDINATE, 0, 0, None)
        if not iterator:
            return None
        try:
            return int(iterator.contents.curr_off)
        finally:
            _LIBRARY.hts_itr_destroy(iterator)
