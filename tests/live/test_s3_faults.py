"""What S3 does wrong: each fault at each kind of request, made by a proxy between boto3 and the server."""

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
    faulty_proxy,
)
from tests.support.files.bam import bam_straddling, bam_tiny_blocks
from tests.support.files.indexes import index_of
from tests.support.files.vcf import vcf_mid_line_blocks
from tests.support.live.buckets import BucketHttp, application, kind, serving_bucket
from tests.support.s3 import OWNER, S3Server

pytestmark = pytest.mark.live

TOKEN = "dummy-session-token"
SECRETS = (OWNER.secret_key, TOKEN, "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature=")
REGION: dict[str, Any] = {"referenceName": "chr1", "start": 1_000, "end": 2_000_000}

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
    return bam_straddling(tmp_path_factory.mktemp("faults"))


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
        application(server, bucket, endpoint=proxy.url, storage={"proxy": proxies, "read_timeout": 0.4, **storage})
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
class Truth:
    """What answers hold when nothing is wrong."""

    region: bytes
    whole: bytes
    file: bytes


@pytest.fixture(scope="module")
def truth(bam: Path) -> Truth:
    http = http_for(bam.parent)
    path = f"/reads/{bam.stem}"
    return Truth(fetch(http, path, **REGION), fetch(http, path), bam.read_bytes())


Ask = Callable[[], Response]


@dataclass(frozen=True)
class Kind:
    """A kind of request: to recognise it, to provoke it, and whether the answer that this leads to is right."""

    is_meant: Callable[[Request], bool]
    prepare: Callable[[Ways, str], Ask]
    is_right: Callable[[Ways, Truth, Response], bool]
    begins_to_answer: bool = False
    """Whether what came of a body is sent on at once."""


def _ticket(present: Ways, folder: str) -> Ask:
    query = "&".join(f"{name}={value}" for name, value in REGION.items())
    return lambda: present.signing.get(f"/reads/{folder}/a?{query}")


def _is_ticket(present: Ways, truth: Truth, answer: Response) -> bool:
    return join(present.signing, loads(answer.body)) == truth.region


def _block(present: Ways, folder: str) -> Ask:
    entries = fetch_ticket(present.proxying, f"/reads/{folder}/a")["htsget"]["urls"]
    block = next(entry["url"] for entry in entries if "/blocks/" in entry["url"])
    return lambda: present.proxying.get(block)


def _is_block(_: Ways, truth: Truth, answer: Response) -> bool:
    return len(answer.body) > 100_000 and answer.body in truth.whole


def _file(present: Ways, folder: str) -> Ask:
    return lambda: present.proxying.get(f"/files/cohort/{folder}/a.bam")


def _is_file(_: Ways, truth: Truth, answer: Response) -> bool:
    return answer.body == truth.file


def _head(present: Ways, folder: str) -> Ask:
    def ask() -> Response:
        with present.signing.client.head(f"/files/cohort/{folder}/a.bam") as answer:
            fields = {name.lower(): value for name, value in answer.headers.items()}
            return Response(answer.status_code, fields, answer.get_data())

    return ask


def _is_head(_: Ways, truth: Truth, answer: Response) -> bool:
    return answer.headers["content-length"] == str(len(truth.file))


def _is_data(request: Request) -> bool:
    return kind(request) == "GET a.bam" and "X-Amz-Signature=" not in request.target


def _is_header(request: Request) -> bool:
    # What was cut off behind some bytes is asked for from there.
    return _is_data(request) and int(request.headers["range"].removeprefix("bytes=").partition("-")[0]) <= 200


def _is_edge(request: Request) -> bool:
    return _is_data(request) and not _is_header(request)


def _is_head_request(request: Request) -> bool:
    # What it takes to find out why it was refused belongs to it.
    return kind(request) in ("HEAD a.bam", "GET a.bam", "HEAD bucket")


KINDS = {
    "list": Kind(lambda request: kind(request) == "LIST", _ticket, _is_ticket),
    "head": Kind(_is_head_request, _head, _is_head),
    "header": Kind(_is_header, _ticket, _is_ticket),
    "index": Kind(lambda request: kind(request) == "GET a.bam.bai", _ticket, _is_ticket),
    "edge": Kind(_is_edge, _ticket, _is_ticket),
    "block": Kind(_is_data, _block, _is_block),
    "file": Kind(_is_data, _file, _is_file, begins_to_answer=True),
}
FAULTS = {**PASSING, **IN_BODY}
CASES = [(name, fault) for name in KINDS for fault in FAULTS if name != "head" or fault in PASSING]


def is_discreet(answer: Response) -> bool:
    """Whether an answer tells no secret."""
    text = answer.body.decode("utf-8", "replace") + repr(answer.headers)
    assert not [secret for secret in (*SECRETS, OWNER.access_key) if secret in text]
    return True


def error(answer: Response) -> tuple[int, str, str]:
    """Status, type and message of an error in htsget's form, which tells no secret."""
    assert is_discreet(answer)
    if not answer.body:
        return answer.status, "", ""
    found = loads(answer.body)["htsget"]
    return answer.status, found["error"], found["message"]


class TestWhatMayPass:
    @pytest.mark.parametrize(("meant", "fault"), CASES)
    def test_passes(self, patient: Ways, proxy: FaultyProxy, folder: str, truth: Truth, meant: str, fault: str) -> None:
        known = KINDS[meant]
        ask = known.prepare(patient, folder)
        proxy.rules = [faulty.next_ones(FAULTS[fault], when=known.is_meant)]
        answer = ask()
        assert proxy.faults == 1
        assert answer.status == 200
        is_right = known.is_right(patient, truth, answer)
        assert is_right

    @pytest.mark.parametrize(
        ("meant", "fault"),
        [case for case in CASES if case[1] not in ("InternalError", "503")],
    )
    def test_or_is_told_to_who_asked(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, meant: str, fault: str
    ) -> None:
        known = KINDS[meant]
        ask = known.prepare(impatient, folder)
        proxy.clear()
        proxy.rules = [faulty.always(FAULTS[fault], when=known.is_meant)]
        if known.begins_to_answer and fault.startswith("truncated"):
            # Too late for another status: the connection has to end.
            with pytest.raises(ConnectionResetError):
                ask()
        else:
            answer = ask()
            status, name, message = error(answer)
            assert status == 503
            assert answer.headers["retry-after"].isdecimal()
            if meant != "head":
                assert (name, message) == ("ServiceUnavailable", "the storage 'cohort' is unavailable")
        assert 2 <= len([request for request in proxy.requests if known.is_meant(request)]) <= 8


ARCHIVED = {
    "Glacier": InArchive("a.bam"),
    "Deep Archive": InArchive("a.bam", "DEEP_ARCHIVE", {"x-amz-restore": 'ongoing-request="true"'}),
    "an archive tier": InArchive("a.bam", "INTELLIGENT_TIERING", {"x-amz-archive-status": "ARCHIVE_ACCESS"}),
}
RESTORED = InArchive(
    "a.bam", fields={"x-amz-restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2040 00:00:00 GMT"'}
)
HAS_TO_BE_RESTORED = (500, "InternalServerError", LASTING["InvalidObjectState"][1])


class TestWhatIsInTheArchive:
    @pytest.mark.parametrize("archived", ARCHIVED)
    def test_is_no_place_to_redirect_to(self, impatient: Ways, proxy: FaultyProxy, folder: str, archived: str) -> None:
        proxy.rules = [faulty.always(ARCHIVED[archived])]
        http, path = impatient.signing, f"/files/cohort/{folder}/a.bam"
        assert error(http.get(path)) == HAS_TO_BE_RESTORED
        assert [kind(request) for request in proxy.requests] == ["HEAD a.bam"]
        # What was found by a list is no other.
        assert error(http.get(f"/reads/{folder}/a")) == HAS_TO_BE_RESTORED
        assert error(http.get(path)) == HAS_TO_BE_RESTORED
        assert http.get(f"{path}.bai").status == 307

    @pytest.mark.parametrize("archived", ARCHIVED)
    def test_is_not_in_tickets_whose_blocks_were_cut_before(
        self, versitygw: S3Server, bucket: str, proxy: FaultyProxy, folder: str, archived: str
    ) -> None:
        http = application(versitygw, bucket, endpoint=proxy.url, storage={"revalidate": 0.5})
        fetch_ticket(http, f"/reads/{folder}/a", **REGION)
        proxy.rules = [faulty.always(ARCHIVED[archived])]
        time.sleep(0.6)
        if archived == "an archive tier":
            # A list does not tell: that takes a look at the object.
            assert error(http.get(f"/files/cohort/{folder}/a.bam")) == HAS_TO_BE_RESTORED
        query = "&".join(f"{name}={value}" for name, value in REGION.items())
        assert error(http.get(f"/reads/{folder}/a?{query}")) == HAS_TO_BE_RESTORED

    def test_is_served_when_it_is_restored(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, truth: Truth
    ) -> None:
        proxy.rules = [faulty.always(RESTORED)]
        http = impatient.signing
        ticket = fetch_ticket(http, f"/reads/{folder}/a", **REGION)
        assert [kind(request) for request in proxy.requests].count("HEAD a.bam") == 1
        is_equal = join(http, ticket) == truth.region
        assert is_equal
        proxy.clear()
        answer = http.get(f"/files/cohort/{folder}/a.bam")
        assert answer.status == 307 and not proxy.requests
        assert len(http.get(answer.headers["location"]).body) == len(truth.file)


class TestWhatDoesNotPass:
    @pytest.mark.parametrize(
        ("meant", "fault"),
        # To list and to read are different permissions, and a bucket that was there a moment ago is not doubted.
        [
            (meant, fault)
            for meant in KINDS
            for fault in LASTING
            if (meant, fault) not in (("list", "AccessDenied"), ("head", "NoSuchBucket"))
        ],
    )
    def test_is_told_with_a_reason(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, meant: str, fault: str
    ) -> None:
        known, (made, reason) = KINDS[meant], LASTING[fault]
        ask = known.prepare(impatient, folder)
        proxy.rules = [faulty.always(made, when=known.is_meant)]
        status, name, message = error(ask())
        assert status == 500
        if meant != "head":
            assert (name, message) == ("InternalServerError", reason)

    @pytest.mark.parametrize("meant", KINDS)
    def test_and_is_forgotten_when_it_is_mended(
        self, impatient: Ways, proxy: FaultyProxy, folder: str, truth: Truth, meant: str
    ) -> None:
        known = KINDS[meant]
        ask = known.prepare(impatient, folder)
        proxy.rules = [faulty.always(faulty.INVALID_ACCESS_KEY_ID, when=known.is_meant)]
        assert ask().status == 500
        proxy.rules = []
        is_right = known.is_right(impatient, truth, ask())
        assert is_right

    def test_where_nothing_may_be_asked(
        self, versitygw: S3Server, bucket: str, proxy: FaultyProxy, folder: str
    ) -> None:
        present = ways(versitygw, bucket, proxy)
        proxy.rules = [faulty.always(faulty.ACCESS_DENIED)]
        for known in KINDS.values():
            if known.prepare is not _block:
                status, _, message = error(known.prepare(present, folder)())
                assert (status, message) in ((500, DENIED), (500, ""))

    def test_where_there_are_no_credentials(self, versitygw: S3Server, bucket: str, folder: str) -> None:
        http = application(versitygw, bucket, credentials=None)
        for path in (f"/reads/{folder}/a", f"/files/cohort/{folder}/a.bam", "/files/cohort/"):
            assert error(http.get(path)) == (
                500,
                "InternalServerError",
                "this server has no credentials for the storage 'cohort'",
            )

    def test_where_there_is_no_bucket(self, versitygw: S3Server) -> None:
        http = application(versitygw, "test-none")
        for path in ("/reads/a", "/variants/a", "/files/cohort/a.bam", "/files/cohort/", "/blocks/e/0-1/reads/BAM/a"):
            status, _, message = error(http.get(path))
            assert (status, message) == (500, LASTING["NoSuchBucket"][1])

    def test_where_nobody_answers(self, versitygw: S3Server, bucket: str) -> None:
        http = application(versitygw, bucket, endpoint="http://127.0.0.1:9", storage={"max_attempts": 2})
        for path in ("/reads/a", "/files/cohort/a.bam"):
            assert error(http.get(path)) == (503, "ServiceUnavailable", "the storage 'cohort' is unavailable")

    def test_where_an_object_vanished_it_is_looked_for_again(
        self, patient: Ways, proxy: FaultyProxy, folder: str, truth: Truth
    ) -> None:
        for meant in ("header", "index", "edge", "file"):
            known = KINDS[meant]
            proxy.rules = [faulty.next_ones(faulty.NO_SUCH_KEY, when=known.is_meant)]
            answer = known.prepare(patient, folder)()
            assert answer.status == 200
            is_right = known.is_right(patient, truth, answer)
            assert is_right

    def test_where_ranges_are_not_heeded(self, patient: Ways, proxy: FaultyProxy, folder: str, truth: Truth) -> None:
        proxy.rules = [faulty.always(faulty.IgnoreRange(truth.file), when=_is_data)]
        status, _, message = error(_ticket(patient, folder)())
        assert (status, message) == (500, "the storage 'cohort' does not send the requested range")
        is_right = _is_file(patient, truth, _file(patient, folder)())
        assert is_right


class TestABodyThatBreaksIsReadOn:
    def test_from_where_it_broke(
        self, versitygw: S3Server, bucket: str, patient: Ways, proxy: FaultyProxy, big_folder: Path
    ) -> None:
        folder, content = uuid.uuid4().hex, (big_folder / "big.bam").read_bytes()
        versitygw.put(bucket, f"{folder}/big.bam", content)
        places = [3_500_000, 10_000_000, 100, 0]
        assert patient.proxying.client.head(f"/files/cohort/{folder}/big.bam").status_code == 200
        proxy.clear()
        proxy.rules = [faulty.next_ones(Cut(places[0]), Truncate(places[1]), Cut(places[2]), StallInBody(places[3]))]
        answer = patient.proxying.get(f"/files/cohort/{folder}/big.bam")
        is_equal = answer.body == content
        assert is_equal
        starts = [int(request.headers["range"].removeprefix("bytes=").partition("-")[0]) for request in proxy.requests]
        assert len(starts) == 5
        # Up to the last whole piece of 1 MiB that had come; what a reset finds in the system's buffers is lost with it.
        lost = [32 << 20, 1 << 20, 32 << 20, 1 << 20]
        for place, most, (before, behind) in zip(places, lost, pairwise(starts), strict=True):
            assert before + max(0, place - most) <= behind <= before + place


class Cohort:
    """Many small datasets of one bucket, the same files locally, and regions to ask for."""

    def __init__(self, server: S3Server, folder: Path, count: int) -> None:
        self.count = count
        data = folder / "data"
        data.mkdir()
        self.paths = [bam_tiny_blocks(data), bam_straddling(data), vcf_mid_line_blocks(data)]
        self.bucket = server.create_bucket()
        for place in range(count):
            path = self.paths[place % len(self.paths)]
            for part in filter(None, (path, index_of(path))):
                server.put(self.bucket, f"{place}/{part.name}", part)
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

    def ask(self, http: BucketHttp, number: int) -> str | None:
        """What is wrong with a ticket, of those with numbers, and all that it names."""
        rng = random.Random(number)
        place, start = number % self.count, rng.randrange(0, 1_000_000, 50_000)
        name, (_, endpoint, stem) = place, self._path(self.paths[place % len(self.paths)]).split("/")
        body, expected = (
            fetch(http, f"/{endpoint}/{name}/{stem}", **self._region(start)),
            self._expected[f"/{endpoint}/{stem}", start],
        )
        return None if body == expected else f"{name}/{stem} from {start}: {len(body)} bytes, not {len(expected)}"


class TestManyTickets:
    @pytest.fixture(scope="class")
    @classmethod
    def cohort(cls, versitygw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
        return Cohort(versitygw, tmp_path_factory.mktemp("cohort"), 50)

    def wrong(self, http: BucketHttp, cohort: Cohort, *, tickets: int, threads: int) -> list[str]:
        """What is wrong with tickets that threads ask for."""

        def some(thread: int) -> list[str | None]:
            own = http.again()
            return [cohort.ask(own, number) for number in range(thread, tickets, threads)]

        with ThreadPoolExecutor(threads) as pool:
            found = [fault for faults in pool.map(some, range(threads), timeout=120) for fault in faults]
        assert len(found) == tickets
        return [fault for fault in found if fault]

    def test_with_faults_at_random_have_no_wrong_byte(
        self, versitygw: S3Server, proxy: FaultyProxy, cohort: Cohort
    ) -> None:
        # With hardly any memory each ticket asks S3 anew.
        http = application(
            versitygw,
            cohort.bucket,
            endpoint=proxy.url,
            storage={"read_timeout": 1, "max_attempts": 8},
            cache={"max_bytes": 3 << 20},
            htsget={"inline_limit": 1 << 20},
        )
        made = [fault for name, fault in FAULTS.items() if name != "stall in body"]
        proxy.rules = [faulty.at_random(0.05, made, seed=1, when=lambda request: "Signature=" not in request.target)]
        assert self.wrong(http, cohort, tickets=2_000, threads=12) == []
        assert len(proxy.requests) > 1_000
        assert proxy.faults > len(proxy.requests) // 40

    def test_from_many_threads_are_all_made(self, versitygw: S3Server, proxy: FaultyProxy, cohort: Cohort) -> None:
        http = application(versitygw, cohort.bucket, endpoint=proxy.url)
        proxy.latency = 0.02
        assert self.wrong(http, cohort, tickets=1_000, threads=64) == []


class TestNothingSecretIsLogged:
    def test_with_all_faults(self, versitygw: S3Server, proxy: FaultyProxy, demo_folder: Path, tmp_path: Path) -> None:
        bucket = versitygw.create_bucket()
        versitygw.put_folder(bucket, demo_folder)
        made = [*FAULTS.values(), *(fault for fault, _ in LASTING.values())]
        with serving_bucket(
            versitygw,
            bucket,
            tmp_path,
            endpoint=proxy.url,
            storage={"read_timeout": 0.3, "max_attempts": 2, "revalidate": 0},
        ) as server:
            proxy.rules = [faulty.at_random(0.3, made, seed=2)]
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
        assert statuses == {200, 307, 500, 503}
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
