"""What `htsget-flask check` finds out about buckets: whether this server can read them, and clients by its URLs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore import exceptions as faults
from botocore.credentials import Credentials, RefreshableCredentials

from htsget_flask.commands.check.cors import cors_rules, page_origins, probe
from htsget_flask.commands.check.findings import Findings
from htsget_flask.config import Config, DatasetConfig, S3StorageConfig
from htsget_flask.errors import NotFound, StorageError
from htsget_flask.storage.s3.bucket import Bucket, NotAllowedError, Object
from htsget_flask.storage.s3.client import S3Settings, open_client
from htsget_flask.storage.s3.failures import ARCHIVED
from htsget_flask.storage.s3.presigned import Presigner

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Seconds between two clocks, beyond which S3 refuses requests; and what a clock that is set by others does not reach.
_MAX_SKEW, _USUAL_SKEW = 15 * 60, 60
_LOOKED_AT = 100

_BUCKET = "correct `bucket`, or `endpoint_url` and `region`, which tell where it is looked for"
_CREDENTIALS = "correct the credentials where boto3 finds them (AWS_ACCESS_KEY_ID, a profile, a role)"
_PERMISSION = "allow s3:GetObject, and s3:GetObjectVersion where the bucket keeps versions"
_CONNECTION = "see whether `endpoint_url` and `region` are right, and whether this machine can reach it"
_RESTORE = "restore it, with `aws s3api restore-object`"
_ADVICE = {
    **dict.fromkeys(("NoSuchBucket", "404"), _BUCKET),
    **dict.fromkeys(("AccessDenied", "403"), _PERMISSION),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"), _CREDENTIALS),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException"), "renew them"),
    ARCHIVED: _RESTORE,
    "RequestTimeTooSkewed": "set this machine's clock",
}


@dataclass(slots=True)
class BucketReport(Findings):
    """What was found about a storage's bucket: `facts` in a few words each, and the CORS rules to set, as JSON."""

    storage_name: str
    location: str
    facts: list[str] = field(default_factory=list)
    cors_rules: str | None = None


def check_buckets(config: Config) -> Iterator[BucketReport]:
    """Report on the bucket of each S3 storage, as they are looked at."""
    for name, storage in config.storages.items():
        if isinstance(storage, S3StorageConfig):
            client, credentials = open_client(S3Settings(**storage.model_dump(exclude={"type"})))
            with closing(client):
                yield _Check(config, name, storage, client, credentials).run()


class _Check:
    """The questions to one bucket."""

    def __init__(
        self, config: Config, name: str, storage: S3StorageConfig, client: "S3Client", credentials: Credentials | None
    ) -> None:
        self._config = config
        self._name = name
        self._storage = storage
        self._client = client
        self._credentials = credentials
        self._bucket = Bucket(client, storage.bucket, storage=name, max_attempts=storage.max_attempts, revalidate=0)
        self._skews: list[float] = []
        self._report = BucketReport(name, f"s3://{storage.bucket}/{storage.prefix}")

    def run(self) -> BucketReport:
        """Ask all of them, up to one whose failure leaves the others without an answer."""
        self._client.meta.events.register("response-received.s3", self._note_time)
        storage = self._storage
        presigner = Presigner(
            self._client, self._credentials, storage.bucket, storage=self._name, expires=storage.expires
        )
        try:
            if not storage.proxy:
                self._tell_lifetime(presigner)
            key = self._find()
            found = None if key is None else self._look_at(key)
            self._tell_versions(found)
            if found is not None and found.is_archived:
                self._report.warning(
                    f"the object that was looked at is in the archive, so that no URL of one could be tried; {_RESTORE}"
                )
            if not storage.proxy:
                self._tell_of_urls(presigner, key, found)
        except StorageError as error:
            self._report.error(f"{error}; {_advice(error.__cause__)}")
        self._tell_skew()
        return self._report

    def _find(self) -> str | None:
        """The key of an object to try."""
        try:
            batch = self._bucket.batch(self._storage.prefix, limit=_LOOKED_AT)
        except NotAllowedError:
            self._report.warning(
                "may not be listed: an absent file is then forbidden, which is status 500 and not 404, and files below"
                " a prefix are found neither here nor by the page; allow s3:ListBucket"
            )
            return next(self._configured_keys(), None)
        self._report.facts.append("may be listed")
        if not batch.objects:
            self._report.warning("holds no objects")
        keys = [key for key, found in batch.objects.items() if found.size]
        # A key that may be in the archive only where there is no other.
        return min(keys, key=lambda key: batch.objects[key].is_archived is not False, default=None)

    def _configured_keys(self) -> Iterator[str]:
        for entry in self._config.datasets:
            if isinstance(entry, DatasetConfig):
                for file in (*entry.reads.values(), *entry.variants.values()):
                    if file.storage == self._name:
                        yield self._storage.prefix + file.key

    def _look_at(self, key: str) -> Object | None:
        try:
            return self._bucket.head(key)
        except NotFound:
            # Which files are absent is told of each of them.
            return None

    def _tell_versions(self, found: Object | None) -> None:
        try:
            keeps = self._client.get_bucket_versioning(Bucket=self._storage.bucket).get("Status") == "Enabled"
        except (faults.ClientError, faults.BotoCoreError):
            # It takes a permission that nothing else needs; an object tells as well.
            if found is None:
                return
            keeps = found.version_id is not None
        self._report.facts.append("keeps versions" if keeps else "keeps no versions")

    def _tell_of_urls(self, presigner: Presigner, key: str | None, found: Object | None) -> None:
        storage, report = self._storage, self._report
        signed = presigner.sign(key or f"{storage.prefix}any", found or Object(0, 0, '"any"', None))
        origins = page_origins(self._config, self._name)
        try:
            answered = probe(
                signed,
                origins,
                is_there=found is not None and not found.is_archived,
                timeout=(storage.connect_timeout, storage.read_timeout),
            )
        except faults.BotoCoreError as error:
            report.error(f"presigned URLs are not answered ({type(error).__name__}); {_CONNECTION}")
            return
        if answered.refusal:
            advice = _RESTORE if answered.code == ARCHIVED else f"correct `region`, or {_PERMISSION}"
            report.error(f"presigned URLs are answered with {answered.refusal}; {advice}")
        if answered.cors_faults:
            report.cors_rules = cors_rules(origins)
            report.warning(
                f"web pages such as igv.js cannot read from it: {'; '.join(answered.cors_faults)}. Set the CORS rules"
                f" below (aws s3api put-bucket-cors --bucket {storage.bucket} --cors-configuration file://cors.json);"
                " where the server knows none, let a proxy before it answer so, or set `proxy: true`"
            )

    def _tell_lifetime(self, presigner: Presigner) -> None:
        wanted, credentials, lifetime = self._storage.expires, self._credentials, presigner.lifetime()
        if lifetime < wanted:
            self._report.warning(
                f"the credentials end in {timedelta(seconds=lifetime)}, and with them the URLs that are signed now,"
                f" before the {timedelta(seconds=wanted)} of `expires`"
            )
        elif credentials is not None and credentials.token and not isinstance(credentials, RefreshableCredentials):
            self._report.warning(
                "the credentials are temporary and do not tell when they end: URLs may end before `expires`"
            )

    def _note_time(self, response_dict: Mapping[str, Any] | None, **_: object) -> None:
        date = None if response_dict is None else response_dict["headers"].get("date")
        if date is not None:
            self._skews.append(parsedate_to_datetime(date).timestamp() - time.time())

    def _tell_skew(self) -> None:
        skew = min(self._skews, key=abs, default=0.0)
        if abs(skew) < _USUAL_SKEW:
            return
        message = f"its clock is {timedelta(seconds=round(abs(skew)))} {'ahead of' if skew > 0 else 'behind'} this one"
        if abs(skew) < _MAX_SKEW:
            self._report.warning(f"{message}; beyond 15 minutes S3 refuses all requests: set this machine's clock")
        else:
            self._report.error(f"{message}, and S3 refuses requests beyond 15 minutes: set this machine's clock")


def _advice(cause: BaseException | None) -> str:
    if isinstance(cause, faults.ClientError):
        metadata = cause.response.get("ResponseMetadata", {})
        code = cause.response.get("Error", {}).get("Code") or str(metadata.get("HTTPStatusCode"))
        return _ADVICE.get(code, _CONNECTION)
    if isinstance(cause, (faults.NoCredentialsError, faults.PartialCredentialsError)):
        return f"{_CREDENTIALS}, or set `anonymous: true` for a bucket that is open to all"
    if isinstance(cause, faults.SSLError):
        return "AWS_CA_BUNDLE names the file of the certificates that are trusted"
    return _CONNECTION
