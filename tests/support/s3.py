"""Real S3 servers on the loopback interface: they check signatures (SigV4) of requests and of presigned URLs.

rclone comes with the tests' other packages; versitygw is nearer to AWS, but has to be there. Both have: buckets and
keys in paths (`addressing_style: path`), ETags that are MD5 sums, keys in the order of their UTF-8 bytes with prefix
and StartAfter, presigned URLs whose signed headers must be sent, and which are refused to HEAD when they are for
GET. Neither looks at the region, nor answers AWS's 403 for an absent key where the permission to list is missing:
both say 404.

Where rclone differs from AWS, apart from what `Kind` says: where a URL has expired or clocks differ it answers
AccessDenied with status 400; a ranged GET carries the checksum of the whole object, so that boto3 refuses it unless
`response_checksum_validation` is `when_required`; ETags in lists have no quotes; the MD5 sum is computed for every
answer from all of the object's bytes; answers carry CORS headers of its own, and preflights are refused. Where
versitygw differs: an object with a `/` at its end has no bytes, and refusals carry no CORS headers.
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
    """Who asks."""

    access_key: str
    secret_key: str


OWNER = Credentials("dummy-access-key", "dummy-secret-key")
"""Who may do everything."""

STRANGER = Credentials("dummy-stranger-key", "dummy-stranger-secret")
"""A user whom the server knows, and who may do only what a bucket's policy says (`Kind.has_users`)."""


@dataclass(frozen=True)
class Kind:
    """A program that is an S3 server, and what of S3 it does as AWS does."""

    name: str
    has_partial_content: bool
    """A ranged GET is answered with 206; else with 200, though Content-Range and bytes are right."""
    has_if_match: bool
    """GET and HEAD with an If-Match of another ETag are answered with 412; else with the object that is there now."""
    has_versions: bool
    """Buckets may keep versions, which GET takes by VersionId."""
    has_bucket_cors: bool
    """Buckets may have CORS rules, which answers and preflights follow."""
    has_users: bool
    """There is a `STRANGER`, who is denied what the bucket's policy does not allow; else only the owner may ask."""


RCLONE = Kind("rclone", False, False, False, False, False)
VERSITYGW = Kind("versitygw", True, True, True, True, True)

KINDS = {kind.name: kind for kind in (RCLONE, VERSITYGW)}


@dataclass(frozen=True)
class S3Server:
    """A running server; what it printed is in `log_path`."""

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
        """The variables by which boto3 and AWS's other tools find credentials, and nothing else."""
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
        """A client that never tries twice, to arrange and to look; closed with the server. `endpoint` is a proxy's."""
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
        """What boto3 reads once for all clients."""
        return boto3.session.Session()

    @cached_property
    def owner(self) -> "S3Client":
        """The owner's client."""
        return self.client()

    def create_bucket(self, files: Mapping[str, bytes | Path] | None = None, *, versions: bool = False) -> str:
        """The name of a new bucket with these objects, by their keys; it is like no other bucket's."""
        bucket = f"test-{uuid.uuid4().hex}"
        self.owner.create_bucket(Bucket=bucket)
        if versions:
            self.owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key, content in (files or {}).items():
            self.put(bucket, key, content)
        return bucket

    def put(self, bucket: str, key: str, content: bytes | Path) -> None:
        """Put an object in place: these bytes, or those of a file."""
        if isinstance(content, bytes):
            self.owner.put_object(Bucket=bucket, Key=key, Body=content)
            return
        with content.open("rb") as body:
            self.owner.put_object(Bucket=bucket, Key=key, Body=body)

    def put_folder(self, bucket: str, folder: Path, prefix: str = "") -> None:
        """Put all files below a folder in place, their paths in it behind the prefix."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, prefix + path.relative_to(folder).as_posix(), path)

    def log(self) -> str:
        """What it printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def answers(self) -> bool:
        """Whether it knows its owner."""
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
    """The path of the program; where there is none the test is skipped, or fails on continuous integration.

    The variable VERSITYGW names that program, or is empty where tests are meant to do without it.
    """
    named = os.environ.get("VERSITYGW") if kind is VERSITYGW else None
    if named is None:
        return tool(kind.name)
    if not named:
        pytest.skip("versitygw is left out: the variable VERSITYGW is empty")
    return shutil.which(named) or missing(f"{named}, which the variable VERSITYGW names, is no program")


def _command(kind: Kind, program: str, folder: Path, port: int) -> list[object]:
    """How to start a server that keeps its data in a folder."""
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
        # Files beside the data, and not their extended attributes, which not every disk has.
        *("posix", "--sidecar", folders["metadata"], "--versioning-dir", folders["old"], folders["buckets"]),
    ]


def _add_stranger(program: str, server: S3Server) -> None:
    """Make the stranger known to versitygw."""
    command = [
        *(program, "admin", "--allow-insecure", "--endpoint-url", server.endpoint, "--region", REGION),
        *("--access", OWNER.access_key, "--secret", OWNER.secret_key, "create-user", "--role", "user"),
        *("--access", STRANGER.access_key, "--secret", STRANGER.secret_key),
    ]
    ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_MINUTE, check=False)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")


@contextmanager
def serving_s3(kind: Kind, folder: Path) -> Iterator[S3Server]:
    """Run a server until the end of the context; `folder` takes its data and what it prints.

    Raises:
        AssertionError: when it does not answer in time.

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
