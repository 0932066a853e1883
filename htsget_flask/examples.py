"""What to try on a server: regions of a file in which there are records, and URLs made of them."""

import contextlib
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote, urlencode

from htsget_flask.catalog import DataFile, Source
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.formats import ENDPOINTS
from htsget_flask.formats.binning import first_bin
from htsget_flask.formats.crai import Crai
from htsget_flask.formats.index import Index
from htsget_flask.htsget.opened import OpenFile
from htsget_flask.refget.views import library
from htsget_flask.web import Services

_WINDOW = 20_000
_LETTERS = 60
# A folder may hold very many files; a look at the first ones has to do.
_LOOKED_AT = 200
_MOST_REFERENCES = 10_000


def example_urls(services: Services, base: str) -> Iterator[str]:
    """For each endpoint the service's description and a ticket, for a region where there are records if possible.

    Then, where files are listed, a listing, and the first letters of a reference sequence.
    """
    sources: list[Source] = []
    with contextlib.suppress(OSError, StorageError):
        sources += islice(services.catalog.sources(), _LOOKED_AT)
    for endpoint in ENDPOINTS:
        for source in sources:
            query = _query(source, services) if source.form.endpoint == endpoint else None
            if query is not None:
                yield f"{base}{endpoint}/{quote(source.id)}{query}"
                yield f"{base}{endpoint}/service-info"
                break
    files = services.config.files
    if files.listing:
        yield from (f"{base}files/{quote(name)}/" for name in files.storages[:1])
    sequence = library(services).example()
    if sequence is not None:
        yield f"{base}sequence/{sequence}?start=0&end={_LETTERS}"


def _query(source: Source, services: Services) -> str | None:
    """The query for a region of a file, or an empty one where the file is served whole only; None: not at all."""
    try:
        file = DataFile(source, source.storage.stat(source.key))
        with OpenFile(file, services.cache, services.sidecars) as opened:
            opened.tail  # noqa: B018 - a file that is cut short is no example
            with contextlib.suppress(FileFaultError):
                regions = example_regions(opened, opened.crai if opened.is_cram else opened.index)
                for name, start, end in regions:
                    return "?" + urlencode({"referenceName": name, "start": start, "end": end})
            return ""
    except (ServiceError, FileFaultError, StorageError, OSError):
        return None


def example_regions(file: OpenFile, index: Index | Crai) -> Iterator[tuple[str, int, int]]:
    """For each reference that has records a region with the first ones: name, start, end; 0-based, half-open."""
    for name, reference_id in islice(file.references.items(), _MOST_REFERENCES):
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
