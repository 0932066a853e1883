"""Faults of S3: each fault for each kind of request, injected by a proxy between boto3 and the S3 server."""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from json import loads
from pathlib import Path
from typing import Any

import pytest

from tests.support import faulty
from tests.support.app import http_for
from tests.support.client import Response, fetch, fetch_ticket, join
from tests.support.faulty import (
    Close,
    Cut,
    Fault,
    FaultyProxy,
    Garbage,
    InArchive,
    Request,
    Stall,
    StallInBody,
    Truncate,
)
from tests.support.files.bam import bam_straddling, bam_tiny_blocks
from tests.support.files.indexes import index_of
from tests.support.files.vcf import vcf_mid_line_blocks
from tests.support.live.buckets import BucketHttp, application, request_kind, serving_bucket
from tests.support.s3 import OWNER, S3Server

pytestmark = pytest.mark.live

TOKEN = "dummy-session-token"
SECRETS = (OWNER.secret_key, TOKEN, "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature=")
REGION: dict[str, Any] = {"referenceName": "chr1", "start": 1_000, "end": 2_000_000}

TRANSIENT: dict[str, Fault] = {
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
PERMANENT: dict[str, tuple[Fault, str]] = {
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


@pytest.fixture(autouse=True)
def _no_faults(proxy: FaultyProxy) -> Iterator[None]:
    """Each test starts without rules, and leaves none."""
    proxy.rules = []
    proxy.clear()
    yield
    proxy.rules = []
    proxy.latency = 0.0


@pytest.fixture(scope="module")
def bam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, `straddling.bam`, whose chunks have to be cut at both edges."""
    return bam_straddling(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def bucket(versitygw: S3Server) -> str:
    return versitygw.create_bucket()


@pytest.fixture
def folder(versitygw: S3Server, bucket: str, bam: Path) -> str:
    """A new folder with the file and its index, of which nothing is cached."""
    name = uuid.uuid4().hex
    for suffix in ("", ".bai"):
        versitygw.put(bucket, f"{name}/a.bam{suffix}", Path(f"{bam}{suffix}"))
    return name


@dataclass(frozen=True)
class Applications:
    """An application whose tickets have presigned URLs, and one that delivers all bytes itself."""

    signing: BucketHttp
    proxying: BucketHttp


def create_applications(server: S3Server, bucket: str, proxy: FaultyProxy, **storage: object) -> Applications:
    applications = [
        application(server, bucket, endpoint=proxy.url, storage={"proxy": proxies, "read_timeout": 0.4, **storage})
        for proxies in (False, True)
    ]
    return Applications(*applications)


@pytest.fixture(scope="module")
def patient(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> Applications:
    return create_applications(versitygw, bucket, proxy)


@pytest.fixture(scope="module")
def impatient(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> Applications:
    """Applications that try requests only twice, so that they fail soon."""
    return create_applications(versitygw, bucket, proxy, max_attempts=2)


@dataclass(frozen=True)
class Truth:
    """The contents of answers without faults."""

    region: bytes
    whole: bytes
    file: bytes


@pytest.fixture(scope="module")
def truth(bam: Path) -> Truth:
    http = http_for(bam.parent)
    path = f"/reads/{bam.stem}"
    return Truth(fetch(http, path, **REGION), fetch(http, path), bam.read_bytes())


Fetch = Callable[[], Response]


@dataclass(frozen=True)
class Kind:
    """A kind of request to S3: how to recognise it, how to cause it, and whether the resulting answer is right."""

    matches: Callable[[Request], bool]
    prepare: Callable[[Applications, str], Fetch]
    is_right: Callable[[Applications, Truth, Response], bool]
    begins_to_answer: bool = False
    """Whether a received part of a body is sent on at once."""


def _ticket(applications: Applications, folder: str) -> Fetch:
    query = "&".join(f"{name}={value}" for name, value in REGION.items())
    return lambda: applications.signing.get(f"/reads/{folder}/a?{query}")


def _is_ticket(applications: Applications, truth: Truth, answer: Response) -> bool:
    return join(applications.signing, loads(answer.body)) == truth.region


def _block(applications: Applications, folder: str) -> Fetch:
    entries = fetch_ticket(applications.proxying, f"/reads/{folder}/a")["htsget"]["urls"]
    block = next(entry["url"] for entry in entries if "/blocks/" in entry["url"])
    return lambda: applications.proxying.get(block)


def _is_block(_: Applications, truth: Truth, answer: Response) -> bool:
    return len(answer.body) > 100_000 and answer.body in truth.whole


def _file(applications: Applications, folder: str) -> Fetch:
    return lambda: applications.proxying.get(f"/files/cohort/{folder}/a.bam")


def _is_file(_: Applications, truth: Truth, answer: Response) -> bool:
    return answer.body == truth.file


def _head(applications: Applications, folder: str) -> Fetch:
    return lambda: applications.signing.request("HEAD", f"/files/cohort/{folder}/a.bam")


def _is_head(_: Applications, truth: Truth, answer: Response) -> bool:
    return answer.headers["content-length"] == str(len(truth.file))


def _is_data(request: Request) -> bool:
    return request_kind(request) == "GET a.bam" and "X-Amz-Signature=" not in request.target


def _is_header(request: Request) -> bool:
    # A body that was cut off is requested again from the byte after the cut.
    return _is_data(request) and int(request.headers["range"].removeprefix("bytes=").partition("-")[0]) <= 200


def _is_edge(request: Request) -> bool:
    return _is_data(request) and not _is_header(request)


def _is_head_request(request: Request) -> bool:
    # The requests that find the reason for a refusal belong to it.
    return request_kind(request) in ("HEAD a.bam", "GET a.bam", "HEAD bucket")


KINDS = {
    "list": Kind(lambda request: request_kind(request) == "LIST", _ticket, _is_ticket),
    "head": Kind(_is_head_request, _head, _is_head),
    "header": Kind(_is_header, _ticket, _is_ticket),
    "index": Kind(lambda request: request_kind(request) == "GET a.bam.bai", _ticket, _is_ticket),
    "edge": Kind(_is_edge, _ticket, _is_ticket),
    "block": Kind(_is_data, _block, _is_block),
    "file": Kind(_is_data, _file, _is_file, begins_to_answer=True),
}
FAULTS = {**TRANSIENT, **IN_BODY}
CASES = [(name, fault) for name in KINDS for fault in FAULTS if name != "head" or fault in TRANSIENT]


def is_discreet(answer: Response) -> bool:
    """Whether an answer contains no secret."""
    text = answer.body.decode("utf-8", "replace") + repr(answer.headers)
    assert not [secret for secret in (*SECRETS, OWNER.access_key) if secret in text]
    return True


def error(answer: Response) -> tuple[int, str, str]:
    """Status, type and message of an htsget error; it must not contain a secret."""
    assert is_discreet(answer)
    if not answer.body:
        return answer.status, "", ""
    content = loads(answer.body)["htsget"]
    return answer.status, content["error"], content["message"]


class TestTransientFaults:
    @pytest.mark.parametrize(("name", "fault"), CASES)
    def test_are_retried(
        self, patient: Applications, proxy: FaultyProxy, folder: str, truth: Truth, name: str, fault: str
    ) -> None:
        kind = KINDS[name]
        fetch = kind.prepare(patient, folder)
        proxy.rules = [faulty.next_ones(FAULTS[fault], when=kind.matches)]
        answer = fetch()
        assert proxy.faults == 1
        assert answer.status == 200
        is_right = kind.is_right(patient, truth, answer)
        assert is_right

    @pytest.mark.parametrize(
        ("name", "fault"),
        [case for case in CASES if case[1] not in ("InternalError", "503")],
    )
    def test_are_reported_if_they_persist(
        self, impatient: Applications, proxy: FaultyProxy, folder: str, name: str, fault: str
    ) -> None:
        kind = KINDS[name]
        fetch = kind.prepare(impatient, folder)
        proxy.clear()
        proxy.rules = [faulty.always(FAULTS[fault], when=kind.matches)]
        if kind.begins_to_answer and fault.startswith("truncated"):
            # Too late for another status: the connection has to end.
            with pytest.raises(ConnectionResetError):
                fetch()
        else:
            answer = fetch()
            status, type_, message = error(answer)
            assert status == 503
            assert answer.headers["retry-after"].isdecimal()
            if name != "head":
                assert (type_, message) == ("ServiceUnavailable", "the storage 'cohort' is unavailable")
        assert 2 <= len([request for request in proxy.requests if kind.matches(request)]) <= 8


ARCHIVED = {
    "Glacier": InArchive("a.bam"),
    "Deep Archive": InArchive("a.bam", "DEEP_ARCHIVE", {"x-amz-restore": 'ongoing-request="true"'}),
    "an archive tier": InArchive("a.bam", "INTELLIGENT_TIERING", {"x-amz-archive-status": "ARCHIVE_ACCESS"}),
}
RESTORED = InArchive(
    "a.bam", fields={"x-amz-restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2040 00:00:00 GMT"'}
)
HAS_TO_BE_RESTORED = (500, "InternalServerError", PERMANENT["InvalidObjectState"][1])


class TestArchivedFiles:
    @pytest.mark.parametrize("archived", ARCHIVED)
    def test_are_not_redirected_to(
        self, impatient: Applications, proxy: FaultyProxy, folder: str, archived: str
    ) -> None:
        proxy.rules = [faulty.always(ARCHIVED[archived])]
        http, path = impatient.signing, f"/files/cohort/{folder}/a.bam"
        assert error(http.get(path)) == HAS_TO_BE_RESTORED
        assert [request_kind(request) for request in proxy.requests] == ["HEAD a.bam"]
        # The same object found by a list is treated alike.
        assert error(http.get(f"/reads/{folder}/a")) == HAS_TO_BE_RESTORED
        assert error(http.get(path)) == HAS_TO_BE_RESTORED
        assert http.get(f"{path}.bai").status == 307

    @pytest.mark.parametrize("archived", ARCHIVED)
    def test_have_no_tickets_even_if_their_edges_are_cached(
        self, versitygw: S3Server, bucket: str, proxy: FaultyProxy, folder: str, archived: str
    ) -> None:
        http = application(versitygw, bucket, endpoint=proxy.url, storage={"revalidate": 0.5})
        fetch_ticket(http, f"/reads/{folder}/a", **REGION)
        proxy.rules = [faulty.always(ARCHIVED[archived])]
        time.sleep(0.6)
        if archived == "an archive tier":
            # A list does not report this, only the object itself does.
            assert error(http.get(f"/files/cohort/{folder}/a.bam")) == HAS_TO_BE_RESTORED
        query = "&".join(f"{name}={value}" for name, value in REGION.items())
        assert error(http.get(f"/reads/{folder}/a?{query}")) == HAS_TO_BE_RESTORED

    def test_are_served_when_they_are_restored(
        self, impatient: Applications, proxy: FaultyProxy, folder: str, truth: Truth
    ) -> None:
        proxy.rules = [faulty.always(RESTORED)]
        http = impatient.signing
        ticket = fetch_ticket(http, f"/reads/{folder}/a", **REGION)
        assert [request_kind(request) for request in proxy.requests].count("HEAD a.bam") == 1
        is_equal = join(http, ticket) == truth.region
        assert is_equal
        proxy.clear()
        answer = http.get(f"/files/cohort/{folder}/a.bam")
        assert answer.status == 307 and not proxy.requests
        assert len(http.get(answer.headers["location"]).body) == len(truth.file)


class TestPermanentFaults:
    @pytest.mark.parametrize(
        ("name", "fault"),
        # Listing and reading are separate permissions; a bucket that existed a moment ago is not checked again.
        [
            (name, fault)
            for name in KINDS
            for fault in PERMANENT
            if (name, fault) not in (("list", "AccessDenied"), ("head", "NoSuchBucket"))
        ],
    )
    def test_are_reported_with_a_reason(
        self, impatient: Applications, proxy: FaultyProxy, folder: str, name: str, fault: str
    ) -> None:
        kind, (answer, reason) = KINDS[name], PERMANENT[fault]
        fetch = kind.prepare(impatient, folder)
        proxy.rules = [faulty.always(answer, when=kind.matches)]
        status, type_, message = error(fetch())
        assert status == 500
        if name != "head":
            assert (type_, message) == ("InternalServerError", reason)

    @pytest.mark.parametrize("name", KINDS)
    def test_are_forgotten_once_they_are_mended(
        self, impatient: Applications, proxy: FaultyProxy, folder: str, truth: Truth, name: str
    ) -> None:
        kind = KINDS[name]
        fetch = kind.prepare(impatient, folder)
        proxy.rules = [faulty.always(faulty.INVALID_ACCESS_KEY_ID, when=kind.matches)]
        assert fetch().status == 500
        proxy.rules = []
        is_right = kind.is_right(impatient, truth, fetch())
        assert is_right

    def test_without_any_permission(self, versitygw: S3Server, bucket: str, proxy: FaultyProxy, folder: str) -> None:
        applications = create_applications(versitygw, bucket, proxy)
        proxy.rules = [faulty.always(faulty.ACCESS_DENIED)]
        for kind in KINDS.values():
            if kind.prepare is not _block:
                status, _, message = error(kind.prepare(applications, folder)())
                assert (status, message) in ((500, DENIED), (500, ""))

    def test_without_credentials(self, versitygw: S3Server, bucket: str, folder: str) -> None:
        http = application(versitygw, bucket, credentials=None)
        for path in (f"/reads/{folder}/a", f"/files/cohort/{folder}/a.bam", "/files/cohort/"):
            assert error(http.get(path)) == (
                500,
                "InternalServerError",
                "this server has no credentials for the storage 'cohort'",
            )

    def test_without_a_bucket(self, versitygw: S3Server) -> None:
        http = application(versitygw, "test-none")
        for path in ("/reads/a", "/variants/a", "/files/cohort/a.bam", "/files/cohort/", "/blocks/e/0-1/reads/BAM/a"):
            status, _, message = error(http.get(path))
            assert (status, message) == (500, PERMANENT["NoSuchBucket"][1])

    def test_without_a_listening_server(self, versitygw: S3Server, bucket: str) -> None:
        http = application(versitygw, bucket, endpoint="http://127.0.0.1:9", storage={"max_attempts": 2})
        for path in ("/reads/a", "/files/cohort/a.bam"):
            assert error(http.get(path)) == (503, "ServiceUnavailable", "the storage 'cohort' is unavailable")

    def test_a_deleted_object_is_searched_again(
        self, patient: Applications, proxy: FaultyProxy, folder: str, truth: Truth
    ) -> None:
        for name in ("header", "index", "edge", "file"):
            kind = KINDS[name]
            proxy.rules = [faulty.next_ones(faulty.NO_SUCH_KEY, when=kind.matches)]
            answer = kind.prepare(patient, folder)()
            assert answer.status == 200
            is_right = kind.is_right(patient, truth, answer)
            assert is_right

    def test_ignored_ranges(self, patient: Applications, proxy: FaultyProxy, folder: str, truth: Truth) -> None:
        proxy.rules = [faulty.always(faulty.IgnoreRange(truth.file), when=_is_data)]
        status, _, message = error(_ticket(patient, folder)())
        assert (status, message) == (500, "the storage 'cohort' does not send the requested range")
        is_right = _is_file(patient, truth, _file(patient, folder)())
        assert is_right


class TestAnInterruptedBodyIsResumed:
    def test_after_the_last_complete_buffer(
        self, versitygw: S3Server, bucket: str, patient: Applications, proxy: FaultyProxy, big_folder: Path
    ) -> None:
        folder, content = uuid.uuid4().hex, (big_folder / "big.bam").read_bytes()
        versitygw.put(bucket, f"{folder}/big.bam", content)
        cuts = [3_500_000, 10_000_000, 100, 0]
        assert patient.proxying.client.head(f"/files/cohort/{folder}/big.bam").status_code == 200
        proxy.clear()
        proxy.rules = [faulty.next_ones(Cut(cuts[0]), Truncate(cuts[1]), Cut(cuts[2]), StallInBody(cuts[3]))]
        answer = patient.proxying.get(f"/files/cohort/{folder}/big.bam")
        is_equal = answer.body == content
        assert is_equal
        starts = [int(request.headers["range"].removeprefix("bytes=").partition("-")[0]) for request in proxy.requests]
        assert len(starts) == 5
        # It resumes after the last complete buffer of 1 MiB; a reset also loses the bytes in the system's buffers.
        max_lost = [32 << 20, 1 << 20, 32 << 20, 1 << 20]
        for cut, limit, (start, next_start) in zip(cuts, max_lost, pairwise(starts), strict=True):
            assert start + max(0, cut - limit) <= next_start <= start + cut


class Cohort:
    """Many small datasets in one bucket, the same files locally, and regions to request."""

    def __init__(self, server: S3Server, folder: Path, count: int) -> None:
        self.count = count
        data = folder / "data"
        data.mkdir()
        self.paths = [bam_tiny_blocks(data), bam_straddling(data), vcf_mid_line_blocks(data)]
        self.bucket = server.create_bucket()
        for number in range(count):
            path = self.paths[number % len(self.paths)]
            for part in filter(None, (path, index_of(path))):
                server.put(self.bucket, f"{number}/{part.name}", part)
        self._local = http_for(data)
        self._expected: dict[tuple[str, int], bytes] = {}
        for path in self.paths:
            for start in range(0, 1_000_000, 50_000):
                self._expected[self._path(path), start] = fetch(self._local, self._path(path), **self._region(start))

    @staticmethod
    def _path(path: Path) -> str:
        name = path.name
        return f"/reads/{path.stem}" if name.endswith(".bam") else f"/variants/{name.removesuffix('.vcf.gz')}"

    @staticmethod
    def _region(start: int) -> dict[str, Any]:
        return {"referenceName": "chr1", "start": start, "end": start + 5_000}

    def find_fault(self, http: BucketHttp, number: int) -> str | None:
        """Fetch the ticket of this number and its data blocks; what is wrong with them, or None."""
        rng = random.Random(number)
        folder, start = number % self.count, rng.randrange(0, 1_000_000, 50_000)
        _, endpoint, stem = self._path(self.paths[folder % len(self.paths)]).split("/")
        body = fetch(http, f"/{endpoint}/{folder}/{stem}", **self._region(start))
        expected = self._expected[f"/{endpoint}/{stem}", start]
        return None if body == expected else f"{folder}/{stem} from {start}: {len(body)} bytes, not {len(expected)}"


class TestManyTickets:
    @pytest.fixture(scope="class")
    @classmethod
    def cohort(cls, versitygw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
        return Cohort(versitygw, tmp_path_factory.mktemp("cohort"), 50)

    def find_faults(self, http: BucketHttp, cohort: Cohort, *, tickets: int, threads: int) -> list[str]:
        """Fetch tickets with several threads; what is wrong with them."""

        def fetch_share(thread: int) -> list[str | None]:
            client = http.again()
            return [cohort.find_fault(client, number) for number in range(thread, tickets, threads)]

        with ThreadPoolExecutor(threads) as pool:
            results = [fault for faults in pool.map(fetch_share, range(threads), timeout=120) for fault in faults]
        assert len(results) == tickets
        return [fault for fault in results if fault]

    def test_are_right_despite_random_faults(self, versitygw: S3Server, proxy: FaultyProxy, cohort: Cohort) -> None:
        # With a minimal cache each ticket needs new requests to S3.
        http = application(
            versitygw,
            cohort.bucket,
            endpoint=proxy.url,
            storage={"read_timeout": 1, "max_attempts": 8},
            cache={"max_bytes": 3 << 20},
            htsget={"inline_limit": 1 << 20},
        )
        faults = [fault for name, fault in FAULTS.items() if name != "stall in body"]
        proxy.rules = [faulty.at_random(0.05, faults, seed=1, when=lambda request: "Signature=" not in request.target)]
        assert self.find_faults(http, cohort, tickets=2_000, threads=12) == []
        assert len(proxy.requests) > 1_000
        assert proxy.faults > len(proxy.requests) // 40

    def test_are_right_for_many_threads(self, versitygw: S3Server, proxy: FaultyProxy, cohort: Cohort) -> None:
        http = application(versitygw, cohort.bucket, endpoint=proxy.url)
        proxy.latency = 0.02
        assert self.find_faults(http, cohort, tickets=1_000, threads=64) == []


class TestNoSecretIsLogged:
    def test_with_all_faults(self, versitygw: S3Server, proxy: FaultyProxy, demo_folder: Path, tmp_path: Path) -> None:
        bucket = versitygw.create_bucket()
        versitygw.put_folder(bucket, demo_folder)
        faults = [*FAULTS.values(), *(fault for fault, _ in PERMANENT.values())]
        with serving_bucket(
            versitygw,
            bucket,
            tmp_path,
            endpoint=proxy.url,
            storage={"read_timeout": 0.3, "max_attempts": 2, "revalidate": 0},
        ) as server:
            proxy.rules = [faulty.at_random(0.3, faults, seed=2)]
            statuses = set()
            for number in range(25):
                start = number * 20_000
                for path in (
                    f"/reads/NA00001?referenceName=chr1&start={start}&end={start + 20_000}",
                    f"/files/cohort/cohort.bcf?{number}",
                    "/files/cohort/" if number % 10 else "/",
                    "/variants/cohort",
                ):
                    answer = server.http.get(path)
                    statuses.add(answer.status)
                    if answer.status >= 400:
                        assert is_discreet(answer)
        # A HEAD that is answered with 404 does not say whether object or bucket is absent.
        assert statuses - {404} == {200, 307, 500, 503}
        log = server.log() + server.out.read_text()
        assert "the storage 'cohort' is unavailable" in log
        assert not [secret for secret in SECRETS if secret in log]

    def test_of_temporary_credentials(
        self, versitygw: S3Server, bucket: str, folder: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        http = application(versitygw, bucket, environment={"AWS_SESSION_TOKEN": TOKEN})
        for path in (f"/reads/{folder}/a", f"/files/cohort/{folder}/a.bam"):
            status, _, message = error(http.get(path))
            assert (status, message) == (500, "the storage 'cohort' does not accept this server's credentials")
        assert "InvalidToken" in caplog.text
        assert not [secret for secret in SECRETS if secret in caplog.text]
