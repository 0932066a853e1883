"""Regions of a file in which there are records."""

from collections.abc import Iterator
from itertools import islice

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.formats.binning import first_bin
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.index import Index

_WINDOW = 20_000
_MAX_REFERENCES = 10_000


def example_regions(file: OpenFile, index: Index | Crai) -> Iterator[tuple[str, int, int]]:
    """For each reference that has records a region with the first ones: name, start, end; 0-based, half-open."""
    for name, reference_id in islice(file.references.items(), _MAX_REFERENCES):
        start = None if reference_id is None else _first_position(index, reference_id)
        if start is not None:
            yield name, start, start + _WINDOW


def _first_position(index: Index | Crai, reference_id: int) -> int | None:
    if isinstance(index, Crai):
        starts = index.starts[index.references == reference_id]
        return int(starts.min()) if len(starts) else None
    if reference_id >= index.reference_count:
        return None
    min_shift, depth = int(index.shape[0]), int(index.shape[1])
    bins = index.bins[index.reference_bins[reference_id] : index.reference_bins[reference_id + 1]]
    leaves = bins[bins >= first_bin(depth)]
    if len(leaves):
        return (int(leaves[0]) - first_bin(depth)) << min_shift
    return 0 if len(bins) else None
