"""The endpoints that make tickets and send data blocks."""

from collections.abc import Callable
from functools import partial

from flask import Blueprint
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.wrappers import Request

from htsget_flask.auth.access import access_of
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import Gone, NotFound, ServiceUnavailable
from htsget_flask.formats.table import ENDPOINTS, FORMATS
from htsget_flask.htsget.answer import make_ticket
from htsget_flask.htsget.block_delivery import fits, send_block
from htsget_flask.htsget.data_blocks import ConvertedPart, FilePart, from_path_segment
from htsget_flask.htsget.query import Query, parse_get, parse_post, refuse_arguments
from htsget_flask.services import Services
from htsget_flask.storage import VersionError
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.errors import media_type
from htsget_flask.web.request_body import read_body
from htsget_flask.web.views import View

blueprint = Blueprint("htsget", __name__)


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
    if parsed is None or format_name not in FORMATS or not fits(parsed, FORMATS[format_name]):
        raise NotFound("there is no such data block")
    # Bytes read from the file are verified to be of this version; cached parts are not.
    is_cached = isinstance(parsed, FilePart | ConvertedPart)
    file = services.catalog.locate(endpoint, dataset_id, format_name, fresh=is_cached)
    try:
        if file.stat.etag != etag:
            file = services.catalog.locate(endpoint, dataset_id, format_name)
        if file.stat.etag != etag:
            raise VersionError
        return send_block(services, environ, file, parsed)
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
            file, format_name = services.catalog.choose(
                endpoint, dataset_id, query.format, convert=services.config.htsget.convert, fresh=fresh
            )
            with OpenFile(file, services.cache, services.sidecars, fresh=fresh) as opened:
                body = make_ticket(services, request, opened, format_name, query, access, granted)
        except VersionError:
            continue
        content_type = media_type(request.environ.get("HTTP_ACCEPT", ""))
        return answer_with(body, {"Content-Type": content_type, "Cache-Control": "no-store"})
    raise ServiceUnavailable(f"{dataset_id!r} is being replaced; try again")
