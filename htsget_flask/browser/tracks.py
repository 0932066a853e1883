"""One dataset as the page shows it: its files as igv.js tracks, its reference, and reasons for what is missing."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from htsget_flask.auth.access import Access
from htsget_flask.auth.decision import WHOLE
from htsget_flask.browser.files import DatasetFile, read_files
from htsget_flask.browser.genomes import configured_reference, file_url, find_reference, sizes_reference
from htsget_flask.config import DatasetConfig, GenomeConfig, TrackConfig
from htsget_flask.errors import NotFound
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.regions import Region, RegionSet
from htsget_flask.services import Services
from htsget_flask.storage import is_hidden

# In bases: by default igv.js requests the variants of a whole reference in one ticket.
_VARIANT_WINDOW = 100_000
# In pixels: igv.js's default is too low for genotypes.
_VARIANT_HEIGHT = 150
_TOOLS = {"reads": "samtools", "variants": "bcftools"}
_NO_SEQUENCE = (
    "This dataset has no reference sequence here, so mismatches are not shown. To add one, configure a genome or put "
    "an indexed FASTA file that you may read into the data's folder."
)
_NO_LENGTHS = "igv.js needs a reference, and the files' headers contain no lengths: configure a genome."
_TOO_MANY_REGIONS = "The regions that this token opens are too many to be marked."
# More make the page slow.
_MAX_FEATURES = 20_000
# The largest position in igv.js's own indexes, for a reference of unknown length.
_FAR = (1 << 31) - 1
_GRANTED = {"name": "granted", "color": "#2e7d32"}
_NOT_GRANTED = {"name": "not granted", "color": "#757575"}
_TRACK = {"type": "annotation", "displayMode": "EXPANDED", "height": 45, "visibilityWindow": -1, "searchable": False}


def describe(services: Services, base: str, dataset_id: str, access: Access) -> dict[str, Any]:
    """All that the page needs to show a dataset, as JSON; `base` is the URL of this service.

    Raises:
        NotFound: if there is no such dataset, or the caller may not see it.
        InvalidAuthentication: if it takes a token.
    """
    granted = access.require_dataset(ENDPOINTS, dataset_id)
    entry = services.catalog.entry_of(dataset_id)
    files = read_files(services, dataset_id, granted)
    if not files or entry is None:
        raise NotFound(f"there is no dataset {dataset_id[:200]!r}")
    lengths = _all_lengths(files)
    served = list(dict.fromkeys(file.source.format.endpoint for file in files))
    genome, sources = entry.genome, [file.source for file in files]
    reference = configured_reference(genome, base, access) if isinstance(genome, GenomeConfig) else genome
    reference = reference or find_reference(services, base, sources, lengths, access)
    if reference is None and any(lengths.values()):
        reference = sizes_reference(base, dataset_id, served, access)
    is_sequence = isinstance(reference, str) or (reference is not None and "indexURL" in reference)
    locus = next((_locus(*file.region, lengths) for file in files if file.region is not None), None)
    name = entry.name if isinstance(entry, DatasetConfig) else None
    grant_tracks = _access_tracks({endpoint: granted[endpoint].regions for endpoint in served}, lengths)
    notes = [] if is_sequence else [_NO_SEQUENCE if reference else _NO_LENGTHS]
    if grant_tracks is None:
        notes.append(_TOO_MANY_REGIONS)
    return {
        "id": dataset_id,
        "name": name,
        "description": entry.description,
        "reference": reference,
        "note": " ".join(notes) or None,
        "locus": locus,
        "files": [
            _describe_file(services, base, file, access, name=name or dataset_id, has_sequence=is_sequence)
            for file in files
        ],
        "access": grant_tracks or [],
        "tracks": [
            _configured_track(track, base, access)
            for track in entry.tracks
            # Its URL is signed: a caller without a grant for this file does not get it by a grant for the dataset.
            if track.storage is None or access.allows_whole("files", f"{track.storage}/{track.key}")
        ],
    }


def sizes(services: Services, dataset_id: str, endpoints: Collection[str]) -> str:
    """Names and lengths of the references in the headers of a dataset's files at some endpoints, as chrom.sizes.

    Raises:
        NotFound: if there is no such dataset.
    """
    files = read_files(services, dataset_id, dict.fromkeys(endpoints, WHOLE), with_index=False)
    return "".join(f"{name}\t{length}\n" for name, length in _all_lengths(files).items() if length is not None)


def _all_lengths(files: list[DatasetFile]) -> dict[str, int | None]:
    """The references of all files; a length that one file lacks comes from another."""
    merged: dict[str, int | None] = {}
    for file in files:
        for name, length in file.lengths.items():
            merged[name] = merged.get(name) or length
    return merged


def _locus(name: str, start: int, end: int, lengths: Mapping[str, int | None]) -> str:
    """A region, 0-based and half-open, as igv.js formats it: 1-based, with its end."""
    length = lengths.get(name)
    return f"{name}:{start + 1}-{end if length is None else min(end, length)}"


def _describe_file(
    services: Services, base: str, file: DatasetFile, access: Access, *, name: str, has_sequence: bool
) -> dict[str, Any]:
    source = file.source
    format_ = source.format
    problem = file.problem or _igv_problem(services, file, has_sequence=has_sequence)
    ticket = f"{base}{format_.endpoint}/{quote(source.id)}"
    ticket_format = file.ticket_format or format_.name
    return {
        "format": format_.name,
        "ticketFormat": ticket_format,
        "endpoint": format_.endpoint,
        "size": file.size,
        "ticket": ticket,
        "tool": _TOOLS[format_.endpoint],
        "problem": problem,
        "isReadable": file.is_readable,
        "isIndexed": file.index_key is not None,
        # Records filtered for a grant are encoded without a reference.
        "needsReference": ticket_format == "CRAM" and not file.is_cut,
        "track": None if problem else {"name": f"{name} {format_.name}", **_track(base, file, ticket, access)},
    }


def _track(base: str, file: DatasetFile, ticket: str, access: Access) -> dict[str, Any]:
    """The igv.js track of a file: over htsget, or a plain CRAM file."""
    source = file.source
    if file.ticket_format is None:
        keys = (source.key, file.index_key or "")
        data, index = (file_url(base, source.storage_name, key, access) for key in keys)
        return {"type": "alignment", "format": "cram", "url": data, "indexURL": index}
    track = {"sourceType": "htsget", "format": file.ticket_format.lower(), "url": ticket}
    if source.format.endpoint == "reads":
        return {"type": "alignment", **track}
    return {"type": "variant", **track, "visibilityWindow": _VARIANT_WINDOW, "height": _VARIANT_HEIGHT}


def _igv_problem(services: Services, file: DatasetFile, *, has_sequence: bool) -> str | None:
    source = file.source
    if file.ticket_format is not None:
        return None
    if source.format.name == "BCF":
        is_converted = services.config.htsget.convert
        return "igv.js reads the VCF file instead." if is_converted else "igv.js reads variants as VCF only."
    problem = None if has_sequence else "igv.js decodes CRAM with its reference sequence: configure a genome."
    if file.is_cut:
        problem = "This token opens parts of the records only, and igv.js reads CRAM only as a whole file."
    elif source.storage_name not in services.config.files.storages or is_hidden(source.key):
        problem = "igv.js reads CRAM as a plain file only, and this server does not serve it under /files."
    if problem is None or file.obstacle is None:
        return problem
    return f"{problem} It cannot be converted to BAM: {file.obstacle}."


def _configured_track(track: TrackConfig, base: str, access: Access) -> dict[str, Any]:
    """A configured track for igv.js: a storage and keys become URLs."""
    locations = {"url": track.url or track.key, "indexURL": track.index}
    urls = {
        name: location if track.storage is None else file_url(base, track.storage, location, access)
        for name, location in locations.items()
        if location is not None
    }
    return {**(track.model_extra or {}), **urls}


def _access_tracks(
    granted: Mapping[str, RegionSet | None], lengths: Mapping[str, int | None]
) -> list[dict[str, Any]] | None:
    """A track for each endpoint with a limited grant, or one for all if they are equal; None for too many regions.

    `lengths`: of the references of the dataset's files, in bases.
    """
    limited = {endpoint: regions for endpoint, regions in granted.items() if regions is not None}
    if any(2 * len(regions) + len(lengths) > _MAX_FEATURES for regions in limited.values()):
        return None
    features = {f"Access to {endpoint}": list(_features(regions, lengths)) for endpoint, regions in limited.items()}
    distinct = [*features.values()]
    if distinct and distinct == [distinct[0]] * len(granted):
        features = {"Access": distinct[0]}
    return [{**_TRACK, "name": name, "features": regions} for name, regions in features.items()]


def _features(regions: RegionSet, lengths: Mapping[str, int | None]) -> Iterator[dict[str, Any]]:
    """Each reference, divided into granted and other parts."""
    for name, length in (lengths or dict.fromkeys(region.reference_name for region in regions)).items():
        end = _FAR if length is None else length
        position = 0
        for part in regions.restrict([Region(name, 0, end)]):
            if position < part.start:
                yield {"chr": name, "start": position, "end": part.start, **_NOT_GRANTED}
            position = end if part.end is None else part.end
            yield {"chr": name, "start": part.start, "end": position, **_GRANTED}
        if position < end:
            yield {"chr": name, "start": position, "end": end, **_NOT_GRANTED}
