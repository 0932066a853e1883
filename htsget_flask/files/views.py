"""The endpoint of plain files."""

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Blueprint, Response, render_template, request
from flask.blueprints import BlueprintSetupState
from werkzeug.http import http_date
from werkzeug.routing import PathConverter

from htsget_flask.auth.access import Access, access_of
from htsget_flask.errors import FileFaultError, NotFound, ServiceUnavailable, StorageError
from htsget_flask.files.listing import (
    FolderPage,
    folder_rows,
    list_files,
    list_folder,
    page_json,
    parse_cursor,
    parse_listing,
)
from htsget_flask.ranges import ByteRange
from htsget_flask.services import Services, current_services
from htsget_flask.storage import Stat, Storage, VersionError, is_hidden
from htsget_flask.web.answer import Answer
from htsget_flask.web.delivery import OCTETS, send_range
from htsget_flask.web.views import View, base_url

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

blueprint = Blueprint("files", __name__, url_prefix="/files", template_folder="templates")

_JSON_PARAMETERS = frozenset({"prefix", "limit", "cursor"})
_LISTING_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}
# A page of names and links loads nothing, runs nothing and is shown in no other page.
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Small, and read by people too. All else is data, FASTA and VCF included: proxies compress what says that it is text,
# and browsers show it, however long it is.
_TEXT_SUFFIXES = (".fai", ".dict", ".txt", ".md5")
_TEXT = "text/plain; charset=utf-8"
# To where the storage itself answers: ranges and conditions go along.
_REDIRECT_HEADERS = {"Content-Length": "0", "Cache-Control": "no-store", "Vary": "Origin"}
# A date is a validator of bytes only when no other version can have it: the second has to be over, and file systems
# stamp by a clock that lags a little.
_SETTLED = 2.0


class _FolderConverter(PathConverter):
    """A path with a slash at its end; it is matched before other paths, which are those of files."""

    regex = "[^/].*?/"
    weight = PathConverter.weight - 1


@blueprint.record_once
def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["folder"] = _FolderConverter


@blueprint.get("/<storage_name>/<path:key>")
@View
def get_file(services: Services, environ: "WSGIEnvironment", storage_name: str, key: str) -> Answer:
    """A file's bytes, whole or in part (RFC 9110 sections 13 and 14)."""
    storage = _opened(services, storage_name)
    if is_hidden(key):
        raise NotFound("no such file")
    # The version is first one that is remembered: to open it tells whether that still holds. Then it is looked at; a
    # replaced file may take its place meanwhile, but not more often than clients ask.
    for max_age in (storage.max_age, 0, 0):
        try:
            stat = storage.stat(key, max_age=max_age)
            signed = storage.signed_url(key, stat, pinned=False) if environ["REQUEST_METHOD"] == "GET" else None
            if signed is not None:
                return Answer(307, {"Location": signed.url, **_REDIRECT_HEADERS})
            file = storage.open(key, etag=stat.etag)
            return send_range(environ, file, ByteRange(0, stat.size), etag=stat.etag, headers=_headers(key, stat))
        except VersionError:
            continue
        except NotFound:
            if services.config.files.listing and _is_folder(storage, key):
                return Answer(301, _to_folder(key, environ))
            raise
        except OSError as error:
            raise FileFaultError(f"it cannot be read: {error.strerror}", location=storage.location(key)) from error
    raise ServiceUnavailable(f"{key!r} is being replaced; ask again")


@blueprint.get("/<storage_name>")
@blueprint.get("/<storage_name>/")
@blueprint.get("/<storage_name>/<folder:folder>")
def get_listing(storage_name: str, folder: str = "") -> Response:
    """What a storage holds, where the configuration lets files be listed.

    As JSON it is all files below the folder, page by page; as HTML, which is for people and for programs that follow
    links, what lies directly in it.
    """
    services = current_services()
    storage = _opened(services, storage_name)
    if not services.config.files.listing:
        raise NotFound("files are not listed here")
    access = access_of(request.environ)
    access.require_sign_in_if_nothing_is_public("files")
    as_json = _wants_json()
    if not as_json and not request.path.endswith("/"):
        access.record_listing("files", 0)
        return Response(status=301, headers=_to_folder(storage_name, request.environ))
    try:
        if as_json:
            return _file_list(storage, storage_name, folder, access)
        return _folder_page(storage, storage_name, folder, access)
    except OSError as error:
        raise FileFaultError(f"it cannot be listed: {error.strerror}", location=storage.location(folder)) from error


def _file_list(storage: Storage, storage_name: str, folder: str, access: Access) -> Response:
    wanted = parse_listing(folder, request.args, access.unseal)
    page = list_files(
        storage,
        wanted,
        lambda key: access.allows_whole("files", f"{storage_name}/{key}"),
        access.seal,
        access.most_listed,
    )
    _record(access, len(page.entries), is_first=not wanted.after)
    base = f"{base_url(current_services().config, request)}files/{quote(storage_name)}/"
    return Response(page_json(page, base), content_type="application/json", headers=_LISTING_HEADERS)


def _folder_page(storage: Storage, storage_name: str, folder: str, access: Access) -> Response:
    after = parse_cursor(request.args.get("after"), access.unseal)
    try:
        page = list_folder(storage, storage_name, folder, after, access)
    except NotFound:
        if not access.is_limited:
            raise
        page = FolderPage((), None)
    _record(access, len(page.children), is_first=not after)
    # A folder that holds nothing for the caller must look as if there were none.
    if access.is_limited and folder and not (page.children or page.cursor or after):
        raise NotFound("no such folder")
    html = render_template(
        "folder.html",
        name=f"{storage_name}/{folder}",
        has_parent=bool(folder),
        rows=folder_rows(page, folder),
        next=page.cursor,
    )
    headers = {**_LISTING_HEADERS, "Content-Security-Policy": _NOTHING, "Referrer-Policy": "no-referrer"}
    return Response(html, mimetype="text/html", headers=headers)


def _wants_json() -> bool:
    """Whether a listing is wanted as JSON: browsers, and clients that accept anything, get HTML."""
    if not _JSON_PARAMETERS.isdisjoint(request.args):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def _record(access: Access, shown: int, *, is_first: bool) -> None:
    if not shown and is_first:
        access.require_sign_in_if_nothing_is_public("files", looked=True)
    access.record_listing("files", shown)


def _to_folder(path: str, environ: "WSGIEnvironment") -> dict[str, str]:
    """The header fields of a redirect to a folder that was requested without the slash at its end."""
    query = environ.get("QUERY_STRING")
    location = quote(path.rpartition("/")[2], safe="") + (f"/?{query}" if query else "/")
    return {"Location": location, **_REDIRECT_HEADERS}


def _is_folder(storage: Storage, key: str) -> bool:
    try:
        next(storage.children(f"{key}/"), None)
    except (NotFound, StorageError, OSError):
        # The file is absent, whatever else cannot be found out.
        return False
    return True


def _opened(services: Services, name: str) -> Storage:
    """A storage whose files may be fetched; another one is like one that does not exist."""
    if name not in services.config.files.storages:
        raise NotFound("no such file")
    return services.storages[name]


def _headers(key: str, stat: Stat) -> dict[str, str]:
    headers = {
        "Content-Type": _TEXT if key.endswith(_TEXT_SUFFIXES) else OCTETS,
        "Cache-Control": "no-cache",
        "Vary": "Origin",
    }
    if stat.modified < time.time() - _SETTLED:
        headers["Last-Modified"] = http_date(int(stat.modified))
    return headers
