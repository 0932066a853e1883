"""The endpoints of sequences, their metadata, and what service-info tells of them."""

import json
from itertools import chain
from typing import TYPE_CHECKING, Literal, cast

from flask import Blueprint
from werkzeug.exceptions import BadRequest, PreconditionFailed

from htsget_flask.auth.access import access_of
from htsget_flask.config import RefgetConfig
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.ranges import ByteRange
from htsget_flask.refget.query import (
    JSON_TYPES,
    TEXT_TYPES,
    VERSIONS,
    Part,
    bounded_part,
    check_limit,
    choose_type,
    parse_bounds,
    ranged_part,
)
from htsget_flask.sequences.digests import spelled
from htsget_flask.sequences.lookup import Found, Stored
from htsget_flask.sequences.open_sequence import look_at_stored, open_found, read_found
from htsget_flask.services import Services
from htsget_flask.storage import VersionError
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.delivery import Streamed, attach
from htsget_flask.web.preconditions import failed_precondition, if_range_holds
from htsget_flask.web.views import SEQUENCES, View, describe_service

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


blueprint = Blueprint("refget", __name__, url_prefix=SEQUENCES.rstrip("/"))

# A digest names its sequence for good; what a CURIE names is the configuration's choice.
_FOR_GOOD = "public, max-age=31536000, immutable"
# No cache that others ask too may hold what a token opened.
_FOR_ITSELF = "private, max-age=3600"
_FOR_NOW = "no-cache"
_SMALL = 64 << 10
_ALGORITHMS = ("md5", "trunc512", "ga4gh")
# A file may be replaced once more while its new version is looked up.
_ATTEMPTS = 3
_REDIRECT_HEADERS = {"Content-Length": "0", "Cache-Control": "no-store", "Vary": "Accept, Origin"}

Form = Literal["whole", "range", "bounds"]
"""How a part is asked for: not at all, by Range, or by `start` and `end`."""


@blueprint.get("/service-info", strict_slashes=False)
@View
def service_info(services: Services, environ: "WSGIEnvironment") -> Answer:
    """What GA4GH service-info tells of refget: `refget` is of its version 2, `service` of its version 1."""
    media_type = choose_type(environ.get("HTTP_ACCEPT"), JSON_TYPES)
    config = services.config.refget
    common = {
        "circular_supported": config.circular_supported,
        "subsequence_limit": config.subsequence_limit,
        "algorithms": _ALGORITHMS,
    }
    curies = [alias for fasta in config.fastas for given in fasta.aliases.values() for alias in given]
    named = [fasta.namespace for fasta in config.fastas if fasta.namespace is not None]
    namespaces = sorted({*named, *(curie.partition(":")[0] for curie in curies)})
    content = {
        **describe_service(services.config, "refget"),
        "type": {"group": "org.ga4gh", "artifact": "refget", "version": VERSIONS[0]},
        "refget": {**common, "identifier_types": namespaces},
        "service": {**common, "supported_api_versions": sorted(VERSIONS)},
    }
    return _json(content, media_type)


@blueprint.get("/<sequence_id>/metadata", strict_slashes=False)
@View
def get_metadata(services: Services, environ: "WSGIEnvironment", sequence_id: str) -> Answer:
    """What is known of a sequence."""
    found = services.sequences.find(sequence_id)
    media_type = choose_type(environ.get("HTTP_ACCEPT"), JSON_TYPES)
    parts = [alias.partition(":") for alias in found.aliases]
    metadata = {
        "id": found.md5,
        **spelled(found.digests),
        "length": found.length,
        "aliases": [{"alias": name, "naming_authority": namespace} for namespace, _, name in parts],
    }
    return _json({"metadata": metadata}, media_type)


@blueprint.get("/<sequence_id>", strict_slashes=False)
@View
def get_sequence(services: Services, environ: "WSGIEnvironment", sequence_id: str) -> Answer:
    """The letters of a sequence, all or a part of them."""
    sequences = services.sequences
    for attempt in range(_ATTEMPTS):
        found = sequences.find(sequence_id)
        try:
            return _sequence(services.config.refget, environ, sequence_id, found, is_fresh=attempt > 0)
        except VersionError:
            if isinstance(found.source, Stored):
                continue
            looking = sequences.begin(at_once=True)
            if looking is not None:
                looking.join(1)
    raise ServiceUnavailable("the file of the sequence is being replaced; ask again")


def _sequence(
    config: RefgetConfig, environ: "WSGIEnvironment", sequence_id: str, found: Found, *, is_fresh: bool
) -> Answer:
    media_type = choose_type(environ.get("HTTP_ACCEPT"), TEXT_TYPES)
    # What the configuration chose for a CURIE may be another sequence tomorrow.
    is_digest = sequence_id not in found.aliases
    part, form = _wanted(config, environ, found, is_digest=is_digest)
    fields = {
        "Content-Type": f"{media_type}; charset=us-ascii",
        "Vary": "Accept, Origin",
        "Accept-Ranges": "none" if form == "bounds" else "bytes",
        "Cache-Control": _FOR_NOW if not is_digest else _FOR_ITSELF if access_of(environ).is_limited else _FOR_GOOD,
    }
    if is_digest:
        fields["ETag"] = f'"{found.md5}"'
        failed = failed_precondition(environ, etag=found.md5, last_modified=None)
        if failed == 412:
            raise PreconditionFailed("the precondition failed")
        if failed == 304:
            del fields["Content-Type"]
            return Answer(304, fields)
    parts = [part] if part.start <= part.end else [Part(part.start, found.length), Part(0, part.end)]
    fields["Content-Length"] = str(sum(there - here for here, there in parts))
    if form == "range":
        fields["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{found.length}"
    answer = Answer(206 if form == "range" else 200, fields)
    if environ["REQUEST_METHOD"] != "HEAD":
        return _filled(environ, answer, found, parts, form=form, is_fresh=is_fresh)
    if isinstance(found.source, Stored):
        look_at_stored(found.source, found, max_age=found.source.storage.max_age)
    return answer


def _wanted(config: RefgetConfig, environ: "WSGIEnvironment", found: Found, *, is_digest: bool) -> tuple[Part, Form]:
    """Which part of the sequence the request asks for, and in which of the forms."""
    start, end = parse_bounds(environ["QUERY_STRING"]) if environ.get("QUERY_STRING") else (None, None)
    span = environ.get("HTTP_RANGE") if environ["REQUEST_METHOD"] == "GET" else None
    if span is not None and "HTTP_IF_RANGE" in environ:
        is_meant = is_digest and if_range_holds(environ, etag=found.md5, last_modified=None)
        span = span if is_meant else None
    if start is None and end is None:
        if span is None:
            return Part(0, found.length), "whole"
        part, form = ranged_part(span, found.length), "range"
    elif span is not None:
        raise BadRequest("start and end do not go together with Range")
    else:
        part, form = bounded_part(start, end, found.length, found.is_circular, config.circular_supported), "bounds"
    check_limit(part, found.length, config.subsequence_limit)
    return part, cast(Form, form)


def _filled(
    environ: "WSGIEnvironment", answer: Answer, found: Found, parts: list[Part], *, form: Form, is_fresh: bool
) -> Answer:
    """The answer with these parts of the sequence as its body, or one that tells where it is."""
    source = found.source
    if isinstance(source, Stored) and form == "whole":
        url = _direct_url(source, found)
        if url is not None:
            return Answer(302, {"Location": url, **_REDIRECT_HEADERS})
    file = open_found(found, is_fresh=is_fresh)
    try:
        if isinstance(source, Stored) and len(parts) == 1:
            part = ByteRange(*parts[0])
            if form == "bounds":
                attach(environ, answer, file, part, ByteRange(0, len(part)))
            else:
                # A Range is of the whole sequence: a web server in front may cut it itself.
                attach(environ, answer, file, ByteRange(0, found.length), part)
            return answer
        letters = read_found(file, found, parts)
        if sum(there - here for here, there in parts) <= _SMALL:
            with file:
                answer.body = (b"".join(letters),)
        else:
            # What is wrong with the file shows before the answer has begun.
            answer.body = Streamed(chain((next(letters, b""),), letters), file.close)
    except BaseException:
        file.close()
        raise
    return answer


def _direct_url(store: Stored, found: Found) -> str | None:
    """Where a client may fetch the whole sequence itself."""
    storage = store.storage
    if not storage.reads_are_requests:
        return None
    stat = look_at_stored(store, found, max_age=storage.max_age)
    signed = storage.signed_url(store.key(found.md5), stat, pinned=False)
    return None if signed is None else signed.url


def _json(content: dict[str, object], media_type: str) -> Answer:
    fields = {
        "Content-Type": f"{media_type}; charset=us-ascii",
        "Vary": "Accept, Origin",
        # The configuration's choice is in it.
        "Cache-Control": _FOR_NOW,
    }
    # ASCII, whatever the names.
    return answer_with(json.dumps(content).encode("ascii"), fields)
