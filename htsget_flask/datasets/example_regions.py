"""Regions of a file in which there are records."""

from collections.abc import Iterator
from itertools import islice

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.formats.cram.crai import Crai
from htsget_flask.formats.index import Index

_WINDOW = 20_000
_MAX_REFERENCES = 10_000


def example_regions(file: OpenFile, index: Index | Crai) -> Iterator[tuple[str, int, int]]:
    """For each reference that has records a region with the first ones: name, start, end; 0-based, half-open."""
    for name, reference in islice(file.references.items(), _MAX_REFERENCES):
        start = None if reference.id is None else index.first_position(reference.id)
        if start is not None:
            yield name, start, start + _WINDOW
