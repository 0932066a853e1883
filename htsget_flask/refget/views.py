"""The endpoints of sequences, their metadata and service-info."""

import json
from functools import partial
from typing import Literal

from flask import Blueprint
from werkzeug.exceptions import BadRequest, PreconditionFailed, RequestedRangeNotSatisfiable
from werkzeug.wrappers import Request

from htsget_flask.auth.access import access_of
from htsget_flask.config import RefgetConfig
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.ranges import ByteRange
from htsget_flask.refget import query
from htsget_flask.refget.query import Part
from htsget_flask.sequences.digests import format_digests
from htsget_flask.sequences.lookup import SequenceMatch, SequenceStore
from htsget_flask.sequences.open_sequence import open_sequence, read_sequence, stat_stored_sequence
from htsget_flask.services import Services
from htsget_flask.storage import VersionError
from htsget_flask.web.answer import Answer, Environ, answer_with
from htsget_flask.web.delivery import Streamed, attach
from htsget_flask.web.errors import REFGET_PATH
from htsget_flask.web.preconditions import failed_precondition, if_range_holds
from htsget_flask.web.views import View, describe_service

blueprint = Blueprint("refget", __name__, url_prefix=REFGET_PATH.rstrip("/"))

# A digest names its sequence forever; what a CURIE names is the configuration's choice.
_IMMUTABLE = "public, max-age=31536000, immutable"
# No shared cache may store what a token opened.
_PRIVATE = "private, max-age=3600"
_REVALIDATE = "no-cache"
_MAX_IN_MEMORY = 64 << 10
_REDIRECT_FIELDS = {"Content-Length": "0", "Cache-Control": "no-store", "Vary": "Accept, Origin"}

Selection = Literal["whole", "range", "bounds"]
"""How a request selects letters: all, by Range, or by `start` and `end`."""


@blueprint.get("/service-info", strict_slashes=False)
@partial(View, needs_public_url=False)
def service_info(services: Services, request: Request) -> Answer:
    """GA4GH service-info: the member `refget` is of refget 2, `service` of refget 1."""
    media_type = query.choose_type(request.environ.get("HTTP_ACCEPT"), query.JSON_TYPES)
    config = services.config.refget
    common = {
        "circular_supported": config.circular_supported,
        "subsequence_limit": config.subsequence_limit,
        "algorithms": ("md5", "trunc512", "ga4gh"),
    }
    namespaces = {fasta.namespace for fasta in config.fastas if fasta.namespace is not None}
    for fasta in config.fastas:
        namespaces.update(curie.partition(":")[0] for names in fasta.aliases.values() for curie in names)
    content = {
        **describe_service(services.config, "refget", "refget", query.VERSIONS[0]),
        "refget": {**common, "identifier_types": sorted(namespaces)},
        "service": {**common, "supported_api_versions": sorted(query.VERSIONS)},
    }
    return _json(content, media_type)


@blueprint.get("/<sequence_id>/metadata", strict_slashes=False)
@partial(View, needs_public_url=False)
def get_metadata(services: Services, request: Request, sequence_id: str) -> Answer:
    """The metadata of a sequence."""
    match = services.sequences.find(sequence_id)
    media_type = query.choose_type(request.environ.get("HTTP_ACCEPT"), query.JSON_TYPES)
    parts = [alias.partition(":") for alias in match.aliases]
    metadata = {
        "id": match.md5,
        **format_digests(match.digests),
        "length": match.length,
        "aliases": [{"alias": name, "naming_authority": namespace} for namespace, _, name in parts],
    }
    return _json({"metadata": metadata}, media_type)


@blueprint.get("/<sequence_id>", strict_slashes=False)
@partial(View, needs_public_url=False)
def get_sequence(services: Services, request: Request, sequence_id: str) -> Answer:
    """The letters of a sequence, all or a part of them."""
    sequences = services.sequences
    # A file may be replaced again while its new version is looked up.
    for attempt in range(3):
        match = sequences.find(sequence_id)
        try:
            return _sequence(services.config.refget, request.environ, sequence_id, match, is_fresh=attempt > 0)
        except VersionError:
            if isinstance(match.source, SequenceStore):
                continue
            if (scan := sequences.start_scan(immediately=True)) is not None:
                scan.join(1)
    raise ServiceUnavailable("the file of the sequence is being replaced; try again")


def _sequence(
    config: RefgetConfig, environ: Environ, sequence_id: str, match: SequenceMatch, *, is_fresh: bool
) -> Answer:
    media_type = query.choose_type(environ.get("HTTP_ACCEPT"), query.TEXT_TYPES)
    # The configuration may give a CURIE to another sequence tomorrow.
    is_digest = sequence_id not in match.aliases
    part, selection = _select(config, environ, match, is_digest=is_digest)
    fields = {
        "Content-Type": f"{media_type}; charset=us-ascii",
        "Vary": "Accept, Origin",
        "Accept-Ranges": "none" if selection == "bounds" else "bytes",
        "Cache-Control": _REVALIDATE if not is_digest else _PRIVATE if access_of(environ).is_limited else _IMMUTABLE,
    }
    if is_digest:
        fields["ETag"] = f'"{match.md5}"'
        failed = failed_precondition(environ, etag=match.md5, last_modified=None)
        if failed == 412:
            raise PreconditionFailed("the precondition failed")
        if failed == 304:
            del fields["Content-Type"]
            return Answer(304, fields)
    parts = [part] if part.start <= part.end else [Part(part.start, match.length), Part(0, part.end)]
    fields["Content-Length"] = str(sum(end - start for start, end in parts))
    if selection == "range":
        fields["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{match.length}"
    answer = Answer(206 if selection == "range" else 200, fields)
    if environ["REQUEST_METHOD"] != "HEAD":
        return _add_body(environ, answer, match, parts, selection, is_fresh)
    if isinstance(match.source, SequenceStore):
        stat_stored_sequence(match.source, match, max_age=match.source.storage.max_age)
    return answer


def _select(config: RefgetConfig, environ: Environ, match: SequenceMatch, *, is_digest: bool) -> tuple[Part, Selection]:
    """The part of the sequence that a request selects, and how."""
    start, end = query.parse_bounds(environ["QUERY_STRING"]) if environ.get("QUERY_STRING") else (None, None)
    span = environ.get("HTTP_RANGE") if environ["REQUEST_METHOD"] == "GET" else None
    # A CURIE has no ETag that If-Range could match.
    if "HTTP_IF_RANGE" in environ and not (is_digest and if_range_holds(environ, etag=match.md5, last_modified=None)):
        span = None
    if span is not None:
        if start is not None or end is not None:
            raise BadRequest("start and end cannot be combined with Range")
        part = query.ranged_part(span, match.length)
    elif start is None and end is None:
        return Part(0, match.length), "whole"
    else:
        part = query.bounded_part(start, end, match.length, match.is_circular, config.circular_supported)
    size = part.end - part.start + (match.length if part.start > part.end else 0)
    limit = config.subsequence_limit
    if limit is not None and size > limit:
        raise RequestedRangeNotSatisfiable(description=f"sub-sequences of more than {limit} letters are not served")
    return part, "bounds" if span is None else "range"


def _add_body(
    environ: Environ, answer: Answer, match: SequenceMatch, parts: list[Part], selection: Selection, is_fresh: bool
) -> Answer:
    """The answer with these parts of the sequence as its body, or a redirect to the storage."""
    source = match.source
    if isinstance(source, SequenceStore) and selection == "whole" and source.storage.reads_are_requests:
        stat = stat_stored_sequence(source, match, max_age=source.storage.max_age)
        signed = source.storage.signed_url(source.key(match.md5), stat, pinned=False)
        if signed is not None:
            return Answer(302, {"Location": signed.url, **_REDIRECT_FIELDS})
    file = open_sequence(match, is_fresh=is_fresh)
    try:
        if isinstance(source, SequenceStore) and len(parts) == 1:
            # A Range is relative to the whole sequence: a web server in front can evaluate it.
            span, part = ByteRange(0, match.length), ByteRange(*parts[0])
            if selection == "bounds":
                span, part = part, ByteRange(0, len(part))
            attach(environ, answer, file, span, part)
            return answer
        letters = read_sequence(file, match, parts)
        if sum(end - start for start, end in parts) <= _MAX_IN_MEMORY:
            with file:
                answer.body = (b"".join(letters),)
        else:
            answer.body = Streamed(letters, file.close)
    except BaseException:
        file.close()
        raise
    return answer


def _json(content: dict[str, object], media_type: str) -> Answer:
    # It depends on the configuration.
    fields = {"Content-Type": f"{media_type}; charset=us-ascii", "Vary": "Accept, Origin", "Cache-Control": _REVALIDATE}
    # ASCII, whatever the names.
    return answer_with(json.dumps(content).encode("ascii"), fields)
