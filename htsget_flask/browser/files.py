"""The files of a dataset as the page needs them: whether they can be read, and in which format by htsget."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from htsget_flask.auth.decision import Grant
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.reference_checks import describe_absence, missing_reference
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import FileFaultError, ServiceUnavailable
from htsget_flask.formats.table import DEFAULT_FORMATS
from htsget_flask.regions import Region, RegionSet
from htsget_flask.services import Services
from htsget_flask.storage import VersionError
from htsget_flask.web.errors import log_fault

# In bases, of the example in a region without an end.
_EXAMPLE_WIDTH = 10_000


@dataclass(slots=True)
class DatasetFile:
    """A file of a dataset; `problem` is the reason why it cannot be shown.

    `ticket_format`: the format in which igv.js reads it by htsget, converted if need be, or None. `obstacle`: why it
    cannot be converted. `is_cut`: whether the caller may see parts of the records only.
    """

    source: Source
    size: int | None
    problem: str | None = None
    lengths: Mapping[str, int | None] = field(default_factory=dict)
    region: tuple[str, int, int] | None = None
    index_key: str | None = None
    is_cut: bool = False
    is_readable: bool = False
    ticket_format: str | None = None
    obstacle: str | None = None


def read_files(
    services: Services, dataset_id: str, granted: Mapping[str, Grant], *, with_index: bool = True
) -> list[DatasetFile]:
    """The files of a dataset at some endpoints, with what their headers and indexes hold.

    `granted`: what the caller may see, by endpoint.

    Raises:
        NotFound: if there is no such dataset.
    """
    found = [(source, stat) for source, stat in services.catalog.files(dataset_id) if source.format.endpoint in granted]
    formats = {source.format.name for source, _ in found}
    files: list[DatasetFile] = []
    for source, stat in found:
        grant = granted[source.format.endpoint]
        file = DatasetFile(
            source, None, is_cut=grant.is_limited, ticket_format=_ticket_format(services, source, formats)
        )
        files.append(file)
        try:
            if isinstance(stat, FileFaultError):
                raise stat
            file.size = stat.size
            with OpenFile(DataFile(source, stat), services.cache, services.sidecars) as opened:
                file.lengths = opened.reference_lengths
                if with_index:
                    _read_index(services, opened, file, grant.regions)
        except FileFaultError as fault:
            log_fault(fault)
            file.problem = f"It cannot be shown: {fault.reason}."
        except VersionError:
            file.problem = "The file is being replaced at this moment; load the page again."
    return files


def _ticket_format(services: Services, source: Source, formats: Collection[str]) -> str | None:
    """The format in which igv.js reads a file by htsget; None if it cannot, as another file has this format."""
    name = DEFAULT_FORMATS[source.format.endpoint]
    is_chosen = source.format.name == name or (services.config.htsget.convert and name not in formats)
    return name if is_chosen else None


def _read_index(services: Services, opened: OpenFile, file: DatasetFile, granted: RegionSet | None) -> None:
    opened.tail  # noqa: B018 - fails for a truncated file
    file.is_readable = True
    opened.any_index  # noqa: B018 - fails without a valid index
    examples = opened.example_regions() if granted is None else _examples(granted, opened.references)
    file.region = next(examples, None)
    file.index_key = opened.index_file.key
    if file.ticket_format is not None and not file.source.format.is_bgzf:
        file.obstacle = _missing_reference(services, opened, granted)
        file.ticket_format = None if file.obstacle else file.ticket_format


def _missing_reference(services: Services, opened: OpenFile, granted: RegionSet | None) -> str | None:
    """Why the granted records of a CRAM file cannot be decoded; None if they can."""
    ids = None
    if granted is not None:
        found = (opened.references.get(region.reference_name) for region in granted)
        ids = {reference.id for reference in found if reference is not None and reference.id is not None}
    try:
        reference = missing_reference(opened, services.bases.has, ids)
    except ServiceUnavailable as error:
        return error.message
    return None if reference is None else describe_absence(reference)


def _examples(granted: RegionSet, names: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """The granted regions of the references that a file has, in the order of the file; without an end, their start."""
    for name in names:
        for _, start, end in granted.restrict([Region(name)]):
            yield name, start, start + _EXAMPLE_WIDTH if end is None else end
