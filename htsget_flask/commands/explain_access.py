"""What `htsget-flask check --as` says: the bearer of a token, and what it opens of a dataset."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from htsget_flask.auth.decision import Decision
from htsget_flask.commands.access_decisions import explain, understood, who
from htsget_flask.commands.check.references import reference_names
from htsget_flask.config import AuthConfig, Config
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import NotFound, PermissionDenied, ServiceError, StorageError, UnsupportedFormat
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.htsget.query import Query
from htsget_flask.htsget.region_grants import plan_records, require_references
from htsget_flask.regions import Region, RegionSet
from htsget_flask.services import Services, create_services

_MAX_REGIONS = 20


def explain_access(
    config: Config,
    auth: AuthConfig,
    token: str,
    resource_id: str,
    region_text: str | None,
    *,
    echo: Callable[[str], None],
) -> bool:
    """Whether a token, or none, opens something of a dataset, or of a region of it; why is echoed line by line.

    Raises:
        ServiceError, StorageError: as a request would.
        ValueError: when the text is not a region.
        FileFaultError, VersionError: when a CRAM file whose references matter cannot be read.
    """
    caller = who(auth, token)
    echo("nobody: there is no token" if caller.is_anonymous else f"{caller.subject} of {caller.issuer}")
    for visa in caller.visas:
        echo(f"with a visa for {visa.value} of {visa.issuer} (source: {visa.source})")
    services = create_services(config.model_copy(update={"auth": None}))
    region = None
    if region_text is not None:
        region = understood(auth, caller, resource_id, region_text, partial(reference_names, services))
        echo(f"asked for {region} (from 0, half-open)")
    formats = _formats(services, resource_id)
    is_open = False
    for endpoint, decision in explain(auth, caller, resource_id, region):
        names = formats.get(endpoint, [])
        verdicts = {resource_id: decision}
        if decision.allowed and decision.regions is not None and "CRAM" in names:
            fault = _cram_fault(services, resource_id, region, decision.regions)
            if fault is not None:
                # A request without a format is answered with the first.
                target = resource_id if names[0] == "CRAM" else f"{resource_id}?format=CRAM"
                verdicts[target] = Decision(False, fault)
        for target, verdict in verdicts.items():
            echo(_line(endpoint, target, verdict))
        is_open = is_open or (verdicts[resource_id].allowed and endpoint in (formats or ENDPOINTS))
    if not formats and not resource_id.startswith(tuple(f"{name}/" for name in config.files.storages)):
        echo(f"warning: there is no dataset {resource_id!r} that can be read; the rules alone decide this")
    return is_open


def _line(endpoint: str, resource_id: str, decision: Decision) -> str:
    limit = ""
    if decision.regions is not None:
        limits = [str(region) for region in decision.regions]
        more = f" and {len(limits) - _MAX_REGIONS} more" if len(limits) > _MAX_REGIONS else ""
        limit = f", limited to {', '.join(limits[:_MAX_REGIONS])}{more} (from 0, half-open)"
    return f"{'allowed' if decision.allowed else 'denied':7} /{endpoint}/{resource_id}: {decision.reason}{limit}"


def _formats(services: Services, dataset_id: str) -> dict[str, list[str]]:
    """The formats that a dataset has, by endpoint; none where there is no such dataset, or it cannot be found."""
    formats: dict[str, list[str]] = {}
    with suppress(OSError, ServiceError, StorageError):
        for source, _ in services.catalog.files(dataset_id):
            formats.setdefault(source.format.endpoint, []).append(source.format.name)
    return formats


def _cram_fault(services: Services, dataset_id: str, region: Region | None, granted: RegionSet) -> str | None:
    """Why the CRAM file of a dataset cannot be cut at the granted regions; None where it can."""
    services.sequences.look()
    query = Query("CRAM", header_only=False, regions=None if region is None else (region,))
    with (
        suppress(NotFound, UnsupportedFormat),
        OpenFile(services.catalog.locate("reads", dataset_id, "CRAM"), services.cache, services.sidecars) as file,
    ):
        try:
            require_references(plan_records(query, granted, file), file, services.bases)
        except PermissionDenied as error:
            return error.message
    return None
