"""The endpoint of plain files."""

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Blueprint, Response, request
from werkzeug.http import http_date

from htsget_flask.answers import Answer
from htsget_flask.auth.access import access_of
from htsget_flask.delivery import OCTETS, send_range
from htsget_flask.errors import FileFaultError, NotFound, ServiceUnavailable
from htsget_flask.files.listing import list_files, page_json, parse_listing
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import Stat, Storage, VersionError, is_hidden
from htsget_flask.web import AnswerView, Services, base_url, services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

blueprint = Blueprint("files", __name__, url_prefix="/files")

# Small, and read by people too. All else is data, FASTA and VCF included: proxies compress what says that it is text,
# and browsers show it, however long it is.
_TEXT_SUFFIXES = (".fai", ".dict", ".txt", ".md5")
_TEXT = "text/plain; charset=utf-8"
# To where the storage itself answers: ranges and conditions go along.
_REDIRECT_HEADERS = {"Content-Length": "0", "Cache-Control": "no-store", "Vary": "Origin"}
# A date is a validator of bytes only when no other version can have it: the second has to be over, and file systems
# stamp by a clock that lags a little.
_SETTLED = 2.0


@blueprint.get("/<storage_name>/<path:key>")
@AnswerView
def get_file(present: Services, environ: "WSGIEnvironment", storage_name: str, key: str) -> Answer:
    """A file's bytes, whole or in part (RFC 9110 sections 13 and 14)."""
    storage = _opened(present, storage_name)
    if is_hidden(key):
        raise NotFound("no such file")
    # The version is first one that is remembered: to open it tells whether that still holds. Then it is looked at; a
    # replaced file may take its place meanwhile, but not more often than clients ask.
    for max_age in (storage.max_age, 0, 0):
        try:
            stat = storage.stat(key, max_age=max_age)
            elsewhere = storage.redirect_url(key, stat) if environ["REQUEST_METHOD"] == "GET" else None
            if elsewhere is not None:
                return Answer(307, {"Location": elsewhere, **_REDIRECT_HEADERS})
            file = storage.open(key, etag=stat.etag)
            return send_range(environ, file, ByteRange(0, stat.size), etag=stat.etag, headers=_headers(key, stat))
        except VersionError:
            continue
        except OSError as error:
            raise FileFaultError(f"it cannot be read: {error.strerror}", location=storage.location(key)) from error
    raise ServiceUnavailable(f"{key!r} is being replaced; ask again")


@blueprint.get("/<storage_name>/", strict_slashes=False)
def get_listing(storage_name: str) -> Response:
    """The files of a storage, page by page, where the configuration lets them be listed."""
    present = services()
    storage = _opened(present, storage_name)
    if not present.config.files.listing:
        raise NotFound("files are not listed here")
    access = access_of(request.environ)
    access.require_some("files")
    wanted = parse_listing(request.args, access.unseal)
    try:
        page = list_files(
            storage,
            wanted,
            lambda key: access.may("files", f"{storage_name}/{key}"),
            access.seal,
            access.most_listed,
        )
        if not page.entries and not wanted.after:
            access.require_some("files", looked=True)
        access.listed("files", len(page.entries))
    except OSError as error:
        raise FileFaultError(f"it cannot be listed: {error.strerror}", location=storage.location("")) from error
    base = f"{base_url(present.config, request)}files/{quote(storage_name)}/"
    return Response(page_json(page, base), content_type="application/json", headers={"Cache-Control": "no-store"})


def _opened(present: Services, name: str) -> Storage:
    """A storage whose files may be fetched; another one is like one that does not exist."""
    if name not in present.config.files.storages:
        raise NotFound("no such file")
    return present.storages[name]


def _headers(key: str, stat: Stat) -> dict[str, str]:
    headers = {
        "Content-Type": _TEXT if key.endswith(_TEXT_SUFFIXES) else OCTETS,
        "Cache-Control": "no-cache",
        "Vary": "Origin",
    }
    if stat.modified < time.time() - _SETTLED:
        headers["Last-Modified"] = http_date(int(stat.modified))
    return headers
