"""Indexes of files, built by htslib."""

from __future__ import annotations

from pathlib import Path

import pysam


def index_of(path: Path) -> Path | None:
    """The index next to a data file, None without one."""
    for suffix in (".csi", ".bai", ".tbi", ".crai"):
        index = Path(f"{path}{suffix}")
        if index.exists():
            return index
    return None


def make_index(path: Path, csi: bool = False) -> Path:
    """Write the index next to a file: BAI or TBI, or CSI with `csi`; CRAI for CRAM and always CSI for BCF."""
    if path.suffix == ".bam":
        if csi:
            pysam.index("-c", str(path))
        else:
            pysam.index(str(path))
    elif path.suffix == ".cram":
        pysam.index(str(path))
    elif path.suffix == ".bcf":
        pysam.tabix_index(str(path), preset="bcf", force=True)  # type: ignore[arg-type]
    else:
        pysam.tabix_index(str(path), preset="vcf", force=True, csi=csi)
    index = index_of(path)
    if index is None:
        raise AssertionError(f"no index was made for {path}")
    return index
