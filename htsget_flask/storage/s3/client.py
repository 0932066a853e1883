"""From settings to a bucket: the one client for it, and its credentials."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials

from htsget_flask import __version__
from htsget_flask.storage.s3.bucket import Bucket
from htsget_flask.storage.s3.presigned import Presigner
from htsget_flask.storage.s3.storage import S3Storage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Of requests that are made ahead; they are as many whatever the number of threads that answer clients.
_THREADS = 32
# More than any worker has threads: a connection that is used is kept. Only those that are needed are made.
_CONNECTIONS = 512


def connect(
    name: str,
    *,
    bucket: str,
    prefix: str,
    endpoint_url: str | None,
    region: str | None,
    addressing_style: Literal["auto", "path", "virtual"],
    anonymous: bool,
    proxy: bool,
    expires: int,
    revalidate: float,
    connect_timeout: float,
    read_timeout: float,
    max_attempts: int,
) -> S3Storage:
    """The storage of these settings, which docs/configuration.md tells of; nothing is asked of the bucket yet."""
    client, credentials = open_client(
        endpoint_url=endpoint_url,
        region=region,
        addressing_style=addressing_style,
        anonymous=anonymous,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
    )
    return S3Storage(
        Bucket(client, bucket, storage=name, max_attempts=max_attempts, revalidate=revalidate),
        prefix,
        presigner=None if proxy else Presigner(client, credentials, bucket, storage=name, expires=expires),
        executor=ThreadPoolExecutor(_THREADS, thread_name_prefix=f"s3-{name}"),
        revalidate=revalidate,
    )


def open_client(
    *,
    endpoint_url: str | None,
    region: str | None,
    addressing_style: Literal["auto", "path", "virtual"],
    anonymous: bool,
    connect_timeout: float,
    read_timeout: float,
) -> tuple["S3Client", Credentials | None]:
    """A client of these settings that tries once, and its credentials: None where it has none, or needs none."""
    session = boto3.session.Session()
    client = session.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            signature_version=UNSIGNED if anonymous else "s3v4",
            s3={"addressing_style": addressing_style},
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_connections=_CONNECTIONS,
            user_agent_extra=f"htsget_flask/{__version__}",
            # Bucket does it, for the bodies of answers as well.
            retries={"total_max_attempts": 1},
            # Of a range there is none, and a URL would demand that clients ask for it.
            response_checksum_validation="when_required",
        ),
    )
    return client, None if anonymous else session.get_credentials()
