"""The endpoints that make tickets, and what GA4GH service-info and service-registry tell of them."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from flask import Blueprint, Request, Response, jsonify, request
from werkzeug.exceptions import UnsupportedMediaType

from htsget_flask.auth.access import Access, access_of
from htsget_flask.auth.signed_urls import block_parts
from htsget_flask.datasets.catalog import DataFile
from htsget_flask.datasets.open_file import FilePart, OpenFile
from htsget_flask.errors import Gone, NotFound, PermissionDenied, ServiceUnavailable
from htsget_flask.formats import ENDPOINTS, FORMATS
from htsget_flask.formats.binning import Chunk
from htsget_flask.htsget.data_blocks import BlockUrl, Piece, Records, from_path_segment, to_path_segment
from htsget_flask.htsget.plan import plan, ticket_key
from htsget_flask.htsget.query import Query, parse_get, parse_post, refuse_arguments
from htsget_flask.htsget.reference_names import resolve
from htsget_flask.htsget.region_grants import plan_records, record_blocks
from htsget_flask.htsget.ticket import ticket
from htsget_flask.ranges import ByteRange
from htsget_flask.regions import RegionSet
from htsget_flask.services import Services, current_services
from htsget_flask.storage import SignedUrl, VersionError
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.delivery import send_bytes, send_range, send_stream
from htsget_flask.web.request_body import read_body
from htsget_flask.web.views import View, base_url, describe_service, media_type

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HTSGET_VERSION = "1.3.0"

blueprint = Blueprint("htsget", __name__)

# The URL of a data block names all that decides over its bytes: they may be kept for as long as a view is looked at.
_BLOCK_HEADERS = {"Cache-Control": "private, max-age=3600, immutable", "Vary": "Origin"}

ViewFunction = TypeVar("ViewFunction", bound=Callable[..., Response])


def _for_each_endpoint(rule: str, methods: list[str]) -> Callable[[ViewFunction], ViewFunction]:
    """Route a path to the view once for each endpoint; as part of the path they match faster than as a parameter."""

    def register(view: ViewFunction) -> ViewFunction:
        for endpoint in ENDPOINTS:
            name = f"{view.__name__}_{endpoint}"
            blueprint.add_url_rule(rule.format(endpoint), name, view, defaults={"endpoint": endpoint}, methods=methods)
        return view

    return register


@_for_each_endpoint("/{}/<path:dataset_id>", methods=["GET"])
@partial(View, needs_public_url=True)
def get_ticket(services: Services, environ: "WSGIEnvironment", endpoint: str, dataset_id: str) -> Answer:
    """The ticket that a GET request asks for."""
    asked = Request(environ)
    strict = services.config.htsget.strict_header_class
    query = parse_get(asked.args, endpoint, strict_header_class=strict)
    return _ticket(services, asked, endpoint, dataset_id, query)


@_for_each_endpoint("/{}/<path:dataset_id>", methods=["POST"])
@partial(View, needs_public_url=True)
def post_ticket(services: Services, environ: "WSGIEnvironment", endpoint: str, dataset_id: str) -> Answer:
    """The ticket that a POST request asks for."""
    asked, options = Request(environ), services.config.htsget
    # Clients that probe with a form's type have to fall back to GET: a ticket would mislead them.
    if asked.mimetype != "application/json":
        raise UnsupportedMediaType("the body's Content-Type must be application/json")
    refuse_arguments(asked.args)
    query = parse_post(
        read_body(environ, options.max_post_bytes),
        endpoint,
        strict_header_class=options.strict_header_class,
        max_regions=options.max_regions,
    )
    return _ticket(services, asked, endpoint, dataset_id, query)


@_for_each_endpoint("/blocks/<etag>/<piece>/{}/<format_name>/<path:dataset_id>", methods=["GET"])
@View
def get_block(
    services: Services,
    environ: "WSGIEnvironment",
    etag: str,
    piece: str,
    endpoint: str,
    format_name: str,
    dataset_id: str,
) -> Answer:
    """Exactly the bytes of one data block, of the version of the file that its ticket was made for."""
    wanted = from_path_segment(piece)
    # Records are cut only for who may see no more: to do it for everybody would be work for nothing.
    if wanted is None or format_name not in FORMATS or (isinstance(wanted, Records) and services.gate is None):
        raise NotFound("there is no such data block")
    # What is read from the file is proven to be of this version; what is kept of it is not.
    file = services.catalog.locate(endpoint, dataset_id, format_name, fresh=isinstance(wanted, FilePart))
    try:
        if file.stat.etag != etag:
            file = services.catalog.locate(endpoint, dataset_id, format_name)
        if file.stat.etag != etag:
            raise VersionError
        if _end(wanted) > file.stat.size:
            raise NotFound("there is no such data block")
        if isinstance(wanted, ByteRange):
            content = file.source.open(file.source.key, etag=etag)
            return send_range(environ, content, wanted, etag=etag, headers=_BLOCK_HEADERS)
        with OpenFile(file, services.cache, services.sidecars) as opened:
            if isinstance(wanted, Chunk):
                before, middle, after = opened.parts(wanted)
                content = opened.detach_file()
                return send_range(
                    environ, content, middle, etag=etag, headers=_BLOCK_HEADERS, before=before, after=after
                )
            if isinstance(wanted, Records):
                records = record_blocks(opened, wanted, services.bases, services.recoder)
                return send_stream(environ, records, headers=_BLOCK_HEADERS)
            return send_bytes(environ, opened.literal(wanted), etag=etag, headers=_BLOCK_HEADERS)
    except VersionError:
        raise Gone("the file was replaced after this ticket was made; ask for a new ticket") from None


@_for_each_endpoint("/{}/service-info", methods=["GET"])
def service_info(endpoint: str) -> Response:
    """What GA4GH service-info tells of an endpoint."""
    return jsonify(
        {
            **_service(endpoint),
            "htsget": {
                "datatype": endpoint,
                "formats": [format_.name for format_ in FORMATS.values() if format_.endpoint == endpoint],
                "fieldsParameterEffective": False,
                "tagsParametersEffective": False,
            },
        }
    )


@blueprint.get("/service-info")
def registry_info() -> Response:
    """What GA4GH service-info tells of the registry that lists the endpoints."""
    registry = {"group": "org.ga4gh", "artifact": "service-registry", "version": "1.0.0"}
    return jsonify({**describe_service(current_services().config, "registry"), "type": registry})


@blueprint.get("/services")
def registry() -> Response:
    """The endpoints that are on (GA4GH service-registry)."""
    return jsonify([_registered(endpoint) for endpoint in ENDPOINTS])


@blueprint.get("/services/types")
def registry_types() -> Response:
    """The types of the endpoints that are on."""
    return jsonify([_service(ENDPOINTS[0])["type"]])


@blueprint.get("/services/<service_id>")
def registry_entry(service_id: str) -> Response:
    """One of the endpoints that are on."""
    for endpoint in ENDPOINTS:
        if _registered(endpoint)["id"] == service_id:
            return jsonify(_registered(endpoint))
    raise NotFound(f"there is no service {service_id[:200]!r}")


def _ticket(services: Services, asked: Request, endpoint: str, dataset_id: str, query: Query) -> Answer:
    access = access_of(asked.environ)
    # A region whose reference is not known yet takes two decisions: the first is that over the file's header.
    granted = access.require(endpoint, dataset_id, None if query.needs_header else query.regions)
    # For a while tickets may be made for a file that was replaced: their blocks then answer that it is gone.
    for fresh in (False, True):
        try:
            file = services.catalog.locate(endpoint, dataset_id, query.format, fresh=fresh)
            body = _ticket_of(services, asked, file, query, access, granted, fresh=fresh)
            content_type = media_type(asked.environ.get("HTTP_ACCEPT", ""))
            return answer_with(body, {"Content-Type": content_type, "Cache-Control": "no-store"})
        except VersionError:
            continue
    raise ServiceUnavailable(f"{dataset_id!r} is being replaced; ask again")


def _ticket_of(
    services: Services,
    asked: Request,
    file: DataFile,
    query: Query,
    access: Access,
    granted: RegionSet | None,
    *,
    fresh: bool,
) -> bytes:
    options = services.config.htsget
    base = base_url(services.config, asked)
    before = f"{base}blocks/{file.stat.etag}/"
    after = f"/{file.source.format.endpoint}/{file.source.format.name}/{quote(file.source.id)}"
    never_inline = options.never_inline if file.source.never_inline is None else file.source.never_inline
    inline_limit = 0 if never_inline or not query.may_inline else options.inline_limit
    with OpenFile(file, services.cache, services.sidecars, fresh=fresh) as opened:
        if query.needs_header:
            query = resolve(query, opened)
            if query.regions is not None:
                granted = access.require(file.source.format.endpoint, file.source.id, query.regions)
        if granted is not None:
            locate = partial(_block_url, None, before, after, access, file)
            body = partial(plan_records, query, granted, opened, services.bases)
            try:
                return ticket(opened, body, inline_limit=inline_limit, locate=locate)
            except PermissionDenied as error:
                access.record_denial(file.source.format.endpoint, file.source.id, query.regions, error.message)
                raise
        # Reading an object reports the id of its version: signing then makes no request for it.
        opened.header  # noqa: B018
        signed = file.source.storage.signed_url(file.source.key, file.stat)
        key = ticket_key(query, opened)
        # Only where clients choose it by their Host.
        chosen = base if services.config.public_url is None else None
        return ticket(
            opened,
            partial(plan, query, opened, block_size=options.block_size, is_signed=signed is not None),
            inline_limit=inline_limit,
            locate=partial(_block_url, signed, before, after, access, file),
            ticket_key=key and (key, inline_limit, chosen, after, signed and signed.url, access.expires),
        )


def _end(piece: Piece) -> int:
    """The size in bytes that a file has at least, to have the piece."""
    match piece:
        case ByteRange(_, end):
            return end
        case Chunk(_, end):
            return (end + 0xFFFF) >> 16
        case FilePart() | Records():
            return 0


def _block_url(
    signed: SignedUrl | None, before: str, after: str, access: Access, file: DataFile, piece: Piece
) -> BlockUrl:
    if signed is not None and isinstance(piece, ByteRange):
        return BlockUrl(signed.url, {**signed.headers, "Range": f"bytes={piece.start}-{piece.end - 1}"})
    spelled, source = to_path_segment(piece), file.source
    parts = block_parts(
        source.storage_name,
        source.key,
        file.stat.etag,
        spelled,
        source.format.endpoint,
        source.format.name,
        source.id,
    )
    return BlockUrl(f"{before}{spelled}{after}{access.signature_query(*parts)}", {})


def _service(endpoint: str) -> dict[str, object]:
    return {
        **describe_service(current_services().config, endpoint),
        "type": {"group": "org.ga4gh", "artifact": "htsget", "version": HTSGET_VERSION},
    }


def _registered(endpoint: str) -> dict[str, object]:
    return {**_service(endpoint), "url": f"{base_url(current_services().config, request)}{endpoint}"}
