"""`make serve-s3`: the example data in a bucket of an S3 server on this machine, and the service on it.

The S3 server is versitygw, if it is on the PATH or named by the variable VERSITYGW, or else rclone. The bucket is made
at each start, and removed at the end.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from htsget_flask.commands.demo import write_demo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef

BUILD = Path("build")
BUCKET = "demo"
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "demo-access-key", "demo-secret-key"
CORS_RULE: "CORSRuleTypeDef" = {
    "AllowedOrigins": ["*"],
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["Content-Range", "Content-Length", "Accept-Ranges", "ETag"],
    "MaxAgeSeconds": 3600,
}
SETTINGS = """\
# Made by `make serve-s3`. The credentials come from the environment.
storages:
  data:
    type: s3
    bucket: {bucket}
    endpoint_url: {endpoint}
    region: {region}
    addressing_style: path
{proxy}\
datasets:
  - prefix: ""
    storage: data
    genome: {{storage: data, fasta: demo.fa}}
files:
  storages: [data]
  listing: true
refget:
  fastas: [{{storage: data, prefix: ""}}]
"""
PROXY = """\
    # rclone does not answer browsers' preflights, so that the page could not fetch from it; versitygw does.
    proxy: true
"""

_STARTED_WITHIN = 30.0


def main(port: str) -> int:
    """Run both servers until one of them ends; the service listens on `port`."""
    signal.signal(signal.SIGTERM, _end)
    versitygw = shutil.which(os.environ.get("VERSITYGW", "versitygw"))
    environment = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    address = f"127.0.0.1:{_free_port()}"
    data, settings = BUILD / "demo", BUILD / "s3-demo.yaml"
    write_demo(data)
    with tempfile.TemporaryDirectory() as root, _running(_s3_command(versitygw, address, root)) as s3:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"total_max_attempts": 1}),
        )
        _await_answer(client, s3)
        _fill(client, data, has_cors=versitygw is not None)
        proxy = "" if versitygw else PROXY
        text = SETTINGS.format(bucket=BUCKET, endpoint=f"http://{address}", region=REGION, proxy=proxy)
        settings.write_text(text, encoding="utf-8")
        print(f"{'versitygw' if versitygw else 'rclone'} serves s3://{BUCKET} at http://{address}", flush=True)
        print(f"The configuration of htsget-flask is {settings}", flush=True)
        command = [_own("htsget-flask"), "serve", "--config", settings, "--port", port]
        with _running(command, environment, is_quiet=False) as service:
            return service.wait()


def _s3_command(versitygw: str | None, address: str, root: str) -> list[object]:
    """How to start the S3 server."""
    if versitygw is None:
        key = f"{ACCESS_KEY},{SECRET_KEY}"
        log = ["--config", "", "--log-level", "ERROR"]
        return [_own("rclone"), "serve", "s3", *log, "--auth-key", key, "--addr", address, root]
    buckets, metadata = Path(root, "buckets"), Path(root, "metadata")
    buckets.mkdir()
    metadata.mkdir()
    options = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", address, "--keep-alive", "--quiet"]
    return [versitygw, *options, "posix", "--sidecar", metadata, buckets]


def _fill(client: "S3Client", folder: Path, *, has_cors: bool) -> None:
    """Make the bucket, and put the files of a folder into it."""
    client.create_bucket(Bucket=BUCKET)
    if has_cors:
        client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [CORS_RULE]})
    for path in sorted(folder.iterdir()):
        client.upload_file(str(path), BUCKET, path.name)


def _own(name: str) -> Path:
    """A program of this Python's environment."""
    return Path(sys.executable).with_name(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(
    command: Sequence[object], environment: Mapping[str, str] | None = None, *, is_quiet: bool = True
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a program until the end of the context; a quiet one prints only its errors."""
    process = subprocess.Popen(  # noqa: S603
        [str(part) for part in command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL if is_quiet else None,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _await_answer(client: "S3Client", server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _STARTED_WITHIN
    while server.poll() is None and time.monotonic() < end:
        with suppress(BotoCoreError, ClientError):
            client.list_buckets()
            return
        time.sleep(0.05)
    raise SystemExit("the S3 server does not answer")


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1]))
