"""The reference genome of a dataset, as an igv.js reference object."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from htsget_flask.auth.access import Access
from htsget_flask.auth.signed_urls import file_parts, sizes_parts
from htsget_flask.config import GenomeConfig
from htsget_flask.datasets.source import Source
from htsget_flask.errors import FileFaultError, FormatError, NotFound, ServiceUnavailable
from htsget_flask.formats.fasta import COMPRESSED, read_lengths
from htsget_flask.services import Services
from htsget_flask.storage import VersionError
from htsget_flask.web.errors import log_fault

_NAME_COST = 150

Reference = dict[str, Any]  # of igv.js


def file_url(base: str, storage_name: str, key: str, access: Access) -> str:
    """The URL of a plain file of a served storage, signed if there is access control."""
    return f"{base}files/{quote(storage_name)}/{quote(key)}{access.signature_query(*file_parts(storage_name, key))}"


def configured_reference(genome: GenomeConfig, base: str, access: Access) -> Reference:
    """The reference that the configuration names."""
    fasta, storage = genome.fasta, genome.storage
    keys = (fasta, genome.index or fasta + ".fai", fasta + ".gzi")
    urls = keys if storage is None else [file_url(base, storage, key, access) for key in keys]
    return _reference(genome.name or fasta.rpartition("/")[2], *urls)


def sizes_reference(base: str, dataset_id: str, endpoints: Sequence[str], access: Access) -> Reference:
    """A reference without a sequence: the lengths in the headers of the dataset's files at these endpoints."""
    # The signature extends a query.
    signature = access.signature_query(*sizes_parts(dataset_id, endpoints)).replace("?", "&", 1)
    url = f"{base}page/sizes?{urlencode({'id': dataset_id, 'endpoint': endpoints}, doseq=True)}{signature}"
    return {"id": dataset_id, "name": dataset_id, "format": "chromsizes", "fastaURL": url, "wholeGenomeView": False}


def find_reference(
    services: Services, base: str, sources: Iterable[Source], lengths: Mapping[str, int | None], access: Access
) -> Reference | None:
    """The FASTA in the folder of a data file, or in one above it, that contains all references of the files' headers.

    `lengths`: of these references, in bases; the FASTA's must be equal, as names alone would take GRCh37 for GRCh38.
    The nearest folder wins, then the first name. None if no FASTA fits that the caller may see, or if the storages'
    files are not served.
    """
    for storage_name, key in ((source.storage_name, source.key) for source in sources):
        if storage_name not in services.config.files.storages or not lengths:
            continue
        fastas = services.inventory.fastas(storage_name)
        above = [fasta for fasta in fastas if key.startswith(fasta[: fasta.rfind("/") + 1])]
        for fasta in sorted(above, key=lambda fasta: (-fasta.count("/"), fasta)):
            known = _fasta_lengths(services, storage_name, fasta + ".fai")
            is_fit = all(name in known and length in (None, known[name]) for name, length in lengths.items())
            # The URL is signed: a grant for the dataset must not open a FASTA that no rule opens.
            if is_fit and access.allows_whole("files", f"{storage_name}/{fasta}"):
                urls = (file_url(base, storage_name, fasta + suffix, access) for suffix in ("", ".fai", ".gzi"))
                return _reference(fasta.rpartition("/")[2], *urls)
    return None


def _reference(name: str, fasta: str, index: str, gzi: str) -> Reference:
    compressed = {"compressedIndexURL": gzi} if fasta.partition("?")[0].endswith(COMPRESSED) else {}
    return {"id": name, "name": name, "fastaURL": fasta, "indexURL": index, **compressed, "wholeGenomeView": False}


def _fasta_lengths(services: Services, storage_name: str, key: str) -> dict[str, int]:
    """The lengths of the sequences in a .fai; empty if it is absent, unreadable, too large or malformed."""
    storage = services.storages[storage_name]

    def read() -> dict[str, int]:
        try:
            with storage.open(key, etag=stat.etag) as file:
                return read_lengths(file, stat.size)
        except FormatError as error:
            log_fault(FileFaultError(str(error), location=storage.location(key)))
            return {}

    try:
        stat = storage.stat(key)
        cache_key = ("fai", storage_name, key, stat.etag)
        return services.cache.fetch(cache_key, read, lambda lengths: _NAME_COST * (1 + len(lengths)))
    except NotFound:
        return {}
    except OSError as error:
        log_fault(FileFaultError(f"it cannot be read: {error.strerror}", location=storage.location(key)))
        return {}
    except VersionError:
        raise ServiceUnavailable(f"{key!r} is being replaced; try again") from None
