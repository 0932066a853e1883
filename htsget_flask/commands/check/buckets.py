"""Whether this server can read from buckets, and clients by its presigned URLs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
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

# Seconds between two clocks: S3 refuses requests beyond the first, a synchronised clock stays below the second.
_MAX_SKEW, _USUAL_SKEW = 15 * 60, 60
_MAX_LISTED = 100

_CREDENTIALS = "correct the credentials where boto3 finds them (AWS_ACCESS_KEY_ID, a profile, a role)"
_PERMISSION = "allow s3:GetObject, and s3:GetObjectVersion where the bucket keeps versions"
_CONNECTION = "check `endpoint_url` and `region`, and whether this machine can reach them"
_RESTORE = "restore it, with `aws s3api restore-object`"
_LOCATION = "correct `bucket`, or `endpoint_url` and `region`, which say where it is"
_ADVICE = {
    **dict.fromkeys(("NoSuchBucket", "404"), _LOCATION),
    **dict.fromkeys(("AccessDenied", "403"), _PERMISSION),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"), _CREDENTIALS),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException"), "renew them"),
    ARCHIVED: _RESTORE,
    "RequestTimeTooSkewed": "set this machine's clock",
}


@dataclass(slots=True)
class BucketReport(Findings):
    """The findings about a storage's bucket: `facts` in a few words each, and the CORS rules to set, as JSON."""

    storage_name: str
    location: str
    facts: list[str] = field(default_factory=list)
    cors_rules: str | None = None


def check_buckets(config: Config) -> Iterator[BucketReport]:
    """Check the bucket of each S3 storage; the reports come one by one."""
    for name, storage in config.storages.items():
        if isinstance(storage, S3StorageConfig):
            client, credentials = open_client(S3Settings(**storage.model_dump(exclude={"type"})))
            with closing(client):
                yield _Check(config, name, storage, client, credentials).run()


class _Check:
    def __init__(
        self, config: Config, name: str, storage: S3StorageConfig, client: "S3Client", credentials: Credentials | None
    ) -> None:
        self._config, self._name, self._storage = config, name, storage
        self._client, self._credentials = client, credentials
        self._bucket = Bucket(
            client, credentials, storage.bucket, storage=name, max_attempts=storage.max_attempts, revalidate=0
        )
        self._presigner = Presigner(client, credentials, storage.bucket, storage=name, expires=storage.expires)
        self._skews: list[float] = []
        self._report = BucketReport(name, f"s3://{storage.bucket}/{storage.prefix}")

    def run(self) -> BucketReport:
        """Check everything, up to a failure that makes the rest impossible."""
        self._client.meta.events.register("response-received.s3", self._note_time)
        try:
            if not self._storage.proxy:
                self._check_lifetime()
            key, obj = self._choose_key(), None
            if key is not None:
                # check_files reports each absent file.
                with suppress(NotFound):
                    obj = self._bucket.head(key)
            self._check_versions(obj)
            if obj is not None and obj.is_archived:
                self._report.warning(
                    f"the object that was checked is in the archive, so presigned URLs could not be tried; {_RESTORE}"
                )
            if not self._storage.proxy:
                self._check_urls(key, obj)
        except StorageError as error:
            self._report.error(f"{error}; {_advice(error.__cause__)}" if error.__cause__ else str(error))
        self._check_clock()
        return self._report

    def _choose_key(self) -> str | None:
        """The key of an object to try, from a listing or else from the configuration."""
        try:
            batch = self._bucket.batch(self._storage.prefix, limit=_MAX_LISTED)
        except NotAllowedError:
            self._report.warning(
                "may not be listed: absent files are answered with status 500 instead of 404, and files below"
                " a prefix are found neither here nor by the page; allow s3:ListBucket"
            )
            entries = (entry for entry in self._config.datasets if isinstance(entry, DatasetConfig))
            files = (file for entry in entries for file in (*entry.reads.values(), *entry.variants.values()))
            keys = (self._storage.prefix + file.key for file in files if file.storage == self._name)
            return next(keys, None)
        self._report.facts.append("may be listed")
        if not batch.objects:
            self._report.warning("holds no objects")
        # An object that may be in the archive is the last choice.
        objects = sorted(batch.objects.items(), key=lambda item: item[1].is_archived is not False)
        return next((key for key, obj in objects if obj.size), None)

    def _check_versions(self, obj: Object | None) -> None:
        # Nothing else needs this permission; an object shows it too.
        keeps_versions = None if obj is None else obj.version_id is not None
        with suppress(faults.ClientError, faults.BotoCoreError):
            keeps_versions = self._client.get_bucket_versioning(Bucket=self._storage.bucket).get("Status") == "Enabled"
        if keeps_versions is not None:
            self._report.facts.append("keeps versions" if keeps_versions else "keeps no versions")

    def _check_urls(self, key: str | None, obj: Object | None) -> None:
        storage, report = self._storage, self._report
        signed = self._presigner.sign(key or f"{storage.prefix}any", obj or Object(0, 0, '"any"', None))
        origins, timeout = page_origins(self._config, self._name), (storage.connect_timeout, storage.read_timeout)
        try:
            refusal, cors_faults = probe(
                signed, origins, has_object=obj is not None and not obj.is_archived, timeout=timeout
            )
        except faults.BotoCoreError as error:
            report.error(f"requests to presigned URLs fail ({type(error).__name__}); {_CONNECTION}")
            return
        if refusal:
            advice = _RESTORE if ARCHIVED in refusal else f"correct `region`, or {_PERMISSION}"
            report.error(f"presigned URLs are answered with {refusal}; {advice}")
        if cors_faults:
            report.cors_rules = cors_rules(origins)
            report.warning(
                f"web pages such as igv.js cannot read from it: {'; '.join(cors_faults)}. Set the CORS rules"
                f" below (aws s3api put-bucket-cors --bucket {storage.bucket} --cors-configuration file://cors.json);"
                " if the server has no such rules, let a proxy in front of it answer like that, or set `proxy: true`"
            )

    def _check_lifetime(self) -> None:
        expires, credentials, lifetime = self._storage.expires, self._credentials, self._presigner.lifetime()
        if lifetime < expires:
            self._report.warning(
                f"the credentials expire in {timedelta(seconds=lifetime)}, and with them the URLs that are signed now,"
                f" earlier than the {timedelta(seconds=expires)} of `expires`"
            )
        elif credentials is not None and credentials.token and not isinstance(credentials, RefreshableCredentials):
            self._report.warning(
                "the credentials are temporary with an unknown end: URLs may expire earlier than `expires`"
            )

    def _note_time(self, response_dict: Mapping[str, Any] | None, **_: object) -> None:
        date = None if response_dict is None else response_dict["headers"].get("date")
        if date is not None:
            self._skews.append(parsedate_to_datetime(date).timestamp() - time.time())

    def _check_clock(self) -> None:
        skew = min(self._skews, key=abs, default=0.0)
        if abs(skew) < _USUAL_SKEW:
            return
        add = self._report.warning if abs(skew) < _MAX_SKEW else self._report.error
        add(
            f"its clock is {timedelta(seconds=round(abs(skew)))} {'fast' if skew > 0 else 'slow'}, compared with this"
            " machine's; S3 refuses all requests beyond 15 minutes: set this machine's clock"
        )


def _advice(cause: BaseException | None) -> str:
    if isinstance(cause, faults.ClientError):
        metadata = cause.response.get("ResponseMetadata", {})
        code = cause.response.get("Error", {}).get("Code") or str(metadata.get("HTTPStatusCode"))
        return _ADVICE.get(code, _CONNECTION)
    if isinstance(cause, (faults.NoCredentialsError, faults.PartialCredentialsError)):
        return f"{_CREDENTIALS}, or set `anonymous: true` for a public bucket"
    if isinstance(cause, faults.SSLError):
        return "set AWS_CA_BUNDLE to the file of the trusted certificates"
    return _CONNECTION
