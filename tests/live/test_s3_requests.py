"""The number of S3 requests for an answer, counted by a proxy in front of the S3 server."""

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
from tests.support.faulty import FaultyProxy, Request
from tests.support.files.bam import Reference, bam_header, bam_long_contig, random_text
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf
from tests.support.live.buckets import STORAGE, BucketHttp, application, presigned, request_kind
from tests.support.s3 import STRANGER, S3Server

pytestmark = pytest.mark.live

DEMO = [
    ("reads/{}/NA00001", "BAM", ["NA00001.bam", "NA00001.bam.bai"]),
    ("reads/{}/NA00001", "CRAM", ["NA00001.cram", "NA00001.cram.crai"]),
    ("variants/{}/cohort", "VCF", ["cohort.vcf.gz", "cohort.vcf.gz.tbi"]),
    ("variants/{}/cohort", "BCF", ["cohort.bcf", "cohort.bcf.csi"]),
]
REGION: dict[str, Any] = {"referenceName": "chr1", "start": 100_000, "end": 150_000}
# A hundred, of the file in `big_folder`.
REGIONS = [
    {"referenceName": "chr1", "start": start, "end": start + 700_000} for start in range(0, 190_000_000, 1_900_000)
]


@pytest.fixture(autouse=True)
def _reset(proxy: FaultyProxy) -> Iterator[None]:
    """Each test starts with no counted requests and without latency."""
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
def http_with_chunks(versitygw: S3Server, bucket: str, proxy: FaultyProxy) -> BucketHttp:
    """An application that answers regions with the index's chunks."""
    return application(versitygw, bucket, endpoint=proxy.url, htsget={"exact": False})


@pytest.fixture(scope="module")
def versioned(versitygw: S3Server, proxy: FaultyProxy) -> tuple[str, BucketHttp]:
    """A bucket that keeps versions, and an application that remembers its content only for a second."""
    bucket = versitygw.create_bucket(versions=True)
    return bucket, application(versitygw, bucket, endpoint=proxy.url, storage={"revalidate": 1})


Put = Callable[..., str]


@pytest.fixture
def put(versitygw: S3Server, bucket: str) -> Put:
    """Uploads files to a new folder, and returns the folder."""

    def put(*paths: Path, into: str = bucket) -> str:
        folder = uuid.uuid4().hex
        for path in paths:
            versitygw.put(into, f"{folder}/{path.name}", path)
        return folder

    return put


def take_counts(proxy: FaultyProxy) -> Counter[str]:
    """The number of requests of each kind since the last call."""
    counts = Counter(map(request_kind, proxy.requests))
    for request in proxy.requests:
        if request_kind(request) == "LIST":
            assert len(parse_qs(urlsplit(request.target).query)["prefix"][0]) > 10
    proxy.clear()
    return counts


class TestAColdTicketTakesFewRequests:
    @pytest.mark.parametrize(("path", "format_", "names"), DEMO)
    def test_of_a_region(
        self,
        http: BucketHttp,
        proxy: FaultyProxy,
        demo_folder: Path,
        put: Put,
        path: str,
        format_: str,
        names: list[str],
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        ticket = fetch_ticket(http, f"/{path.format(folder)}", format=format_, **REGION)
        counts = take_counts(proxy)
        data, index = (counts.pop(f"GET {name}", 0) for name in names)
        # Two requests read the header and check that the index reaches the last record.
        edges = max(0, data - 2)
        assert counts == {"LIST": 1}
        assert index == 1
        chunks = max(1, len(presigned(ticket)))
        assert edges <= (1 + chunks if format_ == "CRAM" else 2 * chunks)

    @pytest.mark.parametrize(("path", "format_", "names"), DEMO)
    def test_of_the_whole(
        self,
        http: BucketHttp,
        proxy: FaultyProxy,
        demo_folder: Path,
        put: Put,
        path: str,
        format_: str,
        names: list[str],
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        fetch_ticket(http, f"/{path.format(folder)}", format=format_)
        counts = take_counts(proxy)
        # The header, the end, and the edges of the part between them.
        assert counts.pop(f"GET {names[0]}") <= 4
        assert counts == {"LIST": 1}

    @pytest.mark.parametrize(("path", "format_", "names"), DEMO)
    def test_of_the_header(
        self,
        http: BucketHttp,
        proxy: FaultyProxy,
        demo_folder: Path,
        put: Put,
        path: str,
        format_: str,
        names: list[str],
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        fetch_ticket(http, f"/{path.format(folder)}", format=format_, **{"class": "header"})
        assert take_counts(proxy) == {"LIST": 1, f"GET {names[0]}": 1}

    def test_of_a_header_of_megabytes(self, http: BucketHttp, proxy: FaultyProxy, put: Put, tmp_path: Path) -> None:
        rng = random.Random("header")
        lines = ["@CO\t" + random_text(rng, 10_000) for _ in range(800)]
        header = bam_header([Reference("chr1", 1_000_000)], lines)
        write_bgzf(tmp_path / "a.bam", cut(header, MAX_BLOCK_DATA), level=1)
        size = (tmp_path / "a.bam").stat().st_size
        assert size > 5 << 20
        fetch_ticket(http, f"/reads/{put(tmp_path / 'a.bam')}/a", **{"class": "header"})
        spans = [span(request) for request in proxy.requests if request_kind(request) == "GET a.bam"]
        assert take_counts(proxy) == {"LIST": 1, "GET a.bam": len(spans)}
        # Each byte once, in increasingly long ranges.
        assert len(spans) <= 5
        assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]

    def test_of_a_large_index(self, http: BucketHttp, proxy: FaultyProxy, put: Put, tmp_path: Path) -> None:
        path = bam_long_contig(tmp_path)
        folder = put(path, Path(f"{path}.csi"))
        fetch_ticket(http, f"/reads/{folder}/{path.stem}", referenceName="long")
        assert take_counts(proxy)[f"GET {path.name}.csi"] == 1


def span(request: Request) -> tuple[int, int]:
    """The requested bytes, half-open."""
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1


class TestAWarmTicketTakesNone:
    @pytest.mark.parametrize(("path", "format_", "names"), DEMO)
    def test_of_a_repeated_request(
        self,
        http: BucketHttp,
        proxy: FaultyProxy,
        demo_folder: Path,
        put: Put,
        path: str,
        format_: str,
        names: list[str],
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        first = fetch_ticket(http, f"/{path.format(folder)}", format=format_, **REGION)
        proxy.clear()
        assert fetch_ticket(http, f"/{path.format(folder)}", format=format_, **REGION) == first
        again = {"format": format_, "regions": [REGION]}
        fetch_ticket(http, f"/{path.format(folder)}", method="POST", json=again)
        fetch_ticket(http, f"/{path.format(folder)}", format=format_, **{"class": "header"})
        assert not take_counts(proxy)

    @pytest.mark.parametrize(("path", "format_", "names"), DEMO[:2])
    def test_except_for_new_edges(
        self,
        http: BucketHttp,
        proxy: FaultyProxy,
        demo_folder: Path,
        put: Put,
        path: str,
        format_: str,
        names: list[str],
    ) -> None:
        folder = put(*(demo_folder / name for name in names))
        fetch_ticket(http, f"/{path.format(folder)}", format=format_, **REGION)
        proxy.clear()
        fetch_ticket(http, f"/{path.format(folder)}", format=format_, referenceName="chr2", start=10_000, end=90_000)
        counts = take_counts(proxy)
        assert 1 <= counts.pop(f"GET {names[0]}") <= 2
        assert not counts

    def test_except_for_one_list_when_the_cache_is_stale(
        self, versioned: tuple[str, BucketHttp], proxy: FaultyProxy, demo_folder: Path, put: Put
    ) -> None:
        bucket, http = versioned
        path = f"/reads/{put(demo_folder / 'NA00001.bam', demo_folder / 'NA00001.bam.bai', into=bucket)}/NA00001"
        first = fetch_ticket(http, path, **REGION)
        time.sleep(1.1)
        proxy.clear()
        assert presigned(fetch_ticket(http, path, **REGION)) == presigned(first)
        assert take_counts(proxy) == {"LIST": 1}


class TestAbsentFilesAreSearchedOnce:
    @pytest.mark.parametrize("endpoint", ["reads", "variants"])
    def test_at_both_endpoints(self, http: BucketHttp, proxy: FaultyProxy, endpoint: str) -> None:
        path = f"/{endpoint}/{uuid.uuid4().hex}/none"
        assert http.get(path).status == 404
        assert take_counts(proxy) == {"LIST": 1}
        assert http.get(path).status == http.get(f"{path}?format=BCF").status == 404
        assert not take_counts(proxy)

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


class TestRequestsRunInParallel:
    def test_those_for_the_edges_of_a_chunk(
        self, http_with_chunks: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put
    ) -> None:
        path = f"/reads/{put(demo_folder / 'NA00001.bam', demo_folder / 'NA00001.bam.bai')}/NA00001"
        fetch_ticket(http_with_chunks, path, referenceName="chr2", start=0, end=1_000)
        proxy.clear()
        proxy.latency = 0.4
        fetch_ticket(http_with_chunks, path, **REGION)
        times = [request.time for request in proxy.requests]
        assert take_counts(proxy) == {"GET NA00001.bam": 2}
        assert times[1] - times[0] < 0.2

    def test_a_limited_number_of_those_for_many_regions(
        self, http_with_chunks: BucketHttp, proxy: FaultyProxy, big_folder: Path, put: Put
    ) -> None:
        path = f"/reads/{put(big_folder / 'big.bam', big_folder / 'big.bam.bai')}/big"
        fetch_ticket(http_with_chunks, path, **{"class": "header"})
        proxy.clear()
        proxy.latency = 0.2
        ticket = fetch_ticket(http_with_chunks, path, method="POST", json={"regions": REGIONS})
        times = [request.time for request in proxy.requests if request_kind(request) == "GET big.bam"]
        counts = take_counts(proxy)
        assert counts.keys() == {"GET big.bam", "GET big.bam.bai"}
        assert len(presigned(ticket)) > 50
        assert 50 < len(times) <= 2 * len(ticket["htsget"]["urls"])
        parallel = [sum(time <= other < time + 0.15 for other in times) for time in times]
        assert 8 < max(parallel) <= 16
        proxy.latency = 0.0
        proxy.clear()
        assert fetch_ticket(http_with_chunks, path, method="POST", json={"regions": REGIONS}) == ticket
        assert not take_counts(proxy)
        assert len(bgzf_blocks(join(http_with_chunks, ticket))) > 100

    def test_both_ends_of_an_exact_region_in_one(
        self, http: BucketHttp, proxy: FaultyProxy, demo_folder: Path, put: Put
    ) -> None:
        path = f"/reads/{put(demo_folder / 'NA00001.bam', demo_folder / 'NA00001.bam.bai')}/NA00001"
        fetch_ticket(http, path, referenceName="chr2", start=0, end=1_000)
        proxy.clear()
        fetch_ticket(http, path, **REGION)
        assert take_counts(proxy) == {"GET NA00001.bam": 1}

    def test_those_for_many_exact_regions(
        self, http: BucketHttp, proxy: FaultyProxy, big_folder: Path, put: Put
    ) -> None:
        """The ends of neighbouring regions share requests."""
        path = f"/reads/{put(big_folder / 'big.bam', big_folder / 'big.bam.bai')}/big"
        fetch_ticket(http, path, **{"class": "header"})
        proxy.clear()
        ticket = fetch_ticket(http, path, method="POST", json={"regions": REGIONS})
        assert take_counts(proxy)["GET big.bam"] <= len(REGIONS) // 4
        assert fetch_ticket(http, path, method="POST", json={"regions": REGIONS}) == ticket
        assert not take_counts(proxy)
        assert len(bgzf_blocks(join(http, ticket))) > 100


class TestWithoutThePermissionToList:
    """Objects are requested one by one, as under a policy of least privilege."""

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
        file = {"storage": STORAGE, "key": "NA00001.bam", "index": "NA00001.bam.bai"}
        datasets = [{"id": "named", "reads": {"BAM": file}}, {"prefix": "", "storage": STORAGE}]
        http = application(
            versitygw,
            bucket,
            endpoint=proxy.url,
            credentials=STRANGER,
            storage={"prefix": "data"},
            datasets=datasets,
        )
        ticket = fetch_ticket(http, "/reads/named", **REGION)
        counts = take_counts(proxy)
        assert counts["HEAD NA00001.bam"] == counts["HEAD NA00001.bam.bai"] == 1
        assert counts["LIST"] <= 1
        # The header, the index, the check that it reaches the last record, and two edges.
        assert counts.total() <= 3 + 3 + 2
        assert len(join(http, ticket)) > 10_000
        proxy.clear()
        assert fetch_ticket(http, "/reads/named", **REGION) == ticket
        assert not take_counts(proxy)
        # Files under the prefix that are not configured by key are found too.
        assert fetch_ticket(http, "/reads/NA00001", **REGION)["htsget"]["format"] == "BAM"
        assert http.get("/files/cohort/NA00001.bam").status == 307
        assert take_counts(proxy)["LIST"] == 0
        answer = http.get("/files/cohort/")
        assert answer.status == 500
        assert "the storage 'cohort' does not let this server read it" in answer.body.decode()
        assert http.get("/reads/none").status == 404
