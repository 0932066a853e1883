"""boto3 clients whose requests reach a function instead of a server."""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.credentials import Credentials

from htsget_flask.storage.s3.client import S3Settings, open_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "dummy-access-key",
    "AWS_SECRET_ACCESS_KEY": "dummy-secret-key",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


class Body(io.BytesIO):
    """A response's body; boto3 reads that of an error with `stream`."""

    def stream(self, **_: object) -> list[bytes]:
        return [self.read()]


class FakeHttp:
    """Connections over which `answer` gives the status, header fields and body of each response."""

    def __init__(self, answer: Callable[[AWSPreparedRequest], tuple[int, Mapping[str, str], bytes]]) -> None:
        self._answer = answer
        self.requests: list[AWSPreparedRequest] = []
        self.bodies: list[Body] = []

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        self.requests.append(request)
        status, fields, content = self._answer(request)
        self.bodies.append(Body(content))
        headers: Any = fields
        return AWSResponse(request.url, status, headers, self.bodies[-1])


def fake_client(
    http: FakeHttp, monkeypatch: pytest.MonkeyPatch, *, environment: Mapping[str, str] = ENVIRONMENT, **settings: Any
) -> tuple["S3Client", Credentials | None]:
    """A client with these settings, and its credentials, which `environment` has."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    location: dict[str, Any] = {"bucket": "bucket", "prefix": "", "endpoint_url": None, "region": "us-east-1"}
    access: dict[str, Any] = {"addressing_style": "auto", "anonymous": False, "proxy": False, "expires": 100}
    limits = {"revalidate": 0.0, "connect_timeout": 1.0, "read_timeout": 1.0, "max_attempts": 1}
    client, credentials = open_client(S3Settings(**{**location, **access, **limits, **settings}))
    connections: Any = client
    connections._endpoint.http_session = http
    return client, credentials
