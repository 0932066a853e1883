"""The settings of storages: folders of this machine, and buckets."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from htsget_flask.config.types import BaseUrl, ExistingFolder, FolderKey, Model, Secret, constraint, correct_spelling

_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:[A-Za-z0-9:/._-]{3,1000}")
BucketName = Annotated[str, constraint(_BUCKET.fullmatch, "must be the name of a bucket or the ARN of an access point")]


def _known_type(value: Any) -> Any:
    if value != "local":
        raise ValueError("must be local or s3")
    return value


class LocalStorageConfig(Model):
    """A folder of this machine."""

    type: Annotated[Literal["local"], BeforeValidator(_known_type)]
    """The type of storage."""
    root: ExistingFolder
    """The folder; a relative path counts from the configuration file's folder. Symbolic links are followed within it,
    never out of it."""
    sendfile: Literal["x-accel", "x-sendfile"] | None = None
    """The web server in front sends large answers from the folder itself: `x-accel` for nginx, `x-sendfile` for Apache
    ([deployment.md](deployment.md)). This server sends all others. Needs `trusted_proxies`: only then is the header
    field that requests it the web server's, and not any client's."""
    url: BaseUrl | None = None
    """URL at which nginx serves the folder to signed URLs ([deployment.md](deployment.md)): tickets then point there
    for data that are bytes of the file as they stand."""
    secret: Secret | None = None
    """Required with `url`. The secret that signs these URLs, which nginx verifies: 16 to 256 letters, digits and
    `_-.+/=`, at least six different ones; or `file:` and the path of its file, such as `file:/run/secrets/htsget`."""
    expires: int = Field(86_400, ge=1)
    """How long a signed URL is valid, in s: clients fetch the blocks of a ticket one after the other, the last of them
    hours later."""

    def model_post_init(self, context: Any, /) -> None:
        if (self.url is None) != (self.secret is None):
            raise ValueError("url and secret go together")


class S3StorageConfig(Model):
    """A bucket of S3, or of a server that speaks its protocol; credentials are found in boto3's usual places."""

    type: Literal["s3"]
    """The type of storage."""
    bucket: BucketName
    """The bucket's name, or the ARN of an access point."""
    prefix: FolderKey = ""
    """The folder in the bucket that paths count from; by default all of it."""
    endpoint_url: Annotated[BaseUrl, AfterValidator(lambda url: url.rstrip("/"))] | None = None
    """The server's URL; by default that of AWS. Clients have to reach it too, unless `proxy` is set: presigned URLs
    point there."""
    region: str | None = None
    """The bucket's region; by default the one that boto3 finds. Presigned URLs for a wrong one are refused."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Whether URLs have the bucket in the path or in the host (`virtual`). Servers other than AWS often need `path`."""
    anonymous: bool = False
    """Send requests without credentials, for public buckets."""
    proxy: bool = False
    """Deliver all bytes through this server, as explained below."""
    expires: int = Field(86_400, ge=4, le=604_800)
    """How long a presigned URL is valid, in s. It never outlives the credentials that signed it."""
    revalidate: float = Field(60, ge=0)
    """How long an object's version is cached, in s, as explained below."""
    connect_timeout: float = Field(3, gt=0)
    """How long to wait for a connection, in s."""
    read_timeout: float = Field(10, gt=0)
    """How long to wait for the next bytes of an answer, in s."""
    max_attempts: int = Field(4, ge=1)
    """The most attempts of a request whose failure may be temporary (throttling, time-outs, cut connections)."""


def _storage_tag(value: Any) -> str:
    if isinstance(value, dict):
        return "s3" if correct_spelling(value, ("type",)).get("type") == "s3" else "local"
    return "s3" if isinstance(value, S3StorageConfig) else "local"


StorageConfig = Annotated[
    Annotated[LocalStorageConfig, Tag("local")] | Annotated[S3StorageConfig, Tag("s3")], Discriminator(_storage_tag)
]
