"""The endpoints that make tickets and send data blocks."""

from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from flask import Blueprint
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.wrappers import Request

from htsget_flask.auth.access import Access, access_of
from htsget_flask.auth.signed_urls import block_parts
from htsget_flask.datasets.edges import chunk_parts
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import Gone, NotFound, PermissionDenied, ServiceUnavailable
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.table import ENDPOINTS, FORMATS
from htsget_flask.htsget.data_blocks import (
    DataBlock,
    FilePart,
    Records,
    from_path_segment,
    least_file_size,
    read_inline,
    to_path_segment,
)
from htsget_flask.htsget.plan import plan, windows_of
from htsget_flask.htsget.query import Query, parse_get, parse_post, refuse_arguments
from htsget_flask.htsget.reference_names import resolve
from htsget_flask.htsget.region_grants import plan_records, record_blocks, require_references
from htsget_flask.htsget.ticket import BlockUrl, Limits, TicketKey, render
from htsget_flask.ranges import ByteRange
from htsget_flask.regions import RegionSet
from htsget_flask.services import Services
from htsget_flask.storage import SignedUrl, VersionError
from htsget_flask.web.answer import Answer, Environ, answer_with
from htsget_flask.web.delivery import send_bytes, send_range, send_stream
from htsget_flask.web.errors import media_type
from htsget_flask.web.request_body import read_body
from htsget_flask.web.views import View, base_url

blueprint = Blueprint("htsget", __name__)

# The URL of a data block determines its bytes: browsers may cache them for as long as a session lasts.
_BLOCK_HEADERS = {"Cache-Control": "private, max-age=3600, immutable", "Vary": "Origin"}


def _for_each_endpoint(rule: str, methods: list[str]) -> Callable[[View], View]:
    """Route a path to the view once for each endpoint; as part of the path they match faster than as a parameter."""

    def register(view: View) -> View:
        for endpoint in ENDPOINTS:
            name = f"{view.answer.__name__}_{endpoint}"
            blueprint.add_url_rule(rule.format(endpoint), name, view, defaults={"endpoint": endpoint}, methods=methods)
        return view

    return register


@_for_each_endpoint("/{}/<path:dataset_id>", methods=["GET"])
@View
def get_ticket(services: Services, request: Request, endpoint: str, dataset_id: str) -> Answer:
    """The ticket for a GET request."""
    query = parse_get(request.args, endpoint, strict_header_class=services.config.htsget.strict_header_class)
    return _ticket(services, request, endpoint, dataset_id, query)


@_for_each_endpoint("/{}/<path:dataset_id>", methods=["POST"])
@View
def post_ticket(services: Services, request: Request, endpoint: str, dataset_id: str) -> Answer:
    """The ticket for a POST request."""
    options = services.config.htsget
    # Clients that probe with a form's type have to fall back to GET: a ticket would mislead them.
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("the body's Content-Type must be application/json")
    refuse_arguments(request.args)
    query = parse_post(
        read_body(request.environ, options.max_post_bytes),
        endpoint,
        strict_header_class=options.strict_header_class,
        max_regions=options.max_regions,
    )
    return _ticket(services, request, endpoint, dataset_id, query)


@_for_each_endpoint("/blocks/<etag>/<block>/{}/<format_name>/<path:dataset_id>", methods=["GET"])
@partial(View, needs_public_url=False)
def get_block(
    services: Services, request: Request, etag: str, block: str, endpoint: str, format_name: str, dataset_id: str
) -> Answer:
    """Exactly the bytes of one data block, of the version of the file that its ticket was made for.

    The URL names the dataset instead of storage and key: only data files of datasets can be read.
    """
    environ, parsed = request.environ, from_path_segment(block)
    # Records are separated only for callers that may see no more: to do it for everybody would be needless work.
    if parsed is None or format_name not in FORMATS or (isinstance(parsed, Records) and services.gate is None):
        raise NotFound("there is no such data block")
    # Bytes read from the file are verified to be of this version; cached parts are not.
    file = services.catalog.locate(endpoint, dataset_id, format_name, fresh=isinstance(parsed, FilePart))
    try:
        if file.stat.etag != etag:
            file = services.catalog.locate(endpoint, dataset_id, format_name)
        if file.stat.etag != etag:
            raise VersionError
        return _send_block(services, environ, file, parsed)
    except VersionError:
        raise Gone("the file was replaced after this ticket was made; request a new ticket") from None


def _ticket(services: Services, request: Request, endpoint: str, dataset_id: str, query: Query) -> Answer:
    """Authorize, locate, open, plan and render."""
    access = access_of(request.environ)
    # A region whose reference only the header decides takes two decisions; the first is that over the header.
    granted = access.require(endpoint, dataset_id, None if query.needs_header else query.regions)
    # For a while tickets may be made for a file that was replaced: their blocks then answer that it is gone.
    for fresh in (False, True):
        try:
            file = services.catalog.locate(endpoint, dataset_id, query.format, fresh=fresh)
            with OpenFile(file, services.cache, services.sidecars, fresh=fresh) as opened:
                body = _render(services, request, opened, query, access, granted)
        except VersionError:
            continue
        content_type = media_type(request.environ.get("HTTP_ACCEPT", ""))
        return answer_with(body, {"Content-Type": content_type, "Cache-Control": "no-store"})
    raise ServiceUnavailable(f"{dataset_id!r} is being replaced; try again")


def _render(
    services: Services, request: Request, file: OpenFile, query: Query, access: Access, granted: RegionSet | None
) -> bytes:
    """Plan and render; callers whose grant is limited to regions have another planner, and no cached answers."""
    source, options = file.source, services.config.htsget
    if query.needs_header:
        query = resolve(query, file)
        if query.regions is not None:
            granted = access.require(source.format.endpoint, source.id, query.regions)
    base = base_url(services.config, request)
    path = f"/{source.format.endpoint}/{source.format.name}/{quote(source.id)}"
    never_inline = options.never_inline if source.never_inline is None else source.never_inline
    inline_limit = 0 if never_inline or not query.may_inline else options.inline_limit
    if granted is not None:
        spans = plan_records(query, granted, file)
        try:
            require_references(spans, file, services.bases)
        except PermissionDenied as error:
            access.record_denial(source.format.endpoint, source.id, query.regions, error.message)
            raise
        limits = Limits(inline_limit, options.block_size)
        return render(file, lambda: spans, limits, partial(_block_url, None, base, path, access, file))
    # Reading an object reports the id of its version: signing then makes no request for it.
    file.header  # noqa: B018
    signed = source.storage.signed_url(source.key, file.stat)
    key = None
    if not (query.header_only or not source.format.is_bgzf or query.regions is None or len(query.regions) > 1):
        # Only where clients choose the URL by their Host.
        chosen = base if services.config.public_url is None else None
        windows = windows_of(query.regions[0], file)
        key = TicketKey(windows, inline_limit, chosen, path, signed and signed.url, access.expires)
    limits = Limits(inline_limit, options.block_size, is_signed=signed is not None)
    return render(file, partial(plan, query, file), limits, partial(_block_url, signed, base, path, access, file), key)


def _block_url(
    signed: SignedUrl | None, base: str, path: str, access: Access, file: OpenFile, block: DataBlock
) -> BlockUrl:
    if signed is not None and isinstance(block, ByteRange):
        return signed.url, {**signed.headers, "Range": f"bytes={block.start}-{block.end - 1}"}
    source, segment = file.source, to_path_segment(block)
    parts = block_parts(
        storage=source.storage_name,
        key=source.key,
        etag=file.stat.etag,
        block=segment,
        endpoint=source.format.endpoint,
        format_name=source.format.name,
        dataset_id=source.id,
    )
    return f"{base}blocks/{file.stat.etag}/{segment}{path}{access.signature_query(*parts)}", {}


def _send_block(services: Services, environ: Environ, file: DataFile, block: DataBlock) -> Answer:
    etag = file.stat.etag
    if least_file_size(block) > file.stat.size:
        raise NotFound("there is no such data block")
    if isinstance(block, ByteRange):
        content = file.source.open(file.source.key, etag=etag)
        return send_range(environ, content, block, etag=etag, headers=_BLOCK_HEADERS)
    with OpenFile(file, services.cache, services.sidecars) as opened:
        match block:
            case Chunk():
                before, middle, after = chunk_parts(opened, block)
                content = opened.detach_file()
                return send_range(environ, content, middle, etag, _BLOCK_HEADERS, (before, after))
            case Records():
                records = record_blocks(opened, block, services.bases, services.decoder)
                return send_stream(environ, records, headers=_BLOCK_HEADERS)
            case FilePart():
                return send_bytes(environ, read_inline(opened, block), etag=etag, headers=_BLOCK_HEADERS)
