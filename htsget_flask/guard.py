"""Who may call which view: each route of the application stands in one table here, and is guarded by its entry.

A view that has no entry is an error when the application is made. One that has to ask `access_of` and did not is an
error of the request: its answer is not given.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, request

from htsget_flask.auth.access import ACCESS, Access, Gate
from htsget_flask.auth.audit import Origin, origin_of
from htsget_flask.auth.signed_urls import block_parts, file_parts, has_signature, sizes_parts
from htsget_flask.errors import InternalServerError
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.services import Services
from htsget_flask.web.answer import Answer
from htsget_flask.web.views import View

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

T = TypeVar("T")
Arguments = Mapping[str, Any]
Check = Callable[[Services, Gate, "WSGIEnvironment", Arguments], Access]

_EVERYTHING = Access()


def _anybody(services: Services, gate: Gate, environ: "WSGIEnvironment", arguments: Arguments) -> Access:
    """It tells nothing of any dataset."""
    return _EVERYTHING


def _bearer(services: Services, gate: Gate, environ: "WSGIEnvironment", arguments: Arguments) -> Access:
    """The view decides, by what it is asked for; it has to."""
    return gate.admit(environ.get("HTTP_AUTHORIZATION"), _origin(services, environ))


def _block(services: Services, gate: Gate, environ: "WSGIEnvironment", arguments: Arguments) -> Access:
    """A signed URL only: clients send no token there. It is of one storage, key, version and piece."""
    sources = services.catalog.named(arguments["endpoint"], arguments["dataset_id"], arguments["format_name"])
    rest = (arguments["etag"], arguments["piece"], arguments["endpoint"], arguments["format_name"])
    candidates = [block_parts(source.storage_name, source.key, *rest, source.id) for source in sources]
    query, origin = environ.get("QUERY_STRING", ""), _origin(services, environ)
    gate.check_signed_url(query, origin, "blocks", arguments["dataset_id"], candidates)
    return _EVERYTHING


def _file(services: Services, gate: Gate, environ: "WSGIEnvironment", arguments: Arguments) -> Access:
    """A signed URL, or a token that opens the file."""
    storage, key = arguments["storage_name"], arguments["key"]
    query = environ.get("QUERY_STRING", "")
    if has_signature(query):
        gate.check_signed_url(
            query, _origin(services, environ), "files", f"{storage}/{key}", [file_parts(storage, key)]
        )
        return _EVERYTHING
    access = _bearer(services, gate, environ, arguments)
    access.require("files", f"{storage}/{key}")
    return access


def _sizes(services: Services, gate: Gate, environ: "WSGIEnvironment", arguments: Arguments) -> Access:
    """A signed URL only, as igv.js asks for it."""
    dataset_id, endpoints = request.args.get("id", ""), request.args.getlist("endpoint")
    query, origin = environ.get("QUERY_STRING", ""), _origin(services, environ)
    gate.check_signed_url(query, origin, "page", dataset_id, [sizes_parts(dataset_id, endpoints)])
    return _EVERYTHING


def _sequence(services: Services, gate: Gate, environ: "WSGIEnvironment", arguments: Arguments) -> Access:
    """A token that opens the sequence, by the identifier that it is asked for with."""
    access = _bearer(services, gate, environ, arguments)
    access.require("sequence", arguments["sequence_id"])
    return access


def _origin(services: Services, environ: "WSGIEnvironment") -> Origin:
    return origin_of(environ, services.config.trusted_proxies)


GUARDS: Mapping[str, Check] = {
    "health": _anybody,
    "htsget.registry_info": _anybody,
    "htsget.registry": _anybody,
    "htsget.registry_types": _anybody,
    "htsget.registry_entry": _anybody,
    **{f"htsget.service_info_{endpoint}": _anybody for endpoint in ENDPOINTS},
    **{f"htsget.get_ticket_{endpoint}": _bearer for endpoint in ENDPOINTS},
    **{f"htsget.post_ticket_{endpoint}": _bearer for endpoint in ENDPOINTS},
    **{f"htsget.get_block_{endpoint}": _block for endpoint in ENDPOINTS},
    "files.get_file": _file,
    "files.get_listing": _bearer,
    "refget.service_info": _anybody,
    "refget.get_metadata": _sequence,
    "refget.get_sequence": _sequence,
    # The page as such, which is empty.
    "page.get_page": _anybody,
    "page.static": _anybody,
    "page.get_igv_js": _anybody,
    "page.get_datasets": _bearer,
    "page.get_dataset": _bearer,
    "page.get_sizes": _sizes,
}


def guard(app: Flask, services: Services) -> None:
    """Put each view of the application behind its entry of the table."""
    for name, view in app.view_functions.items():
        if name not in GUARDS:
            raise LookupError(f"nothing says who may call the view {name}")
        app.view_functions[name] = _guarded(view, GUARDS[name], services)


def _guarded(view: Callable[..., Any], check: Check, services: Services) -> Callable[..., Any]:
    gate = services.gate

    def admit(environ: "WSGIEnvironment", arguments: Arguments) -> Access:
        access = _EVERYTHING if gate is None else check(services, gate, environ, arguments)
        environ[ACCESS] = access
        return access

    if isinstance(view, View):

        def answer(services: Services, environ: "WSGIEnvironment", **arguments: Any) -> Answer:
            access = admit(environ, arguments)
            given: Answer = view.answer(services, environ, **arguments)
            return _decided(access, given)

        return View(answer, needs_public_url=view.needs_public_url)

    def plain(**arguments: Any) -> Any:
        access = admit(request.environ, arguments)
        return _decided(access, view(**arguments))

    return plain


def _decided(access: Access, answer: T) -> T:
    if not access.was_decided:
        raise InternalServerError("the server did not find out whether this may be seen")
    return answer
