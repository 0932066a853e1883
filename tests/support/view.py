"""What samtools and bcftools print of files and regions: those in pysam, which have its htslib."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pysam
import pysam.bcftools
import pysam.samtools

from tests.support.client import UNPLACED, Region
from tests.support.files.bgzf import BGZF_EOF
from tests.support.files.indexes import index_of


def view(path: Path, format_name: str, region: Region | None = None, *, reference: Path | None = None) -> list[str]:
    """The records that `samtools view` or `bcftools view -r` prints of a file or of a region of it, as lines.

    Regions without a position have no records: the programs cannot name them. `reference`: a FASTA file for CRAM.
    """
    if region is not None and region[2] is not None and (region[1] or 0) >= region[2]:
        return []
    verbosity = pysam.set_verbosity(0)
    try:
        if format_name in ("BAM", "CRAM"):
            fasta = ["-T", str(reference)] if reference else []
            printed = pysam.samtools.view(*fasta, str(path), *([] if region is None else [_text(region)]))
        else:
            regions = [] if region is None else ["-r", _text(region)]
            printed = pysam.bcftools.view("-H", "--no-version", *regions, str(path))
    finally:
        pysam.set_verbosity(verbosity)
    assert isinstance(printed, str)
    # Not splitlines: it splits at other characters too, which SAM and VCF may contain.
    return printed.removesuffix("\n").split("\n") if printed else []


def _text(region: Region) -> str:
    """A region in the programs' notation; braces around names, which may have colons."""
    name, start, end = region
    if name == UNPLACED:
        return name
    return f"{{{name}}}:{(start or 0) + 1}-{'' if end is None else end}"


def view_all(path: Path, format_name: str, regions: Sequence[Region], *, reference: Path | None = None) -> list[str]:
    """The records of several regions: each once, in the order of the file.

    Equal lines overlap equal regions, so the text of a line decides.
    """
    found = {line for region in regions for line in view(path, format_name, region, reference=reference)}
    whole = _whole(path, format_name, reference, path.stat().st_mtime_ns)
    return [line for line in whole if line in found]


@lru_cache(maxsize=4)
def _whole(path: Path, format_name: str, reference: Path | None, _time: int) -> list[str]:
    return view(path, format_name, reference=reference)


def complete(path: Path, folder: Path) -> Path:
    """The file itself, or a copy with the end-of-file marker: bcftools refuses files without it."""
    if path.suffix in (".bam", ".cram") or path.read_bytes().endswith(BGZF_EOF):
        return path
    index = index_of(path)
    assert index is not None
    copy = folder / path.name
    copy.write_bytes(path.read_bytes() + BGZF_EOF)
    shutil.copy(index, f"{copy}{index.suffix}")
    return copy
