"""Real S3 servers on the loopback interface: they check signatures (SigV4) of requests and of presigned URLs.

rclone is one of the tests' packages; versitygw is closer to AWS, but has to be installed. Both support buckets and keys
in paths (`addressing_style: path`), ETags that are MD5 sums, keys in the order of their UTF-8 bytes with prefix and
StartAfter, and presigned URLs whose signed headers must be sent and which refuse HEAD if they are for GET. Neither
checks the region. For an absent key both answer 404, where AWS answers 403 if the permission to list is missing.

rclone differs from AWS in more than `Kind` describes. For expired URLs and for clocks that differ it answers
AccessDenied with status 400. A ranged GET has the checksum of the whole object, so that boto3 refuses it unless
`response_checksum_validation` is `when_required`. ETags in lists have no quotes. The MD5 sum is computed for every
answer from all bytes of the object. Answers have rclone's own CORS headers, and preflights are refused. versitygw
differs too: an object whose key ends with `/` has no bytes, and refusals have no CORS headers.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.live.server import begin, end, free_port, wait_until
from tests.support.live.tools import missing, tool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "eu-test-1"

_STARTED_WITHIN = 30.0
_MINUTE = 60.0


@dataclass(frozen=True)
class Credentials:
    """The access key of a user."""

    access_key: str
    secret_key: str


OWNER = Credentials("dummy-access-key", "dummy-secret-key")
"""The user with all permissions."""

STRANGER = Credentials("dummy-stranger-key", "dummy-stranger-secret")
"""A known user with only the permissions of a bucket's policy (`Kind.has_users`)."""


@dataclass(frozen=True)
class Kind:
    """An S3 server program, and the features in which it agrees with AWS."""

    name: str
    has_partial_content: bool
    """A ranged GET has status 206; without this, 200 with the right Content-Range and bytes."""
    has_if_match: bool
    """GET and HEAD with the If-Match of another ETag have status 412; without this, they return the current object."""
    has_versions: bool
    """Buckets may keep versions, and GET supports VersionId."""
    has_bucket_cors: bool
    """Buckets may have CORS rules, and answers and preflights follow them."""
    has_users: bool
    """There is a `STRANGER` with only the permissions of a bucket's policy; without this, only the owner has access."""


RCLONE = Kind("rclone", False, False, False, False, False)
VERSITYGW = Kind("versitygw", True, True, True, True, True)

KINDS = {kind.name: kind for kind in (RCLONE, VERSITYGW)}


@dataclass(frozen=True)
class S3Server:
    """A running server; its output is in `log_path`."""

    kind: Kind
    port: int
    process: "subprocess.Popen[bytes]"
    log_path: Path
    _clients: list["S3Client"] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, credentials: Credentials = OWNER) -> dict[str, str]:
        """The variables that give boto3 and AWS's other tools these credentials, and hide all others."""
        return {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(
        self, credentials: Credentials = OWNER, *, endpoint: str | None = None, read_timeout: float = 10
    ) -> "S3Client":
        """A client without retries, closed with the server; `endpoint` may be a proxy's."""
        client = self._session.client(
            "s3",
            region_name=REGION,
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=read_timeout,
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self._clients.append(client)
        return client

    @cached_property
    def _session(self) -> boto3.session.Session:
        """The session that all clients share: boto3 loads its data once."""
        return boto3.session.Session()

    @cached_property
    def owner(self) -> "S3Client":
        """The owner's client."""
        return self.client()

    def create_bucket(self, files: Mapping[str, bytes | Path] | None = None, *, versions: bool = False) -> str:
        """The unique name of a new bucket with these objects by key."""
        bucket = f"test-{uuid.uuid4().hex}"
        self.owner.create_bucket(Bucket=bucket)
        if versions:
            self.owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key, content in (files or {}).items():
            self.put(bucket, key, content)
        return bucket

    def put(self, bucket: str, key: str, content: bytes | Path) -> None:
        """Upload an object: these bytes, or those of a file."""
        if isinstance(content, bytes):
            self.owner.put_object(Bucket=bucket, Key=key, Body=content)
            return
        with content.open("rb") as body:
            self.owner.put_object(Bucket=bucket, Key=key, Body=body)

    def put_folder(self, bucket: str, folder: Path, prefix: str = "") -> None:
        """Upload all files of a folder and its subfolders; a key is the prefix and the path within the folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, prefix + path.relative_to(folder).as_posix(), path)

    def log(self) -> str:
        """The text of its output."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def answers(self) -> bool:
        """Whether it answers its owner."""
        try:
            self.owner.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()


def _program(kind: Kind) -> str:
    """The path of the program; without it the test is skipped, or fails on continuous integration.

    The variable VERSITYGW names the program versitygw; if it is empty, the tests that need versitygw are skipped.
    """
    name = os.environ.get("VERSITYGW") if kind is VERSITYGW else None
    if name is None:
        return tool(kind.name)
    if not name:
        pytest.skip("versitygw is omitted: the variable VERSITYGW is empty")
    return shutil.which(name) or missing(f"{name}, from the variable VERSITYGW, is not a program")


def _command(kind: Kind, program: str, folder: Path, port: int) -> list[object]:
    """The command that starts a server with its data in a folder."""
    folders = {name: folder / name for name in ("buckets", "metadata", "old", "users")}
    for path in folders.values():
        path.mkdir(exist_ok=True)
    address = f"127.0.0.1:{port}"
    if kind is RCLONE:
        key = f"{OWNER.access_key},{OWNER.secret_key}"
        return [program, "serve", "s3", "--config", "", "--auth-key", key, "--addr", address, folders["buckets"]]
    return [
        *(program, "--access", OWNER.access_key, "--secret", OWNER.secret_key, "--region", REGION, "--keep-alive"),
        *("--port", address, "--iam-dir", folders["users"]),
        # Metadata in files, in a separate folder: not every file system has extended attributes.
        *("posix", "--sidecar", folders["metadata"], "--versioning-dir", folders["old"], folders["buckets"]),
    ]


def _add_stranger(program: str, server: S3Server) -> None:
    """Create the stranger's account at versitygw."""
    command = [
        *(program, "admin", "--allow-insecure", "--endpoint-url", server.endpoint, "--region", REGION),
        *("--access", OWNER.access_key, "--secret", OWNER.secret_key, "create-user", "--role", "user"),
        *("--access", STRANGER.access_key, "--secret", STRANGER.secret_key),
    ]
    process = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_MINUTE, check=False)
    assert process.returncode == 0, process.stderr.decode(errors="replace")


@contextmanager
def serving_s3(kind: Kind, folder: Path) -> Iterator[S3Server]:
    """Run a server until the end of the context; its data and output are in `folder`.

    Raises:
        AssertionError: it does not answer in time.

    """
    program = _program(kind)
    port, log_path = free_port(), folder / "log"
    with log_path.open("wb") as log:
        process = begin(_command(kind, program, folder, port), cwd=folder, stdout=log, stderr=log)
    server = S3Server(kind, port, process, log_path)
    try:
        answered = wait_until(lambda: process.poll() is not None or server.answers(), seconds=_STARTED_WITHIN)
        assert answered and process.poll() is None, server.log()
        if kind.has_users:
            _add_stranger(program, server)
        yield server
    finally:
        server.close()
        end(process)
