"""The page's views: the page itself, its parts, and the JSON that it requests."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import orjson
from flask import Blueprint
from werkzeug.utils import send_file, send_from_directory
from werkzeug.wrappers import Request, Response

from htsget_flask.auth.access import Access, access_of
from htsget_flask.browser.content_security import content_security_policy, igv_js
from htsget_flask.browser.tracks import describe, sizes
from htsget_flask.datasets.inventory import DatasetSummary
from htsget_flask.datasets.source import Source
from htsget_flask.errors import InvalidInput, NotFound
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.services import Services
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.preconditions import drop_odd_dates
from htsget_flask.web.views import View, base_url, load_template

blueprint = Blueprint("page", __name__)

_PAGE = load_template(__package__, "page.html")
_STATIC_FOLDER = Path(__file__).parent / "static"
_PAGE_LENGTH = 50
_MAX_SEARCH_LENGTH = 200

_view = partial(View, fields={"Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"})


@blueprint.get("/")
@_view
def get_page(services: Services, request: Request) -> Answer:
    """The page."""
    config = services.config
    html = _PAGE.render(service=config.service, igv_js=igv_js(config), is_guarded=config.auth is not None)
    policy = content_security_policy(config, base_url(config, request), services.storages.values())
    return answer_with(html.encode(), {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy})


@blueprint.get("/page/static/<path:filename>", endpoint="static")
@_view
def get_static(services: Services, request: Request, filename: str) -> Answer:
    """A script or style sheet of the page."""
    drop_odd_dates(request.environ)
    return _file_answer(send_from_directory(_STATIC_FOLDER, filename, request.environ), request)


@blueprint.get("/page/igv.js")
@_view
def get_igv_js(services: Services, request: Request) -> Answer:
    """igv.js, if the configuration names a file."""
    configured = services.config.browser.igv_js
    if configured is None or igv_js(services.config).url == configured:
        raise NotFound("igv.js is not served from here")
    drop_odd_dates(request.environ)
    return _file_answer(send_file(configured, request.environ, mimetype="text/javascript"), request)


@blueprint.get("/page/datasets")
@_view
def get_datasets(services: Services, request: Request) -> Answer:
    """A page of the datasets that match a search: `search` are words, `cursor` is that of the previous page.

    `total` is null if it is not known how many of them the caller may see.
    """
    access, cursor = access_of(request.environ), request.args.get("cursor")
    try:
        offset = 0 if cursor is None else max(0, int(access.unseal(cursor)))
    except ValueError:
        raise InvalidInput("the cursor is not from a page of this list") from None
    search = request.args.get("search", "")
    if len(search) > _MAX_SEARCH_LENGTH:
        raise InvalidInput(f"search must be at most {_MAX_SEARCH_LENGTH} characters long")
    result = services.inventory.search(search)
    page, end = _page_from(result.datasets, offset, access)
    access.record_listing("page", len(page))
    is_last = end >= len(result.datasets)
    total = len(page) if is_last and not offset else None if access.is_limited else len(result.datasets)
    return _json(
        {
            "total": total,
            "isComplete": result.is_complete,
            # Sealed: a position among all datasets would reveal how many the caller may not see.
            "cursor": None if is_last else access.seal(str(end)),
            "datasets": [
                {
                    "id": dataset.id,
                    "name": dataset.name,
                    "description": dataset.description,
                    "files": [{"format": source.format.name, "size": _size(source)} for source in dataset.sources],
                }
                for dataset in page
            ],
        }
    )


@blueprint.get("/page/dataset")
@_view
def get_dataset(services: Services, request: Request) -> Answer:
    """All that the page needs to show the dataset `id`."""
    base, dataset_id = base_url(services.config, request), request.args.get("id", "")
    return _json(describe(services, base, dataset_id, access_of(request.environ)))


@blueprint.get("/page/sizes")
@_view
def get_sizes(services: Services, request: Request) -> Answer:
    """The lengths of the references of the dataset `id`, for igv.js without a sequence.

    Limited to the files at each `endpoint`, if the query has any.
    """
    table = sizes(services, request.args.get("id", ""), request.args.getlist("endpoint") or ENDPOINTS)
    return answer_with(table.encode(), {"Content-Type": "text/plain; charset=utf-8"})


def _file_answer(response: Response, request: Request) -> Answer:
    body, _, fields = response.get_wsgi_response(request.environ)
    if request.method == "HEAD":
        response.close()
    return Answer(response.status_code, dict(fields), body)


def _page_from(datasets: Sequence[DatasetSummary], offset: int, access: Access) -> tuple[list[DatasetSummary], int]:
    """At most a page of the datasets from an offset on that the caller may see, and the offset of the next page."""
    page: list[DatasetSummary] = []
    end = len(datasets) if access.listing_limit is None else offset + access.listing_limit
    for index, dataset in enumerate(datasets[offset:end], offset):
        if (visible := _visible_part(dataset, access)) is not None:
            if len(page) == _PAGE_LENGTH:
                return page, index
            page.append(visible)
    return page, end


def _visible_part(dataset: DatasetSummary, access: Access) -> DatasetSummary | None:
    """The dataset with the files that the caller may see; None without any."""
    endpoints = {source.format.endpoint for source in dataset.sources}
    allowed = {endpoint for endpoint in endpoints if access.allows(endpoint, dataset.id)}
    if allowed == endpoints:
        return dataset
    sources = [source for source in dataset.sources if source.format.endpoint in allowed]
    return dataset._replace(sources=sources) if sources else None


def _size(source: Source) -> int | None:
    with suppress(NotFound, OSError):
        return source.storage.stat(source.key).size
    return None


def _json(content: object) -> Answer:
    return answer_with(orjson.dumps(content), {"Content-Type": "application/json", "Cache-Control": "no-store"})
