"""What attackers send: ids in odd encodings, forged tokens, modified signed URLs, odd header fields."""

import hashlib
import hmac
import json
import random
import string
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import jwt

from tests.support.issuer import Issuer, Key, unsigned

# Each encodes the id of the file x in a folder, given the folder's name, as part of a URL's path.
ENCODINGS: tuple[Callable[[str], str], ...] = (
    lambda name: f"{name}/x",
    lambda name: f"{name}%2Fx",
    lambda name: f"{name}%2fx",
    lambda name: f"{name[:3]}%{ord(name[3]):02x}{name[4:]}/x",
    lambda name: f"%{ord(name[0]):02X}{name[1:]}/x",
    lambda name: f"{name}//x",
    lambda name: f"/{name}/x",
    lambda name: f"//{name}/x",
    lambda name: f"./{name}/x",
    lambda name: f"{name}/./x",
    lambda name: f"{name}/../{name}/x",
    lambda name: f"open/../{name}/x",
    lambda name: f"open/%2e%2e/{name}/x",
    lambda name: f"open%2f..%2f{name}%2fx",
    lambda name: f"..%2fdata/{name}/x",
    lambda name: f"....//{name}/x",
    lambda name: f"open/x/../../{name}/x",
    lambda name: f"open/x%2f..%2f..%2f{name}%2fx",
    lambda name: f"open/link/../{name}/x",
    lambda name: f"{name}/x.bam",
    lambda name: f"{name}/x.bam.bai",
    lambda name: f"{name}/x.txt",
    lambda name: f"{name}/X",
    lambda name: f"{name}/x/",
    lambda name: f"{name}/x%00",
    lambda name: f"{name}/x%00.bam",
    lambda name: f"%00{name}/x",
    lambda name: f"open/x%00{name}/x",
    lambda name: f"{name}/x%20",
    lambda name: f"%20{name}/x",
    lambda name: f"{name}/x.",
    lambda name: f"{name}/x%0a",
    lambda name: f"{name}/x%0d%0aX-Header:%20y",
    lambda name: f"{name}%5Cx",
    lambda name: f"open%5C..%5C{name}%5Cx",
    lambda name: f"{name}/x;a=b",
    lambda name: f"{name};/x",
    lambda name: f"{name}/x%3Fformat=BAM",
    lambda name: f"{name}/x%23",
    lambda name: f"{name}/x?id=open/x",
    lambda name: f"{name}/x?dataset_id=open/x",
    lambda name: f"{name}/x?key=open/x.txt",
    lambda name: f"{name}%E2%88%95x",
    lambda name: f"{name}%EF%BC%8Fx",
    lambda name: f"{name}%c0%afx",
    lambda name: f"{name}/%c0%ae/x",
    lambda name: f"{name}/x%ff",
    lambda name: f"{name}%252Fx",
    lambda name: f"%25{ord(name[0]):02x}{name[1:]}/x",
    lambda name: f"{name}/x%e2%80%8b",
    lambda name: f"{name}/x%",
    lambda name: f"{name}/%",
    lambda name: f"{name.upper()}/x",
    lambda name: f"[{name[0]}]{name[1:]}/x",
    lambda name: f"{name[:2]}*/x",
    lambda name: f"file:%2f%2f/{name}/x",
)

# Paths; `{}` stands for the encoded id.
ENDPOINTS = ("/reads/{}", "/variants/{}", "/blocks/0-0/header/reads/BAM/{}", "/files/data/{}", "/sequence/{}")
PAGE = "/page/dataset?id={}"


def forged_tokens(issuer: Issuer) -> Iterator[str]:
    """Tokens that this issuer did not sign, that are for another service, or that are not valid now."""
    yield from _tokens_of_other_keys(issuer)
    yield from _tokens_with_other_claims(issuer)
    yield from _damaged_tokens(issuer.token())


def _tokens_of_other_keys(issuer: Issuer) -> Iterator[str]:
    claims = issuer.claims()
    stranger = Issuer(url=issuer.url, keys=[Key(key.key_id, key.algorithm) for key in issuer.keys])
    unsigned_algorithms: tuple[object, ...] = ("none", "None", "NONE", "nOnE", "", " none", "none ", None, 0, [], {})
    for algorithm in unsigned_algorithms:
        yield unsigned(claims, {"alg": algorithm, "typ": "JWT"})
    for key in issuer.keys:
        secrets = (key.public_pem, key.public_pem.strip(), json.dumps(key.jwk).encode(), key.key_id.encode(), b"", b"0")
        for secret in secrets:
            for size in ("256", "384", "512"):
                header = {"alg": f"HS{size}", "kid": key.key_id}
                content = unsigned(claims, header).rpartition(".")[0]
                yield unsigned(claims, header, hmac.digest(secret, content.encode(), hashlib.new(f"sha{size}").name))
    for key in stranger.keys:
        headers: tuple[dict[str, object], ...] = (
            {},
            {"jwk": key.jwk},
            {"jku": "http://127.0.0.1:1/jwks"},
            {"x5u": "http://127.0.0.1:1/certificate"},
            {"x5c": ["AAAA"]},
            {"crit": ["b64"], "b64": False},
            {"kid": "another"},
            {"kid": ""},
            {"kid": "../../dev/null"},
            {"kid": "' or 1=1 --"},
        )
        for fields in headers:
            yield jwt.encode(claims, key.private, key.algorithm, headers={"kid": key.key_id, **fields})


def _tokens_with_other_claims(issuer: Issuer) -> Iterator[str]:
    bad_claims: tuple[dict[str, object], ...] = (
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": "9999999999"},
        {"exp": True},
        {"nbf": 5_000_000_000},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"aud": ["another"]},
        {"iss": "https://other.example.org"},
        {"iss": issuer.url + "/"},
        {"iss": None},
        {"sub": None},
    )
    for changes in bad_claims:
        # PyJWT refuses to encode some of these, so they are signed here.
        yield _sign(issuer, issuer.claims(**changes))
    for kind in ("logout+jwt", "secevent+jwt", "dpop+jwt", "vnd.ga4gh.visa+jwt", "vnd.ga4gh.passport+jwt"):
        yield _sign(issuer, issuer.claims(), typ=kind)


def _damaged_tokens(good: str) -> Iterator[str]:
    head, body, signature = good.split(".")
    yield from (
        f"{head}.{body}",
        f"{head}.{body}.",
        f".{body}.{signature}",
        f"{head}..{signature}",
        f"{good}.",
        "." * 9,
    )
    yield from (f"{good}{good}", good[::-1], f"{head}.{head}.{signature}", good.replace(".", ".."), "e30.e30.e30")
    rng = random.Random(7)
    for _ in range(150):
        index = rng.randrange(len(good) - 2)
        if good[index] != ".":
            other = rng.choice((string.ascii_letters + string.digits).replace(good[index], ""))
            yield good[:index] + other + good[index + 1 :]


def _sign(issuer: Issuer, claims: dict[str, object], **fields: object) -> str:
    key = next(key for key in issuer.keys if key.algorithm == "EdDSA")
    header = {"alg": "EdDSA", "kid": key.key_id, **fields}
    content = unsigned(claims, header).rpartition(".")[0]
    signature: bytes = key.private.sign(content.encode())
    return unsigned(claims, header, signature)


def modified_urls(url: str, other: str, rng: random.Random) -> Iterator[str]:
    """The path and query of a signed URL with one change each; `other` is the signed URL of another resource."""
    target = "{0.path}?{0.query}".format(urlsplit(url))
    letters = string.ascii_letters + string.digits + "-_./%=&"
    for index in range(1, len(target)):
        for letter in rng.sample(letters.replace(target[index], ""), 2):
            yield target[:index] + letter + target[index + 1 :]
        yield target[:index] + target[index + 1 :]
    path, _, query = target.partition("?")
    foreign = urlsplit(other).query
    expires, signature = query.split("&")
    seconds = int(expires.removeprefix("expires="))
    yield path
    yield f"{path}?{signature}&{expires}"
    yield f"{path}?{foreign}"
    yield f"{path}?{expires}&signature="
    yield f"{path}?{expires}&{signature}&{signature}"
    yield f"{path}?{foreign}&{query}"
    yield f"{path}?{query}&{foreign}"
    yield f"{path}?expires={seconds + 1}&{signature}"
    yield f"{path}?expires=0{seconds}&{signature}"
    yield f"{path}?expires=%2B{seconds}&{signature}"
    yield f"{path}?expires={seconds}.0&{signature}"
    yield f"{path}?expires={seconds}&expires=99999999999&{signature}"
    yield f"{path.replace('open', 'closed')}?{query}"
    yield f"{path.replace('BAM', 'CRAM')}?{query}"
    yield f"{path.replace('/reads/', '/variants/')}?{query}"
    yield f"/files/data/closed/x.txt?{query}"
    yield f"{path}/../../closed/x?{query}"


FIELDS = (
    "Accept",
    "Accept-Charset",
    "Accept-Encoding",
    "Accept-Language",
    "Access-Control-Request-Headers",
    "Access-Control-Request-Method",
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Cookie",
    "Date",
    "Forwarded",
    "From",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Max-Forwards",
    "Origin",
    "Pragma",
    "Range",
    "Referer",
    "TE",
    "User-Agent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-HTTP-Method-Override",
    "X-Request-ID",
    "X-Sendfile-Type",
)

VALUES = (
    "",
    " ",
    ",",
    ";",
    "*",
    '"',
    '""',
    'W/"',
    "bytes=",
    "bytes=-",
    "bytes=0-",
    "bytes=-0",
    "bytes=5-1",
    "bytes=0-0,2-2," * 50,
    "bytes=99999999999999999999-",
    "bytes=\u00b2-\u00b3",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 99 Foo -001 99:99:99 +9999",
    "0001-01-01",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Bearer",
    "Bearer a.b.c",
    "Basic \u00ff\u00fe",
    "application/json;q=x",
    "a" * 7_000,
    "(" * 2_000,
    '"' + "\\" * 2_000,
    "=?utf-8?b?AAAA?=",
    "http://evil.example",
    "%0d%0aX: y",
    "\t\u0080\u00ff",
    "-1",
)

ODD_QUERIES = (
    "?",
    "?&&&",
    "?=",
    "?a",
    "?start",
    "?start=",
    "?start=-1",
    "?start=%D9%A1",
    "?start=1e3",
    "?referenceName=",
    "?referenceName=%ff",
    "?referenceName=%00",
    "?referenceName=x&start=1&start=2",
    "?format=",
    "?format=%F0%9F%92%A9",
    "?class=header&class=body",
    "?fields=" + "QNAME," * 900,
    "?tags=&notags=",
    "?" + "a=1&" * 1500,
    "?%",
    "?limit=99999999999999999999",
    "?cursor=%00",
    "?prefix=%ff",
    "?expires=1&signature=" + "A" * 43,
    "?signature=",
    "?start=0&end=99999999999999999999999999",
)

ODD_BODIES: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"{",
    b"{}",
    b"\xff\xfe",
    b'{"regions": null}',
    b'{"regions": {}}',
    b'{"regions": [[]]}',
    b'{"regions": [{}]}',
    b'{"regions": [{"referenceName": 1}]}',
    b'{"regions": [{"referenceName": "x", "start": true}]}',
    b'{"regions": [{"referenceName": "x", "start": 1e400}]}',
    b'{"regions": [{"referenceName": "x", "start": -1, "end": "5"}]}',
    b'{"format": ["BAM"]}',
    b'{"format": "\\ud800"}',
    b'{"class": {"a": 1}}',
    b'{"fields": "QNAME"}',
    b"[" * 20_000,
    b'{"a":' * 5_000,
    b'{"format": "' + b"B" * 100_000 + b'"}',
)
