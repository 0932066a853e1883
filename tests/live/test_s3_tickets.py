"""Tickets of files in buckets, against pysam's records; their presigned URLs and the lifetimes of these."""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.support import files
from tests.support.client import (
    SUFFIXES,
    Region,
    fetch,
    fetch_blocks,
    fetch_ticket,
    file_header,
    header_text,
    is_subsequence,
    join,
    records,
    scan,
    truth,
)
from tests.support.faulty import faulty_proxy
from tests.support.files.bam import bam_big_header, bam_straddling
from tests.support.files.bgzf import MAX_BLOCK_DATA
from tests.support.files.indexes import index_of
from tests.support.live import regions
from tests.support.live.buckets import BucketHttp, application, is_elsewhere, parameter, presigned, serving_bucket
from tests.support.live.regions import endpoint_of, overlapping
from tests.support.live.server import Server
from tests.support.live.tools import lines, run, view
from tests.support.s3 import KINDS, OWNER, Credentials, S3Server, serving_s3

pytestmark = pytest.mark.live

NAMES = [
    "bam_straddling",
    "bam_tiny_blocks",
    "bam_big_header",
    "bam_odd_names",
    "bam_long_reads",
    "bam_empty",
    "cram_2_1_short_length",
    "cram_multi_ref_multi_slice",
    "cram_no_eof",
    "vcf_mid_line_blocks",
    "vcf_no_contig_lines",
    "vcf_big_header",
    "bcf_straddling",
    "bcf_sparse_idx",
]
DEMO = [("NA00001.bam", "BAM"), ("NA00001.cram", "CRAM"), ("cohort.vcf.gz", "VCF"), ("cohort.bcf", "BCF")]
REGIONS = int(os.environ.get("HTSGET_FLASK_TEST_REGIONS", "10"))
MIB = 1 << 20


class Buckets:
    """One bucket without versions and one with versions, each served by three applications.

    `applications`: the default, one with `never_inline`, and one that proxies all bytes; first those of the bucket
    without versions.
    """

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self.names = [server.create_bucket(versions=versions) for versions in (False, True)]
        self.applications: list[BucketHttp] = []
        for bucket in self.names:
            self.applications.append(application(server, bucket))
            self.applications.append(application(server, bucket, htsget={"never_inline": True}))
            self.applications.append(application(server, bucket, storage={"proxy": True}))

    def put(self, path: Path) -> str:
        """Upload a file and its index to both buckets; the id of the dataset."""
        folder = f"{path.name} é/+&"
        index = index_of(path)
        for bucket in self.names:
            for part in filter(None, (path, index)):
                self._server.put(bucket, f"{folder}/{part.name}", part)
        suffix = next(suffix for suffix in SUFFIXES.values() if path.name.endswith(suffix))
        return f"{folder}/{path.name.removesuffix(suffix)}"


@pytest.fixture(scope="module")
def buckets(versitygw: S3Server) -> Buckets:
    return Buckets(versitygw)


class Case:
    """A file that is served from buckets."""

    def __init__(self, path: Path, format_: str, buckets: Buckets) -> None:
        self.path = path
        self.format = format_
        self.applications = buckets.applications
        self.ticket_path = f"/{endpoint_of(format_)}/{quoted(buckets.put(path))}"
        self.is_large = path.stat().st_size > MIB

    def fetch(self, http: BucketHttp, *regions: Region) -> bytes:
        """The joined data blocks of a ticket for some regions: by GET for one region, by POST for several."""
        parameters: list[dict[str, Any]] = [
            {"referenceName": name, "start": start, "end": end} for name, start, end in regions
        ]
        if len(parameters) == 1:
            return fetch(http, self.ticket_path, format=self.format, **parameters[0])
        return fetch(http, self.ticket_path, method="POST", json={"format": self.format, "regions": parameters})

    def some_regions(self, count: int) -> list[Region]:
        """Regions of all sizes near records."""
        rng = random.Random(self.path.name)
        placed = [record for record in scan(self.path, self.format) if record.reference_name != "*"]
        regions: list[Region] = []
        for _ in range(count if placed else 0):
            record, length = rng.choice(placed), int(10 ** rng.uniform(0, 4 if self.is_large else 5.5))
            start = max(0, record.start - rng.randrange(length))
            regions.append((record.reference_name, start, start + length + 1))
        return [*regions, *[(record.reference_name, None, None) for record in placed[: not self.is_large]]]


def quoted(dataset_id: str) -> str:
    return dataset_id.replace(" ", "%20").replace("é", "%C3%A9").replace("+", "%2B").replace("&", "%26")


@pytest.fixture(scope="module", params=[*NAMES, *(name for name, _ in DEMO)])
def case(
    request: pytest.FixtureRequest, buckets: Buckets, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    if request.param in files.GOOD:
        path = files.GOOD[request.param](tmp_path_factory.mktemp(request.param))
        return Case(path, files.FORMATS[request.param], buckets)
    return Case(demo_folder / request.param, dict(DEMO)[request.param], buckets)


class TestTicketsHoldTheRecordsOfTheFile:
    def test_whole_and_header(self, case: Case, tmp_path: Path) -> None:
        everything, header = truth(case.path, case.format, None), file_header(case.path, case.format)
        for http in case.applications[:: 5 if case.is_large else 2]:
            body = fetch(http, case.ticket_path, format=case.format)
            is_equal = records(body, case.format, tmp_path) == everything
            assert is_equal
            header_body = fetch(http, case.ticket_path, format=case.format, **{"class": "header"})
            assert header_text(header_body, case.format, tmp_path) == header_text(body, case.format, tmp_path) == header

    def test_regions(self, case: Case, tmp_path: Path) -> None:
        regions = case.some_regions(REGIONS)
        groups: list[list[Region]] = [[region] for region in regions]
        groups += [regions[start::3] for start in range(3)] if len(regions) > 5 else []
        if case.format == "BAM":
            groups.append([("*", None, None)])
        everything = truth(case.path, case.format, None)
        for group, http in zip(groups, cycle(case.applications), strict=False):
            answer = records(case.fetch(http, *group), case.format, tmp_path)
            expected = truth(case.path, case.format, group)
            if case.format == "CRAM":
                # In whole containers.
                assert is_subsequence(expected, answer), group
                assert is_subsequence(answer, everything), group
            else:
                is_equal = answer == expected
                assert is_equal, group


class TestDataAreFetchedFromTheBucket:
    """All bytes but the header, the cut edges of chunks and the end-of-file marker."""

    @pytest.mark.parametrize("index", [0, 1, 3, 4])
    def test_with_one_url_for_all_ranges_of_a_ticket(self, buckets: Buckets, demo_folder: Path, index: int) -> None:
        case = Case(demo_folder / "NA00001.bam", "BAM", buckets)
        starts = (1_000, 90_000, 200_000)
        regions = [{"referenceName": "chr1", "start": start, "end": start + 60_000} for start in starts]
        http = case.applications[index]
        ticket = fetch_ticket(http, case.ticket_path, method="POST", json={"regions": regions})
        entries = presigned(ticket)
        assert len(entries) == 3
        assert len({url for url, _ in entries}) == 1
        assert len({headers["Range"] for _, headers in entries}) == 3
        sizes = [len(block) for block in fetch_blocks(http, ticket)]
        remote = [is_elsewhere(entry["url"]) for entry in ticket["htsget"]["urls"]]
        assert all(is_remote or size <= 2 * MAX_BLOCK_DATA for is_remote, size in zip(remote, sizes, strict=True))

    @pytest.mark.parametrize("index", [1, 4])
    def test_without_anything_inline(self, buckets: Buckets, demo_folder: Path, index: int) -> None:
        case = Case(demo_folder / "NA00001.bam", "BAM", buckets)
        ticket = fetch_ticket(case.applications[index], case.ticket_path, referenceName="chr1")
        assert all(entry["url"].startswith("http") for entry in ticket["htsget"]["urls"])

    def test_in_parts_of_a_block_size(self, versitygw: S3Server, demo_folder: Path) -> None:
        path = demo_folder / "NA00001.bam"
        bucket = versitygw.create_bucket({"a.bam": path})
        http = application(versitygw, bucket, htsget={"block_size": MIB, "never_inline": True})
        ticket = fetch_ticket(http, "/reads/a")
        spans = [
            tuple(map(int, headers["Range"].removeprefix("bytes=").split("-"))) for _, headers in presigned(ticket)
        ]
        assert len(spans) > path.stat().st_size // MIB
        assert all(last - first < MIB for first, last in spans)
        is_equal = b"".join(fetch_blocks(http, ticket)) == path.read_bytes()
        assert is_equal

    @pytest.mark.parametrize("index", [2, 5])
    def test_or_from_this_server_for_a_proxied_bucket(self, buckets: Buckets, demo_folder: Path, index: int) -> None:
        case = Case(demo_folder / "NA00001.bam", "BAM", buckets)
        ticket = fetch_ticket(case.applications[index], case.ticket_path)
        assert not any(is_elsewhere(entry["url"]) for entry in ticket["htsget"]["urls"])


@pytest.fixture(scope="module")
def old_and_new(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two BAM files to upload under one key."""
    folder = tmp_path_factory.mktemp("old_and_new")
    return bam_straddling(folder), bam_big_header(folder)


@pytest.fixture(scope="module")
def open_bucket(versitygw: S3Server, demo_folder: Path) -> str:
    """A bucket with public permission to read and list."""
    bucket = versitygw.create_bucket()
    versitygw.put_folder(bucket, demo_folder)
    arn = f"arn:aws:s3:::{bucket}"
    allowed = {"Effect": "Allow", "Principal": "*"}
    statements = [
        {**allowed, "Action": "s3:GetObject", "Resource": f"{arn}/*"},
        {**allowed, "Action": "s3:ListBucket", "Resource": arn},
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    versitygw.owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return bucket


class TestAPublicBucketNeedsNoCredentials:
    @pytest.mark.parametrize("credentials", [None, OWNER], ids=["none", "unused"])
    def test_for_tickets_and_for_plain_files(
        self, versitygw: S3Server, open_bucket: str, demo_folder: Path, credentials: Credentials | None
    ) -> None:
        with faulty_proxy(versitygw.endpoint) as proxy:
            http = application(
                versitygw, open_bucket, endpoint=proxy.url, storage={"anonymous": True}, credentials=credentials
            )
            content = (demo_folder / "NA00001.bam").read_bytes()
            ticket = fetch_ticket(http, "/reads/NA00001", referenceName="chr1", start=20_000, end=90_000)
            assert any(is_elsewhere(entry["url"]) for entry in ticket["htsget"]["urls"])
            assert len(join(http, ticket)) > 10_000
            is_equal = fetch(http, "/reads/NA00001") == content
            assert is_equal
            answer = http.get("/files/cohort/NA00001.bam")
            assert (answer.status, answer.headers["location"]) == (307, f"{proxy.url}/{open_bucket}/NA00001.bam")
            is_equal = http.get(answer.headers["location"]).body == content
            assert is_equal
            assert proxy.requests
            assert not [
                request for request in proxy.requests if "authorization" in request.headers or "X-Amz" in request.target
            ]

    def test_only_with_the_setting_anonymous(self, versitygw: S3Server, open_bucket: str) -> None:
        http = application(versitygw, open_bucket, credentials=None)
        assert http.get("/files/cohort/NA00001.bam").status == 500


class Replaceable:
    """A dataset `a` in its own bucket, whose file tests replace."""

    def __init__(self, server: S3Server, bucket: str, old_and_new: tuple[Path, Path]) -> None:
        self.server = server
        self.bucket = bucket
        self.old, self.new = old_and_new
        self.put(self.old)

    def put(self, path: Path) -> None:
        for suffix in ("", ".bai"):
            self.server.put(self.bucket, f"a.bam{suffix}", Path(f"{path}{suffix}"))

    def application(self, **storage: object) -> BucketHttp:
        return application(self.server, self.bucket, storage=storage, htsget={"never_inline": True})


@pytest.fixture(params=["plain", "versions"])
def replaceable(
    request: pytest.FixtureRequest, versitygw: S3Server, old_and_new: tuple[Path, Path]
) -> tuple[Replaceable, bool]:
    has_versions = request.param == "versions"
    return Replaceable(versitygw, versitygw.create_bucket(versions=has_versions), old_and_new), has_versions


class TestUrlsArePinnedToOneVersion:
    def test_by_its_id_or_else_by_its_etag(self, replaceable: tuple[Replaceable, bool]) -> None:
        dataset, has_versions = replaceable
        for path in ("/reads/a", "/reads/a?referenceName=chr1"):
            (url, headers) = presigned(fetch_ticket(dataset.application(), path))[0]
            now = dataset.server.owner.head_object(Bucket=dataset.bucket, Key="a.bam")
            if has_versions:
                assert parameter(url, "versionId") == now["VersionId"]
                assert headers.keys() == {"Range"}
                assert parameter(url, "X-Amz-SignedHeaders") == "host"
            else:
                assert "versionId" not in url
                assert headers.keys() == {"Range", "If-Match"}
                assert headers["If-Match"] == now["ETag"]
                assert parameter(url, "X-Amz-SignedHeaders") == "host;if-match"

    def test_a_replaced_file_never_yields_other_bytes(
        self, replaceable: tuple[Replaceable, bool], tmp_path: Path
    ) -> None:
        dataset, has_versions = replaceable
        http = dataset.application()
        ticket = fetch_ticket(http, "/reads/a")
        before = join(http, ticket)
        assert records(before, "BAM", tmp_path) == truth(dataset.old, "BAM", None)
        dataset.put(dataset.new)
        ((url, headers),) = presigned(ticket)
        answer = http.get(url, headers)
        if has_versions:
            assert answer.status == 206
            is_equal = answer.body in before
            assert is_equal
        else:
            assert answer.status == 412
        assert len(fetch(dataset.application(), "/reads/a")) != len(before)

    def test_a_new_ticket_has_the_new_version(self, replaceable: tuple[Replaceable, bool], tmp_path: Path) -> None:
        dataset, has_versions = replaceable
        http = dataset.application(revalidate=1.5)
        region: Region = ("chr1", 1000, 90_000)
        assert records(fetch(http, "/reads/a"), "BAM", tmp_path) == truth(dataset.old, "BAM", None)
        ((before, _),) = presigned(fetch_ticket(http, "/reads/a"))
        dataset.put(dataset.new)
        time.sleep(1.6)
        ((after, _),) = presigned(fetch_ticket(http, "/reads/a"))
        assert before != after or not has_versions
        assert records(fetch(http, "/reads/a"), "BAM", tmp_path) == truth(dataset.new, "BAM", None)
        body = fetch(http, "/reads/a", referenceName=region[0], start=region[1], end=region[2])
        assert is_subsequence(truth(dataset.new, "BAM", [region]), records(body, "BAM", tmp_path))


class TestTheCachesOfWorkersMayDiffer:
    def test_blocks_of_the_new_version_at_a_worker_that_remembers_the_old(
        self, replaceable: tuple[Replaceable, bool], tmp_path: Path
    ) -> None:
        dataset, _ = replaceable
        region: Region = ("chr1", None, None)
        parameters = {"referenceName": region[0]}
        late, early = dataset.application(), dataset.application()
        old = fetch_ticket(late, "/reads/a", **parameters)
        dataset.put(dataset.new)
        new = fetch_ticket(early, "/reads/a", **parameters)
        assert any("/blocks/" in entry["url"] for entry in new["htsget"]["urls"])
        assert [url for url, _ in presigned(new)] != [] != [url for url, _ in presigned(old)]
        answer = records(join(late, new), "BAM", tmp_path)
        assert is_subsequence(truth(dataset.new, "BAM", [region]), answer)
        assert is_subsequence(answer, truth(dataset.new, "BAM", None))
        for entry in old["htsget"]["urls"]:
            if "/blocks/" in entry["url"]:
                assert early.get(entry["url"]).status == 410

    def test_a_deleted_index_is_a_fault_of_the_dataset(self, replaceable: tuple[Replaceable, bool]) -> None:
        dataset, _ = replaceable
        http = dataset.application()
        fetch_ticket(http, "/reads/a", **{"class": "header"})
        dataset.server.owner.delete_object(Bucket=dataset.bucket, Key="a.bam.bai")
        answer = http.get("/reads/a?referenceName=chr1")
        assert (answer.status, b"has no index" in answer.body) == (500, True)
        dataset.server.owner.delete_object(Bucket=dataset.bucket, Key="a.bam")
        assert dataset.application().get("/reads/a").status == 404


class TestUrlsAreValidForALimitedTime:
    @pytest.fixture
    def bucket(self, versitygw: S3Server, old_and_new: tuple[Path, Path]) -> str:
        return Replaceable(versitygw, versitygw.create_bucket(), old_and_new).bucket

    def lifetime(self, http: BucketHttp) -> int:
        """The lifetime of a ticket's URL and of a redirect's, in seconds; the ticket's URLs are requested too."""
        ticket = fetch_ticket(http, "/reads/a")
        join(http, ticket)
        ((url, _),) = presigned(ticket)
        location = http.get("/files/cohort/a.bam").headers["location"]
        (seconds,) = {abs(int(parameter(address, "X-Amz-Expires"))) for address in (url, location)}
        return seconds

    def test_as_configured(self, versitygw: S3Server, bucket: str) -> None:
        assert self.lifetime(application(versitygw, bucket)) == 86_400
        assert self.lifetime(application(versitygw, bucket, storage={"expires": 77})) == 77

    def test_not_longer_than_the_credentials(
        self, versitygw: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.set_expiration(versitygw, timedelta(seconds=300), monkeypatch)
        assert 200 < self.lifetime(application(versitygw, bucket, credentials=None)) <= 300
        http = application(versitygw, bucket, storage={"expires": 100}, credentials=None)
        assert self.lifetime(http) == 100

    def set_expiration(self, server: S3Server, remaining: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set credentials that are valid for the remaining time as variables, which boto3 reads repeatedly."""
        end = (datetime.now(timezone.utc) + remaining).isoformat()
        for name, value in {**server.environment(), "AWS_CREDENTIAL_EXPIRATION": end}.items():
            monkeypatch.setenv(name, value)

    def test_not_longer_than_those_of_a_credential_process(
        self, versitygw: S3Server, bucket: str, tmp_path: Path
    ) -> None:
        owner = versitygw.environment()
        credentials = {
            "Version": 1,
            "AccessKeyId": owner["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": owner["AWS_SECRET_ACCESS_KEY"],
            "Expiration": (datetime.now(timezone.utc) + timedelta(hours=2)).isoformat(),
        }
        (tmp_path / "credentials.json").write_text(json.dumps(credentials))
        program = "import pathlib; print(pathlib.Path('credentials.json').read_text())"
        (tmp_path / "give.py").write_text(program.replace("credentials.json", str(tmp_path / "credentials.json")))
        config = tmp_path / "config"
        config.write_text(f"[default]\nregion = eu-test-1\ncredential_process = {sys.executable} {tmp_path}/give.py\n")
        environment = {"AWS_CONFIG_FILE": str(config)}
        http = application(versitygw, bucket, credentials=None, environment=environment)
        assert 7000 < self.lifetime(http) <= 7200

    def test_expired_credentials_yield_no_urls(
        self, versitygw: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.set_expiration(versitygw, timedelta(seconds=3), monkeypatch)
        http = application(versitygw, bucket, storage={"expires": 4}, credentials=None)
        assert 0 < self.lifetime(http) <= 3
        time.sleep(3.5)
        for path in ("/reads/a", "/files/cohort/a.bam", "/files/cohort/"):
            answer = http.get(path)
            assert answer.status == 500
            assert "this server's credentials for the storage 'cohort' have expired" in answer.body.decode()
        self.set_expiration(versitygw, timedelta(hours=3), monkeypatch)
        assert self.lifetime(http) == 4


@pytest.fixture(scope="module", params=sorted(KINDS))
def server(
    request: pytest.FixtureRequest, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, S3Server]]:
    """A server of a bucket with the example data, for each kind of S3 server."""
    folder = tmp_path_factory.mktemp("s3")
    with serving_s3(KINDS[request.param], folder) as s3:
        bucket = s3.create_bucket()
        s3.put_folder(bucket, demo_folder)
        with serving_bucket(s3, bucket, tmp_path_factory.mktemp("server")) as server:
            yield server, s3


NAME, START, END = "chr1", 250_000, 300_000


@pytest.mark.parametrize(("name", "format_"), DEMO)
class TestClientsReadTickets:
    """rclone answers ranges with status 200 and ignores If-Match; clients still receive the right bytes."""

    def url(self, server: tuple[Server, S3Server], name: str, format_: str, region: bool) -> str:
        htsget_server, _ = server
        dataset = name.partition(".")[0]
        bounds = f"&referenceName={NAME}&start={START}&end={END}" if region else ""
        url = f"{htsget_server.url}/{endpoint_of(format_)}/{dataset}?format={format_}{bounds}"
        assert presigned(fetch_ticket(htsget_server.http, url)) or format_ in ("VCF", "BCF")
        return url

    def check_region(self, answer: object, path: Path, format_: str, cwd: Path) -> None:
        """Check that an answer, a file or a URL, has the records of the region in the file at `path`."""
        program = ("samtools", "view") if format_ in ("BAM", "CRAM") else ("bcftools", "view", "-H")
        expected = lines(*program, path, f"{NAME}:{START + 1}-{END}", cwd=path.parent)
        region, endpoint = regions.Region(NAME, START, END), endpoint_of(format_)
        assert overlapping(region, view(answer, cwd=cwd), endpoint) == overlapping(region, expected, endpoint) != []

    def test_htslib(
        self, server: tuple[Server, S3Server], demo_folder: Path, tmp_path: Path, name: str, format_: str
    ) -> None:
        is_equal = view(self.url(server, name, format_, False), cwd=tmp_path) == view(demo_folder / name, cwd=tmp_path)
        assert is_equal
        self.check_region(self.url(server, name, format_, True), demo_folder / name, format_, tmp_path)

    def test_the_htsget_client(
        self, server: tuple[Server, S3Server], demo_folder: Path, tmp_path: Path, name: str, format_: str
    ) -> None:
        url = self.url(server, name, format_, True)
        run("htsget", url, "-O", name, cwd=tmp_path)
        self.check_region(tmp_path / name, demo_folder / name, format_, tmp_path)
