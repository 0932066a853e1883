"""Where the files are, as the configuration names it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from htsget_flask.config.types import BaseUrl, Folder, Model, Secret, base_url, meant_settings

_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:[A-Za-z0-9:/._-]{3,1000}")


def _bucket_name(value: str) -> str:
    if not _BUCKET.fullmatch(value):
        raise ValueError("must be the name of a bucket, or the ARN of an access point")
    return value


BucketName = Annotated[str, AfterValidator(_bucket_name)]


def _known_type(value: Any) -> Any:
    if value != "local":
        raise ValueError("must be local or s3")
    return value


class LocalStorageConfig(Model):
    """A folder of this machine."""

    type: Annotated[Literal["local"], BeforeValidator(_known_type)]
    root: Path = Field(description="The folder; a relative one counts from the configuration file's own folder.")
    sendfile: Literal["x-accel", "x-sendfile"] | None = Field(
        None, description="How a web server in front takes over the sending of files: that of nginx, or of Apache."
    )
    url: BaseUrl | None = Field(None, description="Where a web server serves the folder to signed URLs.")
    secret: Secret | None = Field(None, description="What URLs are signed with, or `file:` and the file that holds it.")
    expires: int = Field(86_400, ge=1, description="Seconds for which a signed URL is good.")

    @model_validator(mode="after")
    def _signs_as_a_whole(self) -> "LocalStorageConfig":
        if (self.url is None) != (self.secret is None):
            raise ValueError("url and secret go together")
        return self


class S3StorageConfig(Model):
    """A bucket of S3, or of a server that speaks its protocol; credentials are found in boto3's usual places."""

    type: Literal["s3"]
    bucket: BucketName
    prefix: Folder = Field("", description="The folder in the bucket that keys are relative to.")
    endpoint_url: str | None = Field(None, description="The server's URL, where it is not that of AWS.")
    region: str | None = Field(None, description="By default the one that boto3 finds.")
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether URLs have the bucket in their path, or in the host's name."
    )
    anonymous: bool = Field(False, description="Ask without credentials, for buckets that are open to all.")
    proxy: bool = Field(False, description="Deliver all bytes through this server, for clients that cannot reach S3.")
    expires: int = Field(86_400, ge=4, le=604_800, description="Seconds for which a presigned URL is good.")
    revalidate: float = Field(60, ge=0, description="Seconds for which an object's version is not asked for again.")
    connect_timeout: float = Field(3, gt=0, description="Seconds to wait for a connection.")
    read_timeout: float = Field(10, gt=0, description="Seconds to wait for the next bytes.")
    max_attempts: int = Field(4, ge=1, description="How often a request is made, while its failure may pass.")

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value).rstrip("/")


def _kind_of_storage(value: Any) -> str:
    if isinstance(value, dict):
        return "s3" if meant_settings(value, ("type",)).get("type") == "s3" else "local"
    return "s3" if isinstance(value, S3StorageConfig) else "local"


StorageConfig = Annotated[
    Annotated[LocalStorageConfig, Tag("local")] | Annotated[S3StorageConfig, Tag("s3")],
    Discriminator(_kind_of_storage),
]
