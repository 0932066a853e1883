"""What web pages may do with a bucket's objects, found by requests like a browser's (Fetch, CORS protocol).

Reading a bucket's CORS rules needs a separate permission, and not every server has such rules: the answers to browsers
are what counts.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from htsget_flask.config import Config
from htsget_flask.storage import SignedUrl

_METHODS = ("GET", "HEAD")
_REQUEST_FIELDS = ("if-match", "range")
_ANSWER_FIELDS = ("Content-Range", "Content-Length", "Accept-Ranges", "ETag")
# An origin that no rule names: a server that allows it allows all.
_ANY = "https://any.example"
# The origin that browsers send after a redirect from another origin.
_REDIRECTED = "null"
_PAGES = {_ANY: "a page of any origin", _REDIRECTED: "a page that /files or /sequence redirects (Origin: null)"}

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")


def page_origins(config: Config, storage_name: str) -> Sequence[str]:
    """The origins of pages that may read from this service, and so need to read from a storage."""
    allowed = config.cors.origins
    named = {allowed} if isinstance(allowed, str) else set(allowed)
    if config.public_url is not None and config.browser.enabled:
        parts = urlsplit(config.public_url)
        named.add(f"{parts.scheme}://{parts.netloc}")
    store = config.refget.store
    if storage_name in config.files.storages or (store is not None and store.storage == storage_name):
        named.add(_REDIRECTED)
    return [_ANY] if "*" in named else sorted(named)


def cors_rules(origins: Sequence[str]) -> str:
    """The rules that allow pages of these origins to read from a bucket, as JSON for `aws s3api put-bucket-cors`."""
    allowed = {"AllowedOrigins": ["*" if origin == _ANY else origin for origin in origins], "AllowedMethods": _METHODS}
    rule = {**allowed, "AllowedHeaders": ["*"], "ExposeHeaders": _ANSWER_FIELDS, "MaxAgeSeconds": 3600}
    return json.dumps({"CORSRules": [rule]})


def probe(
    signed: SignedUrl, origins: Sequence[str], *, has_object: bool, timeout: tuple[float, float]
) -> tuple[str | None, Sequence[str]]:
    """Try a presigned URL as this server and as pages of these origins; reads a byte if it `has_object`.

    Returns its refusal with S3's error code, None where it is served, and what keeps the pages from reading.

    Raises:
        HTTPClientError: when there is no answer (botocore's).
    """
    refusal, faults = None, list[str]()
    headers = {**signed.headers, "Range": "bytes=0-0"}
    # As boto3's: the same proxy and the same trusted certificates. Its types allow one number for both timeouts only.
    bundle = botocore.session.get_session().get_config_variable("ca_bundle")
    session = URLLib3Session(bundle or True, get_environ_proxies(signed.url), timeout)  # type: ignore[arg-type]
    with closing(session):
        if has_object:
            answer = session.send(AWSRequest("GET", signed.url, headers).prepare())
            if answer.status_code not in (200, 206):
                refusal = _status(answer)
        for origin in origins:
            answers = [session.send(_preflight(signed.url, origin, method)) for method in _METHODS]
            if has_object:
                answers.append(session.send(AWSRequest("GET", signed.url, {**headers, "Origin": origin}).prepare()))
            faults += _faults(origin, answers[: len(_METHODS)], answers[-1])
    return refusal, faults


def _preflight(url: str, origin: str, method: str) -> AWSPreparedRequest:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": ",".join(_REQUEST_FIELDS),
    }
    return AWSRequest("OPTIONS", url, headers).prepare()


def _faults(origin: str, preflights: Sequence[AWSResponse], last: AWSResponse) -> Iterator[str]:
    """What keeps pages of an origin from reading; the fields of the last answer say what they may see."""
    page = _PAGES.get(origin, f"a page of {origin}")
    refused = defaultdict[str, list[str]](list)
    for method, answer in zip(_METHODS, preflights, strict=True):
        if answer.status_code not in (200, 204):
            refused[f"is refused with {_status(answer)}"].append(method)
        elif not _allows_origin(origin, answer):
            refused["is not allowed"].append(method)
        elif forbidden := _unlisted(_REQUEST_FIELDS, answer, "Access-Control-Allow-Headers"):
            refused[f"may not send {' and '.join(forbidden)}"].append(method)
    for fault, methods in refused.items():
        yield f"{page} {fault} (preflight for {' and '.join(methods)})"
    hidden = _unlisted(_ANSWER_FIELDS, last, "Access-Control-Expose-Headers")
    if not refused and not _allows_origin(origin, last):
        yield f"{page} may not see answers"
    elif not refused and hidden:
        yield f"{page} may not see {', '.join(hidden)} in answers"


def _allows_origin(origin: str, answer: AWSResponse) -> bool:
    return answer.headers.get("Access-Control-Allow-Origin") in ("*", origin)


def _unlisted(names: Sequence[str], answer: AWSResponse, field: str) -> Sequence[str]:
    """The names that a header field does not list."""
    listed = {name.strip().lower() for name in answer.headers.get(field, "").split(",")}
    return [] if "*" in listed else [name for name in names if name.lower() not in listed]


def _status(answer: AWSResponse) -> str:
    """The status of an answer in words, with S3's error code."""
    match = _CODE.search(answer.content)
    region = answer.headers.get("x-amz-bucket-region")
    where = f", and the bucket is in the region {region}" if region else ""
    return f"status {answer.status_code}{f' {match[1].decode()}' if match else ''}{where}"
