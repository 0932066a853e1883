"""`htsget-flask check --as`: the bearer of a token, and what the token opens of a dataset."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from htsget_flask.auth.caller import Caller
from htsget_flask.auth.decision import ENDPOINTS, Decision, Grant, decide
from htsget_flask.auth.factory import make_authenticator, make_authorizer
from htsget_flask.config import AuthConfig, Config
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import (
    FileFaultError,
    NotFound,
    PermissionDenied,
    ServiceError,
    StorageError,
    UnsupportedFormat,
)
from htsget_flask.fields import FIELDS, FieldSelection
from htsget_flask.formats.table import ENDPOINTS as DATASET_ENDPOINTS
from htsget_flask.htsget.answer import plan_decodable
from htsget_flask.htsget.data_blocks import Records
from htsget_flask.htsget.plan import Terms
from htsget_flask.htsget.query import Query
from htsget_flask.regions import Region, parse_region
from htsget_flask.sequences.fasta_files import abbreviate
from htsget_flask.services import Services, create_services
from htsget_flask.storage import Stat, VersionError

_MAX_REGIONS = 20


def explain_access(
    config: Config, token: str, resource_id: str, region_text: str | None = None, *, echo: Callable[[str], None]
) -> bool:
    """Whether a token, or an empty one, opens a dataset, or a region of it; the reasons are echoed line by line.

    Raises:
        ServiceError, StorageError: as a request would.
        ValueError: when the text is not a region.
        FileFaultError, VersionError: when a CRAM file whose references matter cannot be read.
    """
    auth = config.auth
    if auth is None:
        echo("there is no access control: everything is public")
        return True
    caller = make_authenticator(auth).authenticate(f"Bearer {token}" if token else None)
    echo("anonymous: there is no token" if caller.is_anonymous else f"{caller.subject} of {caller.issuer}")
    for visa in caller.visas:
        echo(f"with a visa for {visa.value} of {visa.issuer} (source: {visa.source})")
    services = create_services(config.model_copy(update={"auth": None}))
    region = None
    if region_text is not None:
        region = _resolve_region(services, auth, caller, resource_id, region_text)
        echo(f"requested: {region} (0-based, half-open)")
    formats = _format_names(services, resource_id)
    is_open = False
    for endpoint, decision in _decide_endpoints(auth, caller, resource_id, region):
        names = formats.get(endpoint, [])
        decisions = {resource_id: decision}
        is_cut = decision.allowed and decision.grant.is_limited and "CRAM" in names
        if is_cut and (fault := _cram_fault(services, resource_id, region, decision.grant)):
            # The first format answers a request without one.
            target = resource_id if names[0] == "CRAM" else f"{resource_id}?format=CRAM"
            decisions[target] = Decision(False, fault)
        for target, target_decision in decisions.items():
            echo(_line(endpoint, target, target_decision))
        is_open = is_open or (decisions[resource_id].allowed and endpoint in (formats or DATASET_ENDPOINTS))
    if not formats and not resource_id.startswith(tuple(f"{name}/" for name in config.files.storages)):
        echo(f"warning: there is no readable dataset {resource_id!r}; the decisions follow from the rules alone")
    return is_open


def _decide_endpoints(
    auth: AuthConfig, caller: Caller, resource_id: str, region: Region | None
) -> Iterator[tuple[str, Decision]]:
    """The decision for each endpoint, as for a request."""
    authorizer, regions, is_empty = make_authorizer(auth), None if region is None else [region], auth.outside == "empty"
    for endpoint in ENDPOINTS:
        yield endpoint, decide(authorizer, caller, endpoint, resource_id, regions, empty_outside=is_empty)


def _resolve_region(services: Services, auth: AuthConfig, caller: Caller, resource_id: str, text: str) -> Region:
    """The region in a text, which may be a name that ends as positions do, such as HLA-A*01:01:01:01.

    It is a name if a grant or the files of the dataset have it. Raises ValueError for a text that is not a region.
    """
    if ":" in text:
        decisions = (decision for _, decision in _decide_endpoints(auth, caller, resource_id, None))
        granted = {region.reference_name for decision in decisions for region in decision.grant.regions or ()}
        if text in granted or text in _reference_names(services, resource_id):
            return Region(text)
    return parse_region(text)


def _reference_names(services: Services, dataset_id: str) -> set[str]:
    """The references in the headers of a dataset's files, those that can be read."""
    names: set[str] = set()
    with suppress(OSError, ServiceError, StorageError):
        for source, stat in services.catalog.files(dataset_id):
            with suppress(FileFaultError, VersionError):
                if isinstance(stat, Stat):
                    with OpenFile(DataFile(source, stat), services.cache, services.sidecars) as file:
                        names.update(file.header.references)
    return names


def _line(endpoint: str, resource_id: str, decision: Decision) -> str:
    regions, selection = decision.grant
    limit = ""
    if regions is not None:
        limit = f", limited to {abbreviate(list(map(str, regions)), _MAX_REGIONS)} (0-based, half-open)"
    if not selection.is_everything:
        limit += f", {_describe(selection)}"
    return f"{'allowed' if decision.allowed else 'denied':7} /{endpoint}/{resource_id}: {decision.reason}{limit}"


def _describe(selection: FieldSelection) -> str:
    fields = "fields " + " ".join(field for field in FIELDS if field in selection.fields)
    if selection.tags is not None:
        tags = f"tags {' '.join(sorted(selection.tags))}" if selection.tags else "no tags"
    else:
        tags = f"all tags but {' '.join(sorted(selection.notags))}" if selection.notags else "all tags"
    return f"{fields}, {tags}"


def _format_names(services: Services, dataset_id: str) -> dict[str, list[str]]:
    """The formats of a dataset by endpoint; empty if there is no such dataset, or it cannot be read."""
    formats: dict[str, list[str]] = {}
    with suppress(OSError, ServiceError, StorageError):
        for source, _ in services.catalog.files(dataset_id):
            formats.setdefault(source.format.endpoint, []).append(source.format.name)
    return formats


def _cram_fault(services: Services, dataset_id: str, region: Region | None, grant: Grant) -> str | None:
    """Why the CRAM file of a dataset cannot be limited to what is granted; None if it can."""
    services.sequences.scan()
    query = Query("CRAM", header_only=False, regions=None if region is None else (region,))
    with (
        suppress(NotFound, UnsupportedFormat),
        OpenFile(services.catalog.locate("reads", dataset_id, "CRAM"), services.cache, services.sidecars) as file,
    ):
        try:
            plan_decodable(
                query, file, Terms(grant=grant, records=Records(None, None, grant.selection)), services.bases
            )
        except PermissionDenied as error:
            return error.message
    return None
