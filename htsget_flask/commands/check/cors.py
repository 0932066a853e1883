"""What web pages may do with a bucket's objects, found by asking as browsers ask (Fetch, CORS protocol).

To read a bucket's rules takes a permission of its own, and not every server has such rules: what browsers are answered
is what counts.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from htsget_flask.config import Config
from htsget_flask.storage import SignedUrl

_METHODS = ("GET", "HEAD")
_SENT = ("if-match", "range")
_SEEN = ("Content-Range", "Content-Length", "Accept-Ranges", "ETag")
# An origin that no rule names: who lets it in lets in all.
_ANY = "https://any.example"
# What browsers say of a page of one origin that another one redirected.
_REDIRECTED = "null"
_PAGES = {_ANY: "a page of any origin", _REDIRECTED: "a page that /files or /sequence redirects (Origin: null)"}

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")


class Probe(NamedTuple):
    """How a presigned URL is refused, None where it is served, and S3's code for that; what pages cannot do with it."""

    refusal: str | None
    code: str | None
    cors_faults: Sequence[str]


def page_origins(config: Config, storage_name: str) -> Sequence[str]:
    """The origins of pages that may read from this service, and so have to be let read from a storage."""
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
    """The rules that let pages of these origins read from a bucket, as JSON for `aws s3api put-bucket-cors`."""
    rule = {
        "AllowedOrigins": ["*" if origin == _ANY else origin for origin in origins],
        "AllowedMethods": _METHODS,
        "AllowedHeaders": ["*"],
        "ExposeHeaders": _SEEN,
        "MaxAgeSeconds": 3600,
    }
    return json.dumps({"CORSRules": [rule]})


def probe(signed: SignedUrl, origins: Sequence[str], *, is_there: bool, timeout: tuple[float, float]) -> Probe:
    """Ask what pages of these origins may do with a presigned URL, and for a byte behind it if the object `is_there`.

    Raises:
        HTTPClientError: without an answer (botocore's).
    """
    refusal, code, faults = None, None, list[str]()
    headers = {**signed.headers, "Range": "bytes=0-0"}
    with closing(_session(signed.url, timeout)) as session:
        if is_there:
            answer = session.send(AWSRequest("GET", signed.url, headers).prepare())
            if answer.status_code not in (200, 206):
                refusal, code = _status(answer), _code(answer)
        for origin in origins:
            answers = [session.send(_preflight(signed.url, origin, method)) for method in _METHODS]
            if is_there:
                answers.append(session.send(AWSRequest("GET", signed.url, {**headers, "Origin": origin}).prepare()))
            faults += _faults(origin, answers[: len(_METHODS)], answers[-1])
    return Probe(refusal, code, faults)


def _session(url: str, timeout: tuple[float, float]) -> URLLib3Session:
    """What fetches as boto3 does: through the same proxy, trusting the same certificates."""
    bundle = botocore.session.get_session().get_config_variable("ca_bundle")
    # Its types know one time for both only.
    return URLLib3Session(verify=bundle or True, proxies=get_environ_proxies(url), timeout=timeout)  # type: ignore[arg-type]


def _preflight(url: str, origin: str, method: str) -> AWSPreparedRequest:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": ",".join(_SENT),
    }
    return AWSRequest("OPTIONS", url, headers).prepare()


def _faults(origin: str, preflights: Sequence[AWSResponse], last: AWSResponse) -> Iterator[str]:
    """What keeps pages of an origin from reading; the last answer tells what they may see."""
    page = _PAGES.get(origin, f"a page of {origin}")
    refused = dict[str, list[str]]()
    for method, answer in zip(_METHODS, preflights, strict=True):
        unsent = _beside(_SENT, answer, "Access-Control-Allow-Headers")
        if answer.status_code not in (200, 204):
            refused.setdefault(f"is refused with {_status(answer)}", []).append(method)
        elif not _lets_in(origin, answer):
            refused.setdefault("is not let in", []).append(method)
        elif unsent:
            refused.setdefault(f"may not send {' and '.join(unsent)}", []).append(method)
    for fault, methods in refused.items():
        yield f"{page} {fault} (preflight for {' and '.join(methods)})"
    hidden = _beside(_SEEN, last, "Access-Control-Expose-Headers")
    if not refused and not _lets_in(origin, last):
        yield f"{page} may not see answers"
    elif not refused and hidden:
        yield f"{page} may not see {', '.join(hidden)} in answers"


def _lets_in(origin: str, answer: AWSResponse) -> bool:
    return answer.headers.get("Access-Control-Allow-Origin") in ("*", origin)


def _beside(names: Sequence[str], answer: AWSResponse, field: str) -> Sequence[str]:
    """Those of the names that a header field does not list."""
    listed = {name.strip().lower() for name in answer.headers.get(field, "").split(",")}
    return [] if "*" in listed else [name for name in names if name.lower() not in listed]


def _code(answer: AWSResponse) -> str | None:
    found = _CODE.search(answer.content)
    return found[1].decode() if found else None


def _status(answer: AWSResponse) -> str:
    """An answer in words, with what S3 calls it."""
    code = _code(answer)
    region = answer.headers.get("x-amz-bucket-region")
    where = f", and the bucket is in the region {region}" if region else ""
    return f"status {answer.status_code}{f' {code}' if code else ''}{where}"
