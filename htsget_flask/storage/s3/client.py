"""From settings to a bucket: its client and credentials."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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

# For prefetches, whatever the number of threads that answer clients.
_THREADS = 32
# More than any worker has threads, so that used connections stay open; they are opened on demand.
_CONNECTIONS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """The settings of a storage of type `s3`, as docs/configuration.md describes them."""

    bucket: str
    prefix: str
    endpoint_url: str | None
    region: str | None
    addressing_style: Literal["auto", "path", "virtual"]
    anonymous: bool
    proxy: bool
    expires: int
    revalidate: float
    connect_timeout: float
    read_timeout: float
    max_attempts: int


def connect(name: str, settings: S3Settings) -> S3Storage:
    """The storage of these settings; this makes no request."""
    client, credentials = open_client(settings)
    bucket = Bucket(
        client,
        credentials,
        settings.bucket,
        storage=name,
        max_attempts=settings.max_attempts,
        revalidate=settings.revalidate,
    )
    presigner = Presigner(client, credentials, settings.bucket, storage=name, expires=settings.expires)
    return S3Storage(
        bucket,
        settings.prefix,
        presigner=None if settings.proxy else presigner,
        executor=ThreadPoolExecutor(_THREADS, thread_name_prefix=f"s3-{name}"),
        revalidate=settings.revalidate,
    )


def open_client(settings: S3Settings) -> tuple["S3Client", Credentials | None]:
    """A client that makes one attempt per request, and its credentials: None where it has or needs none."""
    session = boto3.session.Session()
    client = session.client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        config=Config(
            signature_version=UNSIGNED if settings.anonymous else "s3v4",
            s3={"addressing_style": settings.addressing_style},
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            max_pool_connections=_CONNECTIONS,
            user_agent_extra=f"htsget_flask/{__version__}",
            # Bucket retries, also where the body of a response is cut short.
            retries={"total_max_attempts": 1},
            # Ranges have no checksum, and a presigned URL would require clients to request one.
            response_checksum_validation="when_required",
        ),
    )
    return client, None if settings.anonymous else session.get_credentials()
