"""URLs to try on a server."""

import contextlib
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote, urlencode

from htsget_flask.datasets.example_regions import example_regions
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.services import Services

_LETTERS = 60
# A folder may hold very many files; a look at the first ones has to do.
_LOOKED_AT = 200


def example_urls(services: Services, base: str) -> Iterator[str]:
    """For each endpoint the service's description and a ticket, for a region where there are records if possible.

    Then, where files are listed, a listing, and the first letters of a reference sequence.
    """
    sources: list[Source] = []
    with contextlib.suppress(OSError, StorageError):
        sources += islice(services.catalog.sources(), _LOOKED_AT)
    for endpoint in ENDPOINTS:
        for source in sources:
            query = _query(source, services) if source.format.endpoint == endpoint else None
            if query is not None:
                yield f"{base}{endpoint}/{quote(source.id)}{query}"
                yield f"{base}{endpoint}/service-info"
                break
    files = services.config.files
    if files.listing:
        yield from (f"{base}files/{quote(name)}/" for name in files.storages[:1])
    sequence = services.sequences.example()
    if sequence is not None:
        yield f"{base}sequence/{sequence}?start=0&end={_LETTERS}"


def _query(source: Source, services: Services) -> str | None:
    """The query for a region of a file, or an empty one where the file is served whole only; None: not at all."""
    try:
        file = DataFile(source, source.storage.stat(source.key))
        with OpenFile(file, services.cache, services.sidecars) as opened:
            opened.tail  # noqa: B018 - a file that is cut short is no example
            with contextlib.suppress(FileFaultError):
                regions = example_regions(opened, opened.any_index)
                for name, start, end in regions:
                    return "?" + urlencode({"referenceName": name, "start": start, "end": end})
            return ""
    except (ServiceError, FileFaultError, StorageError, OSError):
        return None
