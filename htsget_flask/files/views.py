"""The endpoint of plain files."""

import time
from contextlib import suppress
from functools import partial
from urllib.parse import quote

from flask import Blueprint
from werkzeug.http import http_date
from werkzeug.routing import PathConverter
from werkzeug.wrappers import Request

from htsget_flask.auth.access import Access, access_of
from htsget_flask.errors import FileFaultError, InvalidInput, NotFound, ServiceUnavailable, StorageError
from htsget_flask.files import listing
from htsget_flask.ranges import ByteRange
from htsget_flask.services import Services
from htsget_flask.storage import Stat, Storage, VersionError, is_hidden
from htsget_flask.web.answer import Answer, Environ, answer_with
from htsget_flask.web.delivery import OCTETS, send_range
from htsget_flask.web.views import View, base_url, load_template

blueprint = Blueprint("files", __name__, url_prefix="/files")

_FOLDER_PAGE = load_template(__package__, "folder.html")
_MAX_LIMIT = 1000
_JSON_PARAMETERS = frozenset({"prefix", "limit", "cursor"})
_LISTING_FIELDS = {"Cache-Control": "no-store", "Vary": "Accept"}
# The page of a folder loads nothing, runs nothing and is shown in no other page.
_HTML_FIELDS = {
    "Content-Type": "text/html; charset=utf-8",
    **_LISTING_FIELDS,
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
# Small files that people read too. Everything else, FASTA and VCF included, is data: proxies compress text, and
# browsers display it, whatever its length.
_TEXT_SUFFIXES = (".fai", ".dict", ".txt", ".md5")
# For redirects to the storage itself, which evaluates ranges and conditions.
_REDIRECT_FIELDS = {"Content-Length": "0", "Cache-Control": "no-store", "Vary": "Origin"}
# In seconds. A date validates bytes only if no other version can have the same one: its second must be over, and file
# systems use a clock that lags a little.
_DATE_SETTLES_AFTER = 2.0


class _FolderConverter(PathConverter):
    """A path with a slash at its end; matched before other paths, which are those of files."""

    regex = "[^/].*?/"
    weight = PathConverter.weight - 1


blueprint.record_once(lambda state: state.app.url_map.converters.update(folder=_FolderConverter))


@blueprint.get("/<storage_name>/<path:key>")
@partial(View, needs_public_url=False)
def get_file(services: Services, request: Request, storage_name: str, key: str) -> Answer:
    """A file's bytes, whole or in part (RFC 9110 sections 13 and 14)."""
    environ, storage = request.environ, _served_storage(services, storage_name)
    if is_hidden(key):
        raise NotFound("no such file")
    # Try the remembered version (opening verifies it), then a fresh one; a file replaced meanwhile gets one more try.
    for max_age in (storage.max_age, 0, 0):
        try:
            stat = storage.stat(key, max_age=max_age)
            signed = storage.signed_url(key, stat, pinned=False) if environ["REQUEST_METHOD"] == "GET" else None
            if signed is not None:
                return Answer(307, {"Location": signed.url, **_REDIRECT_FIELDS})
            # HEAD opens the file too, which takes 10 us: what GET cannot read is an error of HEAD as well.
            file = storage.open(key, etag=stat.etag)
            return send_range(environ, file, ByteRange(0, stat.size), etag=stat.etag, headers=_fields(key, stat))
        except VersionError:
            continue
        except NotFound:
            if services.config.files.listing and _is_folder(storage, key):
                return _redirect_to_folder(key, environ)
            raise
        except OSError as error:
            raise FileFaultError(f"it cannot be read: {error.strerror}", location=storage.location(key)) from error
    raise ServiceUnavailable(f"{key!r} is being replaced; try again")


@blueprint.get("/<storage_name>")
@blueprint.get("/<storage_name>/")
@blueprint.get("/<storage_name>/<folder:folder>")
@View
def get_listing(services: Services, request: Request, storage_name: str, folder: str = "") -> Answer:
    """The files of a storage, if the configuration allows listing.

    As JSON, page by page, all files below the folder; as HTML, for people and for programs that follow links, the
    folder's direct children.
    """
    storage = _served_storage(services, storage_name)
    if not services.config.files.listing:
        raise NotFound("files are not listed here")
    access = access_of(request.environ)
    access.require_sign_in_if_nothing_is_public("files")
    try:
        # Browsers, and clients that accept anything, get HTML.
        best = request.accept_mimetypes.best_match(["text/html", "application/json"])
        if best == "application/json" or not _JSON_PARAMETERS.isdisjoint(request.args):
            base = f"{base_url(services.config, request)}files/{quote(storage_name)}/"
            return _file_list(storage, storage_name, folder, access, request, base)
        if request.path.endswith("/"):
            return _folder_page(storage, storage_name, folder, access, request)
    except OSError as error:
        raise FileFaultError(f"it cannot be listed: {error.strerror}", location=storage.location(folder)) from error
    access.record_listing("files", 0)
    return _redirect_to_folder(storage_name, request.environ)


def _file_list(storage: Storage, storage_name: str, folder: str, access: Access, request: Request, base: str) -> Answer:
    limit = request.args.get("limit", str(_MAX_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= _MAX_LIMIT):
        raise InvalidInput(f"limit must be a whole number from 1 to {_MAX_LIMIT}, not {limit[:50]!r}")
    after = listing.parse_cursor(request.args.get("cursor"), access)
    prefix = folder + request.args.get("prefix", "")
    entries, cursor = listing.list_files(storage, storage_name, prefix, after, int(limit), access)
    _record(access, len(entries), is_first=not after)
    content = listing.page_json(entries, cursor, base)
    return answer_with(content, {"Content-Type": "application/json", **_LISTING_FIELDS})


def _folder_page(storage: Storage, storage_name: str, folder: str, access: Access, request: Request) -> Answer:
    after = listing.parse_cursor(request.args.get("after"), access)
    try:
        children, cursor = listing.list_folder(storage, storage_name, folder, after, access)
    except NotFound:
        if not access.is_limited:
            raise
        children, cursor = [], None
    _record(access, len(children), is_first=not after)
    # Without access control an empty folder is a page, as 404 makes rclone and wget fail. A folder without files for a
    # limited caller must be indistinguishable from an absent one.
    if access.is_limited and folder and not (children or cursor or after):
        raise NotFound("no such folder")
    rows, name = listing.folder_rows(children, folder), f"{storage_name}/{folder}"
    html = _FOLDER_PAGE.render(name=name, has_parent=bool(folder), rows=rows, next=cursor)
    return answer_with(html.encode(), _HTML_FIELDS)


def _record(access: Access, row_count: int, *, is_first: bool) -> None:
    if not row_count and is_first:
        access.require_sign_in_if_nothing_is_public("files", listing_is_empty=True)
    access.record_listing("files", row_count)


def _redirect_to_folder(path: str, environ: Environ) -> Answer:
    """The redirect to a folder that was requested without the slash at its end."""
    query = environ.get("QUERY_STRING")
    location = quote(path.rpartition("/")[2], safe="") + (f"/?{query}" if query else "/")
    return Answer(301, {"Location": location, **_REDIRECT_FIELDS})


def _is_folder(storage: Storage, key: str) -> bool:
    # The file is absent, whatever the storage's state.
    with suppress(NotFound, StorageError, OSError):
        next(storage.children(f"{key}/"), None)
        return True
    return False


def _served_storage(services: Services, name: str) -> Storage:
    """A storage whose files are served; any other one looks absent."""
    if name not in services.config.files.storages:
        raise NotFound("no such file")
    return services.storages[name]


def _fields(key: str, stat: Stat) -> dict[str, str]:
    fields = {
        "Content-Type": "text/plain; charset=utf-8" if key.endswith(_TEXT_SUFFIXES) else OCTETS,
        "Cache-Control": "no-cache",
        "Vary": "Origin",
    }
    if stat.modified < time.time() - _DATE_SETTLES_AFTER:
        fields["Last-Modified"] = http_date(int(stat.modified))
    return fields
