"""What has to hold before each view is called: one table with an entry for each route.

A route without an entry is an error when the application is created. A view that has to ask `access_of` for a decision
and did not is an error of the request: its answer is not sent.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from flask import Flask
from werkzeug.wrappers import Request

from htsget_flask.auth.access import ACCESS, Access, Gate
from htsget_flask.auth.audit import origin_of
from htsget_flask.auth.signed_urls import Parts, block_parts, file_parts, has_signature, sizes_parts
from htsget_flask.errors import InternalServerError
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.services import Services
from htsget_flask.web.answer import Answer
from htsget_flask.web.views import View, ViewFunction

Arguments = Mapping[str, Any]
Check = Callable[[Services, Gate, Request, Arguments], Access]

_EVERYTHING = Access()


def _bearer(services: Services, gate: Gate, request: Request, arguments: Arguments) -> Access:
    """A token; the view has to decide, by the request, what it opens."""
    origin = origin_of(request.environ, services.config.trusted_proxies)
    return gate.admit(request.environ.get("HTTP_AUTHORIZATION"), origin)


def _block(services: Services, gate: Gate, request: Request, arguments: Arguments) -> Access:
    """A signed URL only, as clients send no token for data blocks; it covers one storage, key, version and block."""
    endpoint, format_name, dataset_id = arguments["endpoint"], arguments["format_name"], arguments["dataset_id"]
    candidates = [
        block_parts(
            storage=source.storage_name,
            key=source.key,
            etag=arguments["etag"],
            block=arguments["block"],
            endpoint=endpoint,
            format_name=format_name,
            dataset_id=source.id,
        )
        for source in services.catalog.named(endpoint, dataset_id, format_name)
    ]
    return _check_signature(services, gate, request, "blocks", dataset_id, candidates)


def _file(services: Services, gate: Gate, request: Request, arguments: Arguments) -> Access:
    """A signed URL, or a token that opens the file."""
    storage, key = arguments["storage_name"], arguments["key"]
    if has_signature(request.environ.get("QUERY_STRING", "")):
        return _check_signature(services, gate, request, "files", f"{storage}/{key}", [file_parts(storage, key)])
    access = _bearer(services, gate, request, arguments)
    access.require("files", f"{storage}/{key}")
    return access


def _sizes(services: Services, gate: Gate, request: Request, arguments: Arguments) -> Access:
    """A signed URL only: igv.js sends no token there."""
    dataset_id, endpoints = request.args.get("id", ""), request.args.getlist("endpoint")
    return _check_signature(services, gate, request, "page", dataset_id, [sizes_parts(dataset_id, endpoints)])


def _sequence(services: Services, gate: Gate, request: Request, arguments: Arguments) -> Access:
    """A token that opens the sequence, by the identifier in the request."""
    access = _bearer(services, gate, request, arguments)
    access.require("sequence", arguments["sequence_id"])
    return access


def _check_signature(
    services: Services, gate: Gate, request: Request, endpoint: str, resource_id: str, candidates: Sequence[Parts]
) -> Access:
    origin = origin_of(request.environ, services.config.trusted_proxies)
    gate.check_signed_url(request.environ.get("QUERY_STRING", ""), origin, endpoint, resource_id, candidates)
    return _EVERYTHING


# None: the view reveals nothing of any dataset.
GUARDS: Mapping[str, Check | None] = {
    "health": None,
    **{f"service_info.{endpoint}": None for endpoint in ENDPOINTS},
    **{f"service_info.get_{name}": None for name in ("registry", "services", "types", "service")},
    **{f"htsget.{method}_ticket_{endpoint}": _bearer for method in ("get", "post") for endpoint in ENDPOINTS},
    **{f"htsget.get_block_{endpoint}": _block for endpoint in ENDPOINTS},
    "files.get_file": _file,
    "files.get_listing": _bearer,
    "refget.service_info": None,
    "refget.get_metadata": _sequence,
    "refget.get_sequence": _sequence,
    # The page itself, which is empty.
    "page.get_page": None,
    "page.static": None,
    "page.get_igv_js": None,
    "page.get_datasets": _bearer,
    "page.get_dataset": _bearer,
    "page.get_sizes": _sizes,
}


def guard(app: Flask, services: Services) -> None:
    """Guard each view of the application by its entry in the table."""
    for name, view in app.view_functions.items():
        if name not in GUARDS or not isinstance(view, View):
            raise LookupError(f"the route {name} needs a View and an entry in GUARDS")
        answer = _guarded(view.answer, GUARDS[name], services.gate)
        app.view_functions[name] = View(answer, needs_public_url=view.needs_public_url, fields=view.fields)


def _guarded(view: ViewFunction, check: Check | None, gate: Gate | None) -> ViewFunction:
    @wraps(view)
    def guarded(services: Services, request: Request, **arguments: Any) -> Answer:
        access = _EVERYTHING if gate is None or check is None else check(services, gate, request, arguments)
        request.environ[ACCESS] = access
        answer = view(services, request, **arguments)
        if not access.was_decided:
            raise InternalServerError("the server did not decide whether the caller may see this")
        return answer

    return guarded
