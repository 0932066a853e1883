"""The S3 servers that the storage's tests rely on: they behave as `tests/support/s3.py` describes them."""

import json
import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.support.client import LiveHttp, Response
from tests.support.s3 import RCLONE, STRANGER, Credentials, S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef

pytestmark = pytest.mark.live

DATA = bytes(range(256)) * 100
KEYS = ["a b.bam", "a#b", "a%20b", "a+b", "a/b", "a?b", "a&b=c", "A", "ab", "é", "\uffee", "\U0001f9ec"]
RULE: "CORSRuleTypeDef" = {
    "AllowedOrigins": ["https://igv.example"],
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["Content-Range", "ETag"],
}


def code(caught: "pytest.ExceptionInfo[ClientError]") -> tuple[int, str]:
    """Status and code of an S3 error."""
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def fetch(url: str, **headers: str) -> Response:
    """The answer to a GET request; `_` in header names stands for `-`."""
    return LiveHttp("http://unused").get(url, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A bucket with one object."""
    return s3_server.create_bucket({"data": DATA})


class TestSignaturesAreChecked:
    def test_of_requests(self, s3_server: S3Server, bucket: str) -> None:
        client = s3_server.client(Credentials("dummy-access-key", "not-the-secret-key"))
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket=bucket, Key="data")
        assert code(caught) == (403, "SignatureDoesNotMatch")
        with pytest.raises(ClientError) as caught:
            s3_server.client(Credentials("unknown-access-key", "any-secret-key")).get_object(Bucket=bucket, Key="data")
        assert code(caught) == (403, "InvalidAccessKeyId")

    def test_of_presigned_urls(self, s3_server: S3Server, bucket: str) -> None:
        params = {"Bucket": bucket, "Key": "data"}
        url = s3_server.owner.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
        short = s3_server.owner.generate_presigned_url("get_object", Params=params, ExpiresIn=1)
        assert fetch(url)[0::2] == (200, DATA)
        assert fetch(url.replace("/data?", "/other?")).status == 403
        time.sleep(2.1)
        expired = fetch(short)
        assert expired.status == (400 if s3_server.kind is RCLONE else 403)
        assert b"<Code>AccessDenied</Code>" in expired.body

    def test_with_the_signed_headers(self, s3_server: S3Server, bucket: str) -> None:
        etag = s3_server.owner.head_object(Bucket=bucket, Key="data")["ETag"]
        params = {"Bucket": bucket, "Key": "data", "IfMatch": etag}
        url = s3_server.owner.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
        assert fetch(url, If_Match=etag)[0::2] == (200, DATA)
        assert fetch(url).status == fetch(url, If_Match='"other"').status == 403
        s3_server.put(bucket, "data", b"new")
        replaced = fetch(url, If_Match=etag)
        assert replaced.status == 412 if s3_server.kind.has_if_match else replaced[0::2] == (200, b"new")


class TestObjectsBehaveAsInS3:
    def test_ranges(self, s3_server: S3Server, bucket: str) -> None:
        answer = s3_server.owner.get_object(Bucket=bucket, Key="data", Range="bytes=10-19")
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        assert status == (206 if s3_server.kind.has_partial_content else 200)
        assert answer["ContentRange"] == f"bytes 10-19/{len(DATA)}"
        assert answer["Body"].read() == DATA[10:20]
        with pytest.raises(ClientError) as caught:
            s3_server.owner.get_object(Bucket=bucket, Key="data", Range="bytes=1000000-")
        assert code(caught) == (416, "InvalidRange")

    def test_absent_objects_and_buckets(self, s3_server: S3Server, bucket: str) -> None:
        with pytest.raises(ClientError) as caught:
            s3_server.owner.get_object(Bucket=bucket, Key="none")
        assert code(caught) == (404, "NoSuchKey")
        with pytest.raises(ClientError) as caught:
            s3_server.owner.get_object(Bucket="test-none", Key="none")
        assert code(caught) == (404, "NoSuchBucket")
        with pytest.raises(ClientError) as caught:
            s3_server.owner.head_object(Bucket=bucket, Key="none")
        assert code(caught) == (404, "404")

    def test_odd_keys_in_the_order_of_their_bytes(self, s3_server: S3Server) -> None:
        bucket = s3_server.create_bucket({f"p/{key}": key.encode() for key in KEYS})
        keys = sorted((f"p/{key}" for key in KEYS), key=str.encode)
        entries = s3_server.owner.list_objects_v2(Bucket=bucket, Prefix="p/")["Contents"]
        assert [entry["Key"] for entry in entries] == keys
        for after in ("p/a", "p/a/b", "p/é"):
            entries = s3_server.owner.list_objects_v2(Bucket=bucket, Prefix="p/", StartAfter=after)["Contents"]
            assert [entry["Key"] for entry in entries] == [key for key in keys if key.encode() > after.encode()]
        for key in keys:
            params = {"Bucket": bucket, "Key": key}
            url = s3_server.owner.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
            assert fetch(url)[0::2] == (200, key[2:].encode())


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
class TestVersitygwIsCloseToAws:
    def test_versions(self, s3_server: S3Server) -> None:
        bucket = s3_server.create_bucket(versions=True)
        versions = [s3_server.owner.put_object(Bucket=bucket, Key="a", Body=body)["VersionId"] for body in (b"1", b"2")]
        assert s3_server.owner.head_object(Bucket=bucket, Key="a")["VersionId"] == versions[1]
        params = {"Bucket": bucket, "Key": "a", "VersionId": versions[0]}
        url = s3_server.owner.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
        assert fetch(url)[0::2] == (200, b"1")
        s3_server.owner.delete_object(Bucket=bucket, Key="a", VersionId=versions[0])
        assert fetch(url).status == 404

    def test_cors_by_rules_of_the_bucket(self, s3_server: S3Server, bucket: str) -> None:
        with pytest.raises(ClientError) as caught:
            s3_server.owner.get_bucket_cors(Bucket=bucket)
        assert code(caught) == (404, "NoSuchCORSConfiguration")
        s3_server.owner.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [RULE]})
        assert s3_server.owner.get_bucket_cors(Bucket=bucket)["CORSRules"] == [RULE]
        params = {"Bucket": bucket, "Key": "data"}
        url = s3_server.owner.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
        answer = fetch(url, Origin="https://igv.example", Range="bytes=0-9")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (206, "https://igv.example")
        assert "access-control-allow-origin" not in fetch(url, Origin="https://other.example").headers

    def test_a_stranger_has_the_permissions_of_the_policy(self, s3_server: S3Server, bucket: str) -> None:
        client = s3_server.client(STRANGER)
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket=bucket, Key="data")
        assert code(caught) == (403, "AccessDenied")
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": [STRANGER.access_key]},
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        s3_server.owner.put_bucket_policy(Bucket=bucket, Policy=policy)
        assert client.get_object(Bucket=bucket, Key="data")["Body"].read() == DATA
        with pytest.raises(ClientError) as caught:
            client.list_objects_v2(Bucket=bucket)
        assert code(caught) == (403, "AccessDenied")
