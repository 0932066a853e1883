"""How few requests to S3 an answer takes: counted by a proxy before the server."""

import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.client import bgzf_blocks, fetch_ticket, join
from tests.support.faulty import FaultyProxy, Request, faulty_proxy
from tests.support.files.bam import Reference, bam_header, bam_long_contig, random_text
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf
from tests.support.live.buckets import STORAGE, BucketHttp, application, kind, presigned
from tests.support.s3 import STRANGER, S3Server

pytestmark = pytest.mark.live

DEMO = [
    ("reads/{}/NA00001", "BAM", ["NA00001.bam", "NA00001.bam.bai"]),
    ("reads/{}/NA00001", "CRAM", ["NA00001.cram", "NA00001.cram.crai"]),
    ("variants/{}/cohort", "VCF", ["cohort.vcf.gz", "cohort.vcf.gz.tbi"]),
    ("variants/{}/cohort", "BCF", ["cohort.bcf", "cohort.bcf.csi"]),
]
REGION: dict[str, Any] = {"referenceName": "chr1", "start": 100_000, "end": 150_000}


@pytest.fixture(scope="module")
def proxy(versitygw: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(versitygw.endpoint) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _swift(proxy: FaultyProxy) -> Iterator[None]:
    """Counts from nothing, and no latency that another test wanted."""
    proxy.clear()
    yield
    proxy.latency = 0.0


@pytest.fixture(scope="module")
def bucket(versitygw: S3Server) -> str:
    return versitygw.create_bucket()


@pytest.fixture(scope="module")
def http(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> BucketHttp:
    return application(versitygw, bucket, endpoint=proxy.url)


@pytest.fixture(scope="module")
def versioned(versitygw: S3Server, proxy: FaultyProxy) -> tuple[str, BucketHttp]:
    """A bucket that keeps versions, and an application for it that remembers nothing for long."""
    bucket = versitygw.create_bucket(versions=True)
    return bucket, application(versitygw, bucket, endpoint=proxy.url, storage={"revalidate": 1})


Put = Callable[..., str]


@pytest.fixture
def put(versitygw: S3Server, bucket: str) -> Put:
    """How to put files into a folder where nothing was before; returns the folder."""

    def put(*paths: Path, into: str = bucket) -> str:
        folder = uuid.uuid4().hex
        for path in paths:
            versitygw.put(into, f"{folder}/{path.name}", path)
        return folder

    return put


def asked(proxy: FaultyProxy) -> Counter[str]:
    """The requests since the last question, by what they asked for."""
    counts = Counter(map(kind, proxy.requests))
    for request in proxy.requests:
        if kind(request) == "LIST":
            assert len(parse_qs(urlsplit(request.target).query)["prefix"][0]) > 10
    proxy.clear()
    return counts


class TestAColdTicketTakesFewRequests:
    @pytest.mark.parametrize(("path", "form", "names"), DEMO)
    def test_of_a_region(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put, path: str, form: str, names: list[str]
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        ticket = fetch_ticket(http, f"/{path.format(folder)}", format=form, **REGION)
        counts = asked(proxy)
        data, index = (counts.pop(f"GET {name}", 0) for name in names)
        # The header, and whether the index reaches the last record.
        edges = max(0, data - 2)
        assert counts == {"LIST": 1}
        assert index == 1
        chunks = max(1, len(presigned(ticket)))
        assert edges <= (1 + chunks if form == "CRAM" else 2 * chunks)

    @pytest.mark.parametrize(("path", "form", "names"), DEMO)
    def test_of_the_whole(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put, path: str, form: str, names: list[str]
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        fetch_ticket(http, f"/{path.format(folder)}", format=form)
        counts = asked(proxy)
        # The header, the end, and the edges of what lies between.
        assert counts.pop(f"GET {names[0]}") <= 4
        assert counts == {"LIST": 1}

    @pytest.mark.parametrize(("path", "form", "names"), DEMO)
    def test_of_the_header(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put, path: str, form: str, names: list[str]
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        fetch_ticket(http, f"/{path.format(folder)}", format=form, **{"class": "header"})
        assert asked(proxy) == {"LIST": 1, f"GET {names[0]}": 1}

    def test_of_a_header_of_megabytes(self, http: BucketHttp, proxy: FaultyProxy, put: Put, tmp_path: Path) -> None:
        rng = random.Random("header")
        lines = ["@CO\t" + random_text(rng, 10_000) for _ in range(800)]
        header = bam_header([Reference("chr1", 1_000_000)], lines)
        write_bgzf(tmp_path / "a.bam", cut(header, MAX_BLOCK_DATA), level=1)
        size = (tmp_path / "a.bam").stat().st_size
        assert size > 5 << 20
        fetch_ticket(http, f"/reads/{put(tmp_path / 'a.bam')}/a", **{"class": "header"})
        spans = [span(request) for request in proxy.requests if kind(request) == "GET a.bam"]
        assert asked(proxy) == {"LIST": 1, "GET a.bam": len(spans)}
        # Each byte once, in longer and longer pieces.
        assert len(spans) <= 5
        assert [before[1] for before in spans[:-1]] == [behind[0] for behind in spans[1:]]

    def test_of_a_large_index(self, http: BucketHttp, proxy: FaultyProxy, put: Put, tmp_path: Path) -> None:
        path = bam_long_contig(tmp_path)
        folder = put(path, Path(f"{path}.csi"))
        fetch_ticket(http, f"/reads/{folder}/{path.stem}", referenceName="long")
        assert asked(proxy)[f"GET {path.name}.csi"] == 1


def span(request: Request) -> tuple[int, int]:
    """The bytes that a request asks for, half-open."""
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1


class TestAWarmTicketTakesNone:
    @pytest.mark.parametrize(("path", "form", "names"), DEMO)
    def test_of_what_was_asked_before(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put, path: str, form: str, names: list[str]
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        first = fetch_ticket(http, f"/{path.format(folder)}", format=form, **REGION)
        proxy.clear()
        assert fetch_ticket(http, f"/{path.format(folder)}", format=form, **REGION) == first
        again = {"format": form, "regions": [REGION]}
        fetch_ticket(http, f"/{path.format(folder)}", method="POST", json=again)
        fetch_ticket(http, f"/{path.format(folder)}", format=form, **{"class": "header"})
        assert not asked(proxy)

    @pytest.mark.parametrize(("path", "form", "names"), DEMO[:2])
    def test_but_for_edges_that_were_not_cut_yet(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put, path: str, form: str, names: list[str]
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        fetch_ticket(http, f"/{path.format(folder)}", format=form, **REGION)
        proxy.clear()
        fetch_ticket(http, f"/{path.format(folder)}", format=form, referenceName="chr2", start=10_000, end=90_000)
        counts = asked(proxy)
        assert 1 <= counts.pop(f"GET {names[0]}") <= 2
        assert not counts

    def test_but_for_one_look_when_the_memory_is_old(
        self, versioned: tuple[str, BucketHttp], proxy: FaultyProxy, demo_folder: Path, put: Put
    ) -> None:
        bucket, http = versioned
        path = f"/reads/{put(demo_folder / 'NA00001.bam', demo_folder / 'NA00001.bam.bai', into=bucket)}/NA00001"
        first = fetch_ticket(http, path, **REGION)
        time.sleep(1.1)
        proxy.clear()
        assert presigned(fetch_ticket(http, path, **REGION)) == presigned(first)
        assert asked(proxy) == {"LIST": 1}


class TestWhatIsAbsentIsLookedForOnce:
    @pytest.mark.parametrize("endpoint", ["reads", "variants"])
    def test_at_both_endpoints(self, http: BucketHttp, proxy: FaultyProxy, endpoint: str) -> None:
        path = f"/{endpoint}/{uuid.uuid4().hex}/none"
        assert http.get(path).status == 404
        assert asked(proxy) == {"LIST": 1}
        assert http.get(path).status == http.get(f"{path}?format=BCF").status == 404
        assert not asked(proxy)

    def test_for_a_while(
        self, versioned: tuple[str, BucketHttp], versitygw: S3Server, proxy: FaultyProxy, demo_folder: Path
    ) -> None:
        bucket, http = versioned
        folder = uuid.uuid4().hex
        assert (
            http.get(f"/reads/{folder}/NA00001").status == http.get(f"/files/cohort/{folder}/NA00001.bam").status == 404
        )
        versitygw.put(bucket, f"{folder}/NA00001.bam", demo_folder / "NA00001.bam")
        time.sleep(1.1)
        assert http.get(f"/reads/{folder}/NA00001").status == 200
        assert http.get(f"/files/cohort/{folder}/NA00001.bam").status == 307


class TestRequestsAreUnderWayTogether:
    def test_those_for_the_edges_of_a_chunk(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put
    ) -> None:
        path = f"/reads/{put(demo_folder / 'NA00001.bam', demo_folder / 'NA00001.bam.bai')}/NA00001"
        fetch_ticket(http, path, referenceName="chr2", start=0, end=1_000)
        proxy.clear()
        proxy.latency = 0.4
        fetch_ticket(http, path, **REGION)
        times = [request.time for request in proxy.requests]
        assert asked(proxy) == {"GET NA00001.bam": 2}
        assert times[1] - times[0] < 0.2

    def test_a_limited_number_of_those_for_many_regions(
        self, http: BucketHttp, proxy: FaultyProxy, big_folder: Path, put: Put
    ) -> None:
        path = f"/reads/{put(big_folder / 'big.bam', big_folder / 'big.bam.bai')}/big"
        regions = [
            {"referenceName": "chr1", "start": start, "end": start + 700_000}
            for start in range(0, 190_000_000, 1_900_000)
        ]
        assert len(regions) == 100
        fetch_ticket(http, path, **{"class": "header"})
        proxy.clear()
        proxy.latency = 0.2
        ticket = fetch_ticket(http, path, method="POST", json={"regions": regions})
        times = [request.time for request in proxy.requests if kind(request) == "GET big.bam"]
        counts = asked(proxy)
        assert counts.keys() == {"GET big.bam", "GET big.bam.bai"}
        assert len(presigned(ticket)) > 50
        assert 50 < len(times) <= 2 * len(ticket["htsget"]["urls"])
        together = [sum(time <= other < time + 0.15 for other in times) for time in times]
        assert 8 < max(together) <= 16
        proxy.latency = 0.0
        proxy.clear()
        assert fetch_ticket(http, path, method="POST", json={"regions": regions}) == ticket
        assert not asked(proxy)
        assert len(bgzf_blocks(join(http, ticket))) > 100


class TestWhereListingIsDenied:
    """Objects are looked at one by one, as a policy of least privilege has it."""

    def test_a_dataset_with_its_keys_is_served(
        self, versitygw: S3Server, proxy: FaultyProxy, demo_folder: Path
    ) -> None:
        bucket = versitygw.create_bucket()
        for name in ("NA00001.bam", "NA00001.bam.bai"):
            versitygw.put(bucket, f"data/{name}", demo_folder / name)
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": [STRANGER.access_key]},
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        versitygw.owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        named = {"storage": STORAGE, "key": "NA00001.bam", "index": "NA00001.bam.bai"}
        datasets = [{"id": "named", "reads": {"BAM": named}}, {"prefix": "", "storage": STORAGE}]
        http = application(
            versitygw,
            bucket,
            endpoint=proxy.url,
            credentials=STRANGER,
            storage={"prefix": "data"},
            datasets=datasets,
        )
        ticket = fetch_ticket(http, "/reads/named", **REGION)
        counts = asked(proxy)
        assert counts["HEAD NA00001.bam"] == counts["HEAD NA00001.bam.bai"] == 1
        assert counts["LIST"] <= 1
        # The header, the index and whether it reaches the last record; two edges.
        assert counts.total() <= 3 + 3 + 2
        assert len(join(http, ticket)) > 10_000
        proxy.clear()
        assert fetch_ticket(http, "/reads/named", **REGION) == ticket
        assert not asked(proxy)
        # Below a prefix what was not configured is found too.
        assert fetch_ticket(http, "/reads/NA00001", **REGION)["htsget"]["format"] == "BAM"
        assert http.get("/files/cohort/NA00001.bam").status == 307
        assert asked(proxy)["LIST"] == 0
        answer = http.get("/files/cohort/")
        assert answer.status == 500
        assert "the storage 'cohort' does not let this server read it" in answer.body.decode()
        assert http.get("/reads/none").status == 404
