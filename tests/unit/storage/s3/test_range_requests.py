"""Ranged requests against those that boto3 sends, and what follows each kind of response."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials

from htsget_flask.errors import StorageError
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import VersionError
from htsget_flask.storage.s3.bucket import Bucket, Object
from htsget_flask.storage.s3.range_requests import RangeRequests
from tests.support.s3_client import ENVIRONMENT, FakeHttp, fake_client

KEY = "a b/ü+~'(*)=&%.bin"
SPAN = ByteRange(5, 25)
ETAG = '"an etag"'
PART = {"ETag": ETAG, "Content-Range": "bytes 5-24/100", "Content-Length": "20", "x-amz-version-id": "v"}
DATA = bytes(20)

Answer = tuple[int, Mapping[str, str], bytes]


def answer_part(_: AWSPreparedRequest) -> Answer:
    return 206, PART, DATA


def failure(status: int, code: str, fields: Mapping[str, str] | None = None) -> Callable[[AWSPreparedRequest], Answer]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret</Message></Error>".encode()
    return lambda _: (status, fields or {}, body)


def fields_of(request: AWSPreparedRequest) -> dict[str, str]:
    """The header fields, except those that differ between equal requests."""
    fields = {name.lower(): _text(value) for name, value in request.headers.items()}
    for name in ("host", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-date"):
        fields.pop(name, None)
    if "authorization" in fields:
        fields["authorization"] = re.sub(r"/\d{8}/|Signature=.*", "", fields["authorization"])
    return fields


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def expected_authorization(request: AWSPreparedRequest, credentials: Credentials, region: str, service: str) -> str:
    """The field that botocore would add to a signed request."""
    headers: Any = {name: _text(value) for name, value in request.headers.items() if name != "authorization"}
    unsigned: Any = AWSRequest("GET", request.url, headers)
    unsigned.context["timestamp"] = headers["x-amz-date"]
    auth: Any = S3SigV4Auth(credentials, service, region)
    signature = auth.signature(auth.string_to_sign(unsigned, auth.canonical_request(unsigned)), unsigned)
    names = auth.signed_headers(auth.headers_to_sign(unsigned))
    return f"AWS4-HMAC-SHA256 Credential={auth.scope(unsigned)}, SignedHeaders={names}, Signature={signature}"


ACCESS_POINT = "arn:aws:{}:eu-west-1:123456789012:accesspoint/point"
TARGETS: dict[str, tuple[dict[str, str], str, str]] = {
    "virtual": ({}, "us-east-1", "s3"),
    "path": ({"addressing_style": "path", "region": "eu-north-1"}, "eu-north-1", "s3"),
    "dots": ({"bucket": "a.bucket"}, "us-east-1", "s3"),
    "endpoint": ({"endpoint_url": "http://gateway.example:9000/s3", "addressing_style": "path"}, "us-east-1", "s3"),
    "default port": ({"endpoint_url": "https://Gateway.example:443", "addressing_style": "path"}, "us-east-1", "s3"),
    "IPv6": ({"endpoint_url": "http://[::1]:9000", "addressing_style": "path"}, "us-east-1", "s3"),
    "access point": ({"bucket": ACCESS_POINT.format("s3")}, "eu-west-1", "s3"),
    "object lambda": ({"bucket": ACCESS_POINT.format("s3-object-lambda")}, "eu-west-1", "s3-object-lambda"),
}


class TestRequestsAreThoseOfBoto3:
    @pytest.mark.parametrize("token", ["", "dummy-session-token"])
    @pytest.mark.parametrize("target", TARGETS)
    def test_with_signatures(self, monkeypatch: pytest.MonkeyPatch, target: str, token: str) -> None:
        settings, region, service = TARGETS[target]
        http = FakeHttp(answer_part)
        client, credentials = fake_client(
            http, monkeypatch, environment={**ENVIRONMENT, "AWS_SESSION_TOKEN": token}, **settings
        )
        assert credentials is not None
        bucket = settings.get("bucket", "bucket")
        response = RangeRequests(client, credentials, bucket).get(KEY, SPAN, ETAG)
        assert response[1:] == (ETAG, "bytes 5-24/100", "20", "v")
        assert response.body.read(100) == DATA
        again = client.get_object(Bucket=bucket, Key=KEY, Range="bytes=5-24", IfMatch=ETAG)
        assert again["ContentLength"] == 20
        own, botos = http.requests
        assert own.url == botos.url
        assert fields_of(own) == fields_of(botos)
        assert own.headers["authorization"] == expected_authorization(own, credentials, region, service)

    def test_without_signatures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        http = FakeHttp(answer_part)
        client, credentials = fake_client(http, monkeypatch, anonymous=True)
        RangeRequests(client, credentials, "bucket").get(KEY, SPAN, ETAG)
        client.get_object(Bucket="bucket", Key=KEY, Range="bytes=5-24", IfMatch=ETAG)
        own, botos = http.requests
        assert own.url == botos.url
        assert fields_of(own) == fields_of(botos)
        assert "authorization" not in fields_of(own)

    def test_with_credentials_that_are_renewed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        http, numbers = FakeHttp(answer_part), count()
        client, _ = fake_client(http, monkeypatch)

        def renew() -> dict[str, str]:
            number = next(numbers)
            # So soon that they are renewed at each use.
            end = datetime.now(timezone.utc) + timedelta(seconds=5)
            keys = {"access_key": f"key{number}", "secret_key": f"secret{number}", "token": f"token{number}"}
            return {**keys, "expiry_time": end.isoformat()}

        credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "test")
        requests = RangeRequests(client, credentials, "bucket")
        for number in (1, 2):
            requests.get(KEY, SPAN, ETAG)
            request = http.requests[-1]
            current = Credentials(f"key{number}", f"secret{number}", f"token{number}")
            assert request.headers["x-amz-security-token"] == current.token
            assert request.headers["authorization"] == expected_authorization(request, current, "us-east-1", "s3")

    def test_with_other_signatures_are_sent_by_boto3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def sign(request: AWSPreparedRequest, **_: object) -> None:
            # As for an access point of several regions.
            headers: Any = request.headers
            headers["Authorization"] = "AWS4-ECDSA-P256-SHA256 Credential=key/20260101/s3/aws4_request, Signature=1"

        http = FakeHttp(answer_part)
        client, credentials = fake_client(http, monkeypatch)
        client.meta.events.register_first("before-send.s3", sign)
        requests = RangeRequests(client, credentials, "bucket")
        for _ in range(2):
            response = requests.get(KEY, SPAN, ETAG)
            assert response[1:] == (ETAG, "bytes 5-24/100", "20", "v")
            assert response.body.read(100) == DATA
        assert len(http.requests) == 2
        assert all("amz-sdk-request" in request.headers for request in http.requests)


def read(http: FakeHttp, monkeypatch: pytest.MonkeyPatch, *, max_attempts: int = 1) -> bytes:
    """Read the range of an object."""
    bucket = Bucket(*fake_client(http, monkeypatch), "bucket", storage="lab", max_attempts=max_attempts, revalidate=0)
    return b"".join(bucket.stream(KEY, Object(100, 0.0, ETAG, None), SPAN, on_response=lambda _: None))


class TestResponses:
    def test_of_another_region_are_followed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def answer(request: AWSPreparedRequest) -> Answer:
            if "eu-west-1" in request.url:
                return answer_part(request)
            return failure(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"})(request)

        http = FakeHttp(answer)
        requests = RangeRequests(*fake_client(http, monkeypatch), "bucket")
        for _ in range(3):
            assert requests.get(KEY, SPAN, ETAG).body.read(100) == DATA
        assert ["eu-west-1" in request.url for request in http.requests] == [False, False, True, True, True]
        assert not [request for request in http.requests[3:] if "amz-sdk-request" in request.headers]
        assert [body.closed for body in http.bodies[:1]] == [True]

    @pytest.mark.parametrize(
        ("status", "code"), [(412, "PreconditionFailed"), (412, ""), (416, "InvalidRange"), (404, "NoSuchKey")]
    )
    def test_of_another_version(self, monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
        http = FakeHttp(failure(status, code))
        with pytest.raises(VersionError):
            read(http, monkeypatch, max_attempts=3)
        assert [body.closed for body in http.bodies] == [True]

    @pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, ""), (429, "TooManyRequests")])
    def test_of_a_busy_server_are_retried(self, monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
        http = FakeHttp(failure(status, code, {"x-amz-request-id": "id1"}))
        with pytest.raises(StorageError, match="the storage 'lab' is unavailable") as caught:
            read(http, monkeypatch, max_attempts=2)
        assert caught.value.is_passing
        assert str(caught.value).endswith(f"(GetObject: {code or status}, status {status}, request id id1)")
        assert [body.closed for body in http.bodies] == [True] * 2

    def test_of_an_absent_bucket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        http = FakeHttp(failure(404, "NoSuchBucket"))
        with pytest.raises(StorageError, match="the bucket of the storage 'lab' does not exist"):
            read(http, monkeypatch)

    def test_that_refuse_are_reported_by_boto3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        http = FakeHttp(failure(403, "AccessDenied"))
        with pytest.raises(StorageError, match="the storage 'lab' does not let this server read it"):
            read(http, monkeypatch, max_attempts=3)
        assert ["amz-sdk-request" in request.headers for request in http.requests] == [False, True]

    def test_without_credentials_there_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hidden = {name: value for name, value in ENVIRONMENT.items() if "KEY" not in name}
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        http = FakeHttp(answer_part)
        client, credentials = fake_client(http, monkeypatch, environment=hidden)
        bucket = Bucket(client, credentials, "bucket", storage="lab", max_attempts=2, revalidate=0)
        with pytest.raises(StorageError, match="this server has no credentials for the storage 'lab'"):
            list(bucket.stream(KEY, Object(100, 0.0, ETAG, None), SPAN, on_response=lambda _: None))
        assert not http.requests
