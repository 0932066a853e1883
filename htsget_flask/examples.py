"""URLs to try on a running server, made from what it serves."""

from collections.abc import Iterator
from urllib.parse import quote, urlencode

from htsget_flask.catalog import DataFile, Source
from htsget_flask.errors import FileFaultError, ServiceError
from htsget_flask.formats import ENDPOINTS
from htsget_flask.formats.binning import first_bin
from htsget_flask.htsget.opened import OpenFile
from htsget_flask.web import Services

_WINDOW = 20_000
# A folder may hold very many files; a look at the first ones has to do.
_LOOKED_AT = 200


def example_urls(services: Services, base: str) -> Iterator[str]:
    """For each endpoint the service's description and a ticket, for a region where there are records if possible."""
    for endpoint in ENDPOINTS:
        source = next((source for source in _first(services) if source.form.endpoint == endpoint), None)
        if source is not None:
            region = _region(source, services)
            query = f"?{urlencode(region)}" if region else ""
            yield f"{base}{endpoint}/{quote(source.id)}{query}"
            yield f"{base}{endpoint}/service-info"


def _first(services: Services) -> Iterator[Source]:
    for _, source in zip(range(_LOOKED_AT), services.catalog.sources(), strict=False):
        yield source


def _region(source: Source, services: Services) -> dict[str, str | int]:
    try:
        file = DataFile(source, source.storage.stat(source.key))
        with OpenFile(file, services.cache, services.sidecars) as opened:
            return next(_regions(opened), {})
    except (ServiceError, FileFaultError, OSError):
        return {}


def _regions(file: OpenFile) -> Iterator[dict[str, str | int]]:
    """Regions at the start of the records of each reference that has any."""
    if file.is_cram:
        crai = file.crai()
        for name, reference_id in file.references.items():
            found = crai.starts[crai.references == reference_id]
            if len(found):
                yield _window(name, int(found[0]))
        return
    index = file.index()
    min_shift, depth = int(index.shape[0]), int(index.shape[1])
    for name, reference_id in file.references.items():
        if reference_id is not None and reference_id < index.reference_count:
            bins = index.bins[index.reference_bins[reference_id] : index.reference_bins[reference_id + 1]]
            leaves = bins[bins >= first_bin(depth)]
            if len(leaves):
                yield _window(name, (int(leaves[0]) - first_bin(depth)) << min_shift)


def _window(name: str, start: int) -> dict[str, str | int]:
    return {"referenceName": name, "start": start, "end": start + _WINDOW}
