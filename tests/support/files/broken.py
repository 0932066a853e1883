"""Files and indexes that are damaged, or that have no index."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from tests.support.files.bam import some_bam_data
from tests.support.files.bgzf import BGZF_EOF, MAX_BLOCK_DATA, bgzf_block, cut, write_bgzf
from tests.support.files.cram import write_some_cram
from tests.support.files.indexes import index_of, make_index
from tests.support.files.vcf import bcf_data, vcf_data


def bam_eof_inside(folder: Path) -> Path:
    """The end marker also in mid-file, as in files made by concatenation: legal, but no marker of the end."""
    path = folder / "eof_inside.bam"
    blocks = [bgzf_block(part) for part in cut(some_bam_data("bam_eof_inside", count=5_000), 20_000)]
    half = len(blocks) // 2
    path.write_bytes(b"".join([*blocks[:half], BGZF_EOF, *blocks[half:], BGZF_EOF]))
    make_index(path)
    return path


def bam_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = folder / "without_index.bam"
    write_bgzf(path, cut(some_bam_data("bam_without_index", count=1_000), MAX_BLOCK_DATA))
    return path


def cram_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = write_some_cram(folder / "without_index.cram", 1_000, "version=3.0")
    Path(f"{path}.crai").unlink()
    return path


def vcf_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = folder / "without_index.vcf.gz"
    write_bgzf(path, cut(vcf_data("vcf_without_index", count=500), MAX_BLOCK_DATA))
    return path


def bcf_without_index(folder: Path) -> Path:
    """A sound file without an index."""
    path = folder / "without_index.bcf"
    write_bgzf(path, cut(bcf_data(folder, vcf_data("bcf_without_index", count=500)), MAX_BLOCK_DATA))
    return path


def _misfit_vcf(path: Path, pack: Callable[[bytes], bytes]) -> Path:
    """VCF data packed in some other way than BGZF, next to the index that it would have as BGZF."""
    data = vcf_data(path.name, count=1_000)
    write_bgzf(path, cut(data, MAX_BLOCK_DATA))
    index = make_index(path)
    path.write_bytes(pack(data))
    os.utime(index)
    return path


def plain_gzip_vcf(folder: Path) -> Path:
    """Compressed by gzip instead of bgzip, with an index."""
    return _misfit_vcf(folder / "plain_gzip.vcf.gz", lambda data: gzip.compress(data, mtime=0))


def uncompressed_vcf(folder: Path) -> Path:
    """Text under the name of a compressed file, with an index."""
    return _misfit_vcf(folder / "uncompressed.vcf.gz", lambda data: data)


def _copy_index(path: Path, new_path: Path) -> Path:
    """Copy the index of one file next to another."""
    index = index_of(path)
    if index is None:
        raise ValueError(f"{path} has no index")
    new_index = Path(f"{new_path}{index.suffix}")
    shutil.copyfile(index, new_index)
    return new_index


def truncated(path: Path, new_path: Path) -> Path:
    """A copy of a file and its index, the data cut in the middle of a BGZF block or CRAM container."""
    whole = path.read_bytes()
    length = len(whole) * 2 // 3
    if path.suffix != ".cram":
        begin = 0
        while (end := begin + struct.unpack_from("<H", whole, begin + 16)[0] + 1) <= length:
            begin = end
        length = (begin + end) // 2
    new_path.write_bytes(whole[:length])
    if index_of(path):
        _copy_index(path, new_path)
    return new_path


def truncated_index(path: Path, new_path: Path) -> Path:
    """A copy of a file and the first half of its index."""
    shutil.copyfile(path, new_path)
    index = _copy_index(path, new_path)
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    return new_path


def foreign_index(path: Path, other: Path, new_path: Path) -> Path:
    """A copy of a file next to the index of another one."""
    shutil.copyfile(path, new_path)
    _copy_index(other, new_path)
    return new_path


def empty_index(path: Path, new_path: Path) -> Path:
    """A copy of a file next to an empty index."""
    shutil.copyfile(path, new_path)
    _copy_index(path, new_path).write_bytes(b"")
    return new_path
