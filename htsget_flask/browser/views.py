"""The page's addresses: itself, its parts, and the JSON that it asks for."""

from collections.abc import Sequence
from typing import Any

import orjson
from flask import Blueprint, Response, render_template, request, send_file

from htsget_flask.auth.access import Access, access_of
from htsget_flask.browser.content_security import content_security_policy, igv_js
from htsget_flask.browser.tracks import describe, sizes
from htsget_flask.datasets.catalog import Source
from htsget_flask.datasets.inventory import DatasetSummary
from htsget_flask.errors import InvalidInput, NotFound
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.services import current_services
from htsget_flask.web.views import base_url

blueprint = Blueprint(
    "page", __name__, template_folder="templates", static_folder="static", static_url_path="/page/static"
)

_PAGE_LENGTH = 50
_LONGEST_SEARCH = 200


@blueprint.after_request
def _harden(response: Response) -> Response:
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-cache")
    return response


@blueprint.get("/")
def get_page() -> Response:
    """The page."""
    config = current_services().config
    source = igv_js(config)
    html = render_template(
        "page.html",
        service=config.service,
        igv_js=source,
        is_guarded=config.auth is not None,
    )
    policy = content_security_policy(config, base_url(config, request), current_services().storages.values())
    return Response(html, mimetype="text/html", headers={"Content-Security-Policy": policy})


@blueprint.get("/page/igv.js")
def get_igv_js() -> Response:
    """igv.js, where the configuration names a file."""
    configured = current_services().config.browser.igv_js
    if configured is None or igv_js(current_services().config).url == configured:
        raise NotFound("igv.js is not served from here")
    return send_file(configured, mimetype="text/javascript", conditional=True)


@blueprint.get("/page/datasets")
def get_datasets() -> Response:
    """The datasets that a search finds, a page of them: `search` are words, `cursor` is that of the page before.

    `total` is null where it is not known how many of them may be seen.
    """
    access, cursor = access_of(request.environ), request.args.get("cursor")
    try:
        offset = 0 if cursor is None else max(0, int(access.unseal(cursor)))
    except ValueError:
        raise InvalidInput("the cursor is none that a page of this list had") from None
    search = request.args.get("search", "")
    if len(search) > _LONGEST_SEARCH:
        raise InvalidInput(f"search must be at most {_LONGEST_SEARCH} characters long")
    found = current_services().inventory.search(search)
    shown, end = _page_from(found.datasets, offset, access)
    access.record_listing("page", len(shown))
    is_last = end >= len(found.datasets)
    total = len(shown) if is_last and not offset else None if access.is_limited else len(found.datasets)
    return _json(
        {
            "total": total,
            "isComplete": found.is_complete,
            # A place among all datasets: it would tell how many there are that may not be seen.
            "cursor": None if is_last else access.seal(str(end)),
            "datasets": [_listed(listed) for listed in shown],
        }
    )


@blueprint.get("/page/dataset")
def get_dataset() -> Response:
    """All that the page needs to show the dataset `id`."""
    services = current_services()
    base, dataset_id = base_url(services.config, request), request.args.get("id", "")
    return _json(describe(services, base, dataset_id, access_of(request.environ)))


@blueprint.get("/page/sizes")
def get_sizes() -> Response:
    """The lengths of the references of the dataset `id`, for igv.js where there is no sequence.

    Each `endpoint` adds those of its files; without one all do.
    """
    table = sizes(current_services(), request.args.get("id", ""), request.args.getlist("endpoint") or ENDPOINTS)
    return Response(table, mimetype="text/plain")


def _page_from(datasets: Sequence[DatasetSummary], offset: int, access: Access) -> tuple[list[DatasetSummary], int]:
    """The datasets from a place on that are shown, as many as a page has, and the place where the next page begins."""
    shown: list[DatasetSummary] = []
    most = len(datasets) if access.listing_limit is None else offset + access.listing_limit
    for place, listed in enumerate(datasets[offset:most], offset):
        if (allowed := _shown(listed, access)) is not None:
            if len(shown) == _PAGE_LENGTH:
                return shown, place
            shown.append(allowed)
    return shown, most


def _shown(listed: DatasetSummary, access: Access) -> DatasetSummary | None:
    """The dataset with the files that the request may have; None where there are none."""
    endpoints = {source.format.endpoint for source in listed.sources}
    allowed = {endpoint for endpoint in endpoints if access.allows(endpoint, listed.id)}
    if allowed == endpoints:
        return listed
    sources = [source for source in listed.sources if source.format.endpoint in allowed]
    return listed._replace(sources=sources) if sources else None


def _listed(listed: DatasetSummary) -> dict[str, Any]:
    return {
        "id": listed.id,
        "name": listed.name,
        "description": listed.description,
        "files": [{"format": source.format.name, "size": _size(source)} for source in listed.sources],
    }


def _size(source: Source) -> int | None:
    try:
        return source.storage.stat(source.key).size
    except (NotFound, OSError):
        return None


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), mimetype="application/json", headers={"Cache-Control": "no-store"})
