"""Access control for a bucket: only callers with access get its presigned URLs, which expire with the signed URLs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pysam
import pytest

from tests.support import referenced
from tests.support.client import join, records, scan
from tests.support.guarded import auth
from tests.support.issuer import Issuer
from tests.support.live.buckets import STORAGE, BucketHttp, application, is_elsewhere, parameter, presigned
from tests.support.live.regions import Region, overlapping
from tests.support.s3 import S3Server

pytestmark = pytest.mark.live

LIFETIME = 600
NAME, START, END = "chr1", 20_000, 24_000
RULES: list[Mapping[str, Any]] = [
    {"ids": ["NA00001", f"{STORAGE}/NA00001.bam"], "scopes": ["read"]},
    {
        "ids": ["NA00001"],
        "endpoints": ["reads"],
        "scopes": ["gene"],
        "regions": [{"reference": NAME, "start": START, "end": END}],
    },
]
TICKET = f"/reads/NA00001?referenceName={NAME}&start={START}&end={END}"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("https://issuer.example.org")


@pytest.fixture(scope="module")
def http(
    versitygw: S3Server, demo_folder: Path, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> BucketHttp:
    bucket = versitygw.create_bucket()
    versitygw.put_folder(bucket, demo_folder)
    folder = tmp_path_factory.mktemp("auth") / "folder"
    folder.mkdir()
    return application(versitygw, bucket, auth=auth(folder, issuer, RULES, expires=LIFETIME))


def bearer(issuer: Issuer, scope: str) -> dict[str, str]:
    """The header of a caller with a scope."""
    return {"Authorization": f"Bearer {issuer.token(scope=scope)}"}


def ticket(http: BucketHttp, headers: Mapping[str, str], target: str = TICKET) -> Any:
    """A ticket, by default that for the region."""
    answer = http.get(target, headers)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


class TestTickets:
    def test_without_a_token_have_no_urls(self, http: BucketHttp) -> None:
        answer = http.get(TICKET)
        assert answer.status == 401
        assert b"X-Amz-" not in answer.body

    def test_with_access_to_everything_point_to_the_bucket_for_a_limited_time(
        self, http: BucketHttp, issuer: Issuer, demo_folder: Path, tmp_path: Path
    ) -> None:
        body = ticket(http, bearer(issuer, "read"), f"/reads/NA00001?referenceName={NAME}&start={START}")
        urls = presigned(body)
        assert urls
        assert all(int(parameter(url, "X-Amz-Expires")) <= LIFETIME for url, _ in urls)
        lines = records(join(http, body), "BAM", tmp_path)
        everything = [record.text for record in scan(demo_folder / "NA00001.bam", "BAM")]
        assert set(overlapping(Region(NAME, START, END), everything, "reads")) <= set(lines)

    def test_with_access_to_regions_do_not(
        self, http: BucketHttp, issuer: Issuer, demo_folder: Path, tmp_path: Path
    ) -> None:
        body = ticket(http, bearer(issuer, "gene"))
        assert not presigned(body)
        everything = [record.text for record in scan(demo_folder / "NA00001.bam", "BAM")]
        expected = overlapping(Region(NAME, START, END), everything, "reads")
        assert expected
        assert records(join(http, body), "BAM", tmp_path) == expected


class TestCramUnderAGrantOfRegions:
    def test_is_filtered_with_a_reference_in_the_bucket(
        self, versitygw: S3Server, issuer: Issuer, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        reference = referenced.write_reference(source / "reference.fa")
        path = referenced.write_cram("version_3_0", source / "NA00001.cram", reference)
        bucket = versitygw.create_bucket()
        versitygw.put_folder(bucket, source)
        fastas = [{"storage": STORAGE, "key": reference.name}]
        rules = auth(source, issuer, RULES, expires=LIFETIME)
        http = application(versitygw, bucket, auth=rules, refget={"fastas": fastas})
        body = ticket(http, bearer(issuer, "gene"), f"{TICKET}&format=CRAM")
        assert not presigned(body)
        with pysam.AlignmentFile(str(path), reference_filename=str(reference)) as file:
            expected = [record.to_string() for record in file.fetch(NAME, START, END)]
        assert records(join(http, body), "CRAM", tmp_path) == expected != []


class TestPlainFiles:
    PATH = f"/files/{STORAGE}/NA00001.bam"

    @pytest.mark.parametrize(("scope", "status"), [(None, 401), ("gene", 403), ("other", 403)])
    def test_are_not_redirected_to_without_access(
        self, http: BucketHttp, issuer: Issuer, scope: str | None, status: int
    ) -> None:
        answer = http.get(self.PATH, bearer(issuer, scope) if scope else {})
        assert answer.status == status
        assert "location" not in answer.headers

    def test_are_redirected_to_with_access(self, http: BucketHttp, issuer: Issuer, demo_folder: Path) -> None:
        answer = http.get(self.PATH, bearer(issuer, "read"))
        assert answer.status == 307
        url = answer.headers["location"]
        assert is_elsewhere(url)
        assert int(parameter(url, "X-Amz-Expires")) <= LIFETIME
        assert http.get(url).body == (demo_folder / "NA00001.bam").read_bytes()
