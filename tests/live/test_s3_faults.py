"""What S3 does wrong: each fault at each kind of request, made by a proxy between boto3 and the server."""

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from json import loads
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import faulty, files
from tests.client import Response, fetch, fetch_ticket, join
from tests.faulty import Close, Cut, Fault, FaultyProxy, Garbage, Request, Stall, StallInBody, Truncate, faulty_proxy
from tests.http.app import http_for
from tests.live.buckets import BucketHttp, application, kind, presigned, serving_bucket
from tests.s3 import OWNER, S3Server

pytestmark = pytest.mark.live

TOKEN = "dummy-session-token"
SECRETS = (OWNER.secret_key, TOKEN, "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature=")
REGION = {"referenceName": "chr1", "start": 1_000, "end": 2_000_000}

PASSING: dict[str, Fault] = {
    "SlowDown": faulty.SLOW_DOWN,
    "InternalError": faulty.INTERNAL_ERROR,
    "RequestTimeout": faulty.REQUEST_TIMEOUT,
    "429": faulty.TOO_MANY_REQUESTS,
    "503": faulty.UNAVAILABLE,
    "close": Close(),
    "garbage": Garbage(),
    "stall": Stall(),
}
IN_BODY: dict[str, Fault] = {
    "cut at once": Cut(),
    "cut": Cut(100),
    "truncated": Truncate(100),
    "truncated without a length": Truncate(100, announced=False),
    "stall in body": StallInBody(100),
}
DENIED = "the storage 'cohort' does not let this server read it"
LASTING: dict[str, tuple[Fault, str]] = {
    "AccessDenied": (faulty.ACCESS_DENIED, DENIED),
    "NoSuchBucket": (faulty.NO_SUCH_BUCKET, "the bucket of the storage 'cohort' does not exist"),
    "InvalidObjectState": (
        faulty.INVALID_OBJECT_STATE,
        "the file is in the archive of the storage 'cohort', and has to be restored first",
    ),
    "ExpiredToken": (faulty.EXPIRED_TOKEN, "this server's credentials for the storage 'cohort' have expired"),
    "InvalidAccessKeyId": (
        faulty.INVALID_ACCESS_KEY_ID,
        "the storage 'cohort' does not know this server's credentials",
    ),
    "RequestTimeTooSkewed": (
        faulty.REQUEST_TIME_TOO_SKEWED,
        "the clocks of this server and of the storage 'cohort' do not agree",
    ),
}


@pytest.fixture(scope="module")
def proxy(versitygw: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(versitygw.endpoint) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _sound(proxy: FaultyProxy) -> Iterator[None]:
    """No fault is left of another test."""
    proxy.rules = []
    proxy.clear()
    yield
    proxy.rules = []
    proxy.latency = 0.0


@pytest.fixture(scope="module")
def bam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, `straddling.bam`, whose chunks are cut at both edges."""
    return files.bam_straddling(tmp_path_factory.mktemp("faults") / "")


@pytest.fixture(scope="module")
def bucket(versitygw: S3Server) -> str:
    return versitygw.create_bucket()


@pytest.fixture
def folder(versitygw: S3Server, bucket: str, bam: Path) -> str:
    """A folder with the file and its index, of which nothing is remembered."""
    name = uuid.uuid4().hex
    for suffix in ("", ".bai"):
        versitygw.put(bucket, f"{name}/a.bam{suffix}", Path(f"{bam}{suffix}"))
    return name


@dataclass(frozen=True)
class Ways:
    """Applications that make tickets with presigned URLs, and that deliver all bytes themselves."""

    signing: BucketHttp
    proxying: BucketHttp


def ways(server: S3Server, bucket: str, proxy: FaultyProxy, **storage: object) -> Ways:
    made = [
        application(server, bucket, endpoint=proxy.url, storage={"proxy": proxies, "read_timeout": 0.7, **storage})
        for proxies in (False, True)
    ]
    return Ways(*made)


@pytest.fixture(scope="module")
def patient(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> Ways:
    return ways(versitygw, bucket, proxy)


@pytest.fixture(scope="module")
def impatient(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> Ways:
    """With two attempts only, so that what fails fails soon."""
    return ways(versitygw, bucket, proxy, max_attempts=2)


@dataclass(frozen=True)
class Kind:
    """A kind of request: to recognise it, to provoke it, and what is then the answer."""

    is_meant: Callable[[Request], bool]
    ask: Callable[[Ways, str], Response]
    expected: Callable[[Ways, str, Path, Response], bool]
    """Whether an answer is right, for the folder, the file, and the answer."""
    has_body: bool = True


def _is_signed_for_clients(request: Request) -> bool:
    return "X-Amz-Signature=" in request.target


def _ticket(present: Ways, folder: str) -> Response:
    query = "&".join(f"{name}={value}" for name, value in REGION.items())
    return present.signing.get(f"/reads/{folder}/a?{query}")


def _is_ticket(present: Ways, _: str, bam: Path, answer: Response) -> bool:
    expected = fetch(http_for(bam.parent), "/reads/straddling", **REGION)
    return join(present.signing, loads(answer.body)) == expected


def _block(present: Ways, folder: str) -> Response:
    entries = fetch_ticket(present.proxying, f"/reads/{folder}/a")["htsget"]["urls"]
    # The header is remembered: only the block's own bytes are asked for.
    block = max((entry["url"] for entry in entries), key=lambda url: "/blocks/" in url)
    return present.proxying.get(block)


def _is_block(present: Ways, folder: str, bam: Path, answer: Response) -> bool:
    proxied = present.proxying
    ticket = fetch_ticket(proxied, f"/reads/{folder}/a")
    whole = join(proxied, ticket)
    return whole == fetch(http_for(bam.parent), "/reads/straddling") and answer.body in whole


def _file(present: Ways, folder: str) -> Response:
    return present.proxying.get(f"/files/cohort/{folder}/a.bam")


def _is_file(_: Ways, __: str, bam: Path, answer: Response) -> bool:
    return answer.body == bam.read_bytes()


def _head(present: Ways, folder: str) -> Response:
    with present.signing.client.head(f"/files/cohort/{folder}/a.bam") as answer:
        return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.get_data())


def _is_head(_: Ways, __: str, bam: Path, answer: Response) -> bool:
    return answer.headers["content-length"] == str(bam.stat().st_size)


def _starts(request: Request, at_start: bool) -> bool:
    is_data = kind(request) == "GET a.bam" and not _is_signed_for_clients(request)
    return is_data and request.headers["range"].startswith("bytes=0-") == at_start


KINDS = {
    "list": Kind(lambda request: kind(request) == "LIST", _ticket, _is_ticket),
    "head": Kind(lambda request: kind(request) in ("HEAD a.bam", "HEAD bucket"), _head, _is_head, has_body=False),
    "header": Kind(lambda request: _starts(request, True), _ticket, _is_ticket),
    "index": Kind(lambda request: kind(request) == "GET a.bam.bai", _ticket, _is_ticket),
    "edge": Kind(lambda request: _starts(request, False), _ticket, _is_ticket),
    "block": Kind(lambda request: _starts(request, False), _block, _is_block),
    "file": Kind(lambda request: kind(request) == "GET a.bam", _file, _is_file),
}
CASES = [
    (name, fault)
    for name, meant in KINDS.items()
    for fault in (*PASSING, *(IN_BODY if meant.has_body else ()))
]


def is_meant(meant: Kind) -> Callable[[Request], bool]:
    """To recognise a kind of request; what it takes to find out why HEAD was refused belongs to it."""
    if meant.has_body:
        return meant.is_meant
    return lambda request: meant.is_meant(request) or kind(request) == "GET a.bam"


def is_discreet(answer: Response) -> bool:
    """Whether an answer tells no secret."""
    text = answer.body.decode("utf-8", "replace") + repr(answer.headers)
    assert not [secret for secret in (*SECRETS, OWNER.access_key, "127.0.0.1") if secret in text]
    return True


def error(answer: Response) -> tuple[int, str, str]:
    """Status, type and message of an error in htsget's form, which tells no secret."""
    assert is_discreet(answer)
    if not answer.body:
        return answer.status, "", ""
    found = loads(answer.body)["htsget"]
    return answer.status, found["error"], found["message"]


@pytest.mark.parametrize(("meant", "fault"), CASES)
class TestWhatMayPass:
    def test_passes(
        self, patient: Ways, proxy: FaultyProxy, folder: str, bam: Path, meant: str, fault: str
    ) -> None:
        known = KINDS[meant]
        proxy.rules = [faulty.next_ones({**PASSING, **IN_BODY}[fault], when=is_meant(known))]
        answer = known.ask(patient, folder)
        assert proxy.faults == 1
        assert answer.status == 200
        is_right = known.expected(patient, folder, bam, answer)
        assert is_right

    def test_or_is_told_to_who_asked(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, meant: str, fault: str
    ) -> None:
        known = KINDS[meant]
        proxy.rules = [faulty.always({**PASSING, **IN_BODY}[fault], when=is_meant(known))]
        answer = known.ask(impatient, folder)
        status, name, message = error(answer)
        assert status == 503
        assert "retry-after" in answer.headers
        if known.has_body:
            assert name == "ServiceUnavailable"
            assert "the storage 'cohort' does not answer now" in message
        assert 2 <= len([request for request in proxy.requests if known.is_meant(request)]) <= 8


@pytest.mark.parametrize("meant", KINDS)
@pytest.mark.parametrize("fault", LASTING)
class TestWhatDoesNotPass:
    def test_is_told_with_a_reason(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, meant: str, fault: str
    ) -> None:
        known, (made, reason) = KINDS[meant], LASTING[fault]
        recognise = is_meant(known)
        if (meant, fault) == ("list", "AccessDenied"):
            # To list and to read are different permissions.
            recognise = lambda request: True  # noqa: E731
        proxy.rules = [faulty.always(made, when=recognise)]
        status, name, message = error(known.ask(impatient, folder))
        assert status == 500
        if known.has_body:
            assert (name, message) == ("InternalServerError", reason)

    def test_and_when_it_is_mended_all_is_well(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, bam: Path, meant: str, fault: str
    ) -> None:
        known = KINDS[meant]
        proxy.rules = [faulty.always(LASTING[fault][0], when=is_meant(known))]
        known.ask(impatient, folder)
        proxy.rules = []
        is_right = known.expected(impatient, folder, bam, known.ask(impatient, folder))
        assert is_right
