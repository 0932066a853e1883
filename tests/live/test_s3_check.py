"""`htsget-flask check` on buckets and their files, with real S3 servers."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from htsget_flask.cli import main
from htsget_flask.commands.check.buckets import BucketReport, check_buckets
from htsget_flask.config import Config
from tests.support.faulty import INVALID_OBJECT_STATE, Exchange, FaultyProxy, InArchive, always, faulty_proxy
from tests.support.files import GOOD
from tests.support.live.server import free_port
from tests.support.s3 import OWNER, RCLONE, STRANGER, Credentials, S3Server

pytestmark = pytest.mark.live

only_versitygw = pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)

READ_ONLY = {"datasets": [{"id": "a", "reads": {"BAM": {"storage": "cohort", "key": "a.bam"}}}]}


def settings(server: S3Server, bucket: str, /, more: Mapping[str, object] | None = None, **storage: object) -> Any:
    """A configuration for all files of a bucket with the prefix `data/`."""
    cohort = {
        "type": "s3",
        "bucket": bucket,
        "prefix": "data",
        "endpoint_url": server.endpoint,
        "addressing_style": "path",
        "max_attempts": 1,
    }
    storages = {"cohort": {**cohort, **storage}}
    return {"storages": storages, "datasets": [{"prefix": "", "storage": "cohort"}], **(more or {})}


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.create_bucket({"data/a.bam": b"some bytes"})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> None:
    set_environment(monkeypatch, s3_server)


def set_environment(monkeypatch: pytest.MonkeyPatch, server: S3Server, credentials: Credentials = OWNER) -> None:
    for name, value in server.environment(credentials).items():
        monkeypatch.setenv(name, value)


def report_of(content: Any) -> BucketReport:
    (report,) = check_buckets(Config.model_validate(content))
    return report


def messages(report: BucketReport) -> str:
    return "\n".join(f"{finding.severity}: {finding.message}" for finding in report.findings)


def run(tmp_path: Path, content: Any, *options: str) -> Result:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({**content, "cache": {"folder": str(tmp_path / "cache")}}))
    return CliRunner().invoke(main, ["check", "--config", str(path), *options])


def put_files(server: S3Server, bucket: str, folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        GOOD[name](folder)
    server.put_folder(bucket, folder, "data/")


@pytest.mark.usefixtures("environment")
class TestFilesInABucketAreChecked:
    def test_records_are_compared(
        self, s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s3_server.owner.delete_object(Bucket=bucket, Key="data/a.bam")
        put_files(s3_server, bucket, tmp_path / "files", "bam_straddling", "cram_multi_slice", "vcf_mid_line_blocks")
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        # pysam gets a presigned URL whether or not clients do.
        proxy = s3_server.kind is RCLONE
        result = run(tmp_path, settings(s3_server, bucket, proxy=proxy), "--deep")
        assert result.exit_code == 0, result.output
        assert len(re.findall(r"^ok .*, [1-9][0-9,]* records compared\)$", result.output, re.M)) == 3
        assert f"s3://{bucket}/data/ storage cohort (may be listed, keeps no versions)" in result.output
        assert not list(Path.cwd().iterdir())

    @only_versitygw
    def test_faults_are_reported(self, s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
        path = GOOD["bam_straddling"](tmp_path)
        s3_server.put(bucket, "data/unindexed.bam", path)
        result = run(tmp_path, settings(s3_server, bucket))
        assert result.exit_code == 1
        assert "has no index; build one with samtools, tabix or bcftools, and upload it" in result.output
        assert "FAILED /reads/a BAM" in result.output
        assert "2 files, 2 of them cannot be served" in result.output

    @only_versitygw
    def test_an_index_that_was_uploaded_first_is_a_warning(
        self, s3_server: S3Server, bucket: str, tmp_path: Path
    ) -> None:
        path = GOOD["bam_straddling"](tmp_path)
        (index,) = tmp_path.glob("*.bai")
        s3_server.put(bucket, "data/a.bam.bai", index)
        time.sleep(1.1)
        s3_server.put(bucket, "data/a.bam", path)
        result = run(tmp_path, settings(s3_server, bucket))
        assert result.exit_code == 0, result.output
        assert "warning: was uploaded after its index" in result.output

    @only_versitygw
    def test_no_message_quotes_a_signed_url(
        self, s3_server: S3Server, bucket: str, tmp_path: Path, proxied: FaultyProxy
    ) -> None:
        put_files(s3_server, bucket, tmp_path / "files", "bam_straddling")
        s3_server.owner.delete_object(Bucket=bucket, Key="data/a.bam")
        proxied.rules = [always(Refusal(), when=lambda request: "htslib" in request.headers.get("user-agent", ""))]
        result = run(tmp_path, settings(s3_server, bucket, endpoint_url=proxied.url), "--deep")
        assert result.exit_code == 1
        assert "records cannot be read" in result.output
        assert "X-Amz" not in result.output and OWNER.secret_key not in result.output


@dataclass(frozen=True)
class Refusal:
    """Status 403."""

    def answer(self, exchange: Exchange) -> bool:
        exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        return True


@dataclass(frozen=True)
class OtherClock:
    """The server's answer by a clock that is `seconds` fast."""

    seconds: float

    def answer(self, exchange: Exchange) -> bool:
        reply = exchange.pass_on()
        date = formatdate(time.time() + self.seconds, usegmt=True).encode()
        exchange.send(re.sub(rb"(?im)^Date: [^\r]*", b"Date: " + date, reply.head))
        for buffer in reply.body:
            exchange.send(buffer)
        return reply.stays_open


@pytest.fixture
def proxied(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_server.endpoint) as proxy:
        yield proxy


class TestABucketThatCannotBeReadIsReportedWithTheRemedy:
    @pytest.mark.usefixtures("environment")
    def test_one_that_does_not_exist(self, s3_server: S3Server, tmp_path: Path) -> None:
        result = run(tmp_path, settings(s3_server, "no-such-bucket"))
        assert result.exit_code == 1
        assert "FAILED s3://no-such-bucket/data/ storage cohort\n" in result.output
        assert "does not exist" in result.output and "correct `bucket`" in result.output
        assert "its files were not checked" in result.output

    @pytest.mark.parametrize(
        "credentials", [Credentials(OWNER.access_key, "another-secret"), Credentials("unknown-access-key", "a-secret")]
    )
    def test_wrong_credentials(
        self, s3_server: S3Server, bucket: str, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, s3_server, credentials)
        report = report_of(settings(s3_server, bucket))
        assert not report.can_be_served
        assert "correct the credentials" in messages(report) and credentials.secret_key not in messages(report)

    @only_versitygw
    def test_no_credentials(self, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-test-1")
        report = report_of(settings(s3_server, bucket))
        assert "set `anonymous: true`" in messages(report) and not report.can_be_served

    @only_versitygw
    @pytest.mark.usefixtures("environment")
    def test_one_that_cannot_be_reached(self, s3_server: S3Server, bucket: str) -> None:
        report = report_of(settings(s3_server, bucket, endpoint_url=f"http://127.0.0.1:{free_port()}"))
        assert "`endpoint_url`" in messages(report) and not report.can_be_served

    @only_versitygw
    def test_one_that_may_not_be_listed(
        self, s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, s3_server, STRANGER)
        assert "allow s3:GetObject" in messages(report_of(settings(s3_server, bucket, READ_ONLY)))
        resource = f"arn:aws:s3:::{bucket}/*"
        allowed = {"Effect": "Allow", "Principal": {"AWS": [STRANGER.access_key]}, "Action": "s3:GetObject"}
        policy = {"Version": "2012-10-17", "Statement": [{**allowed, "Resource": resource}]}
        s3_server.owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        report = report_of(settings(s3_server, bucket, READ_ONLY))
        assert report.can_be_served
        assert "warning: may not be listed" in messages(report)
        # Files that cannot be listed cannot be reported as sound.
        assert "its files were not checked" in run(tmp_path, settings(s3_server, bucket)).output

    @only_versitygw
    @pytest.mark.usefixtures("environment")
    def test_one_with_an_archive(self, s3_server: S3Server, bucket: str, proxied: FaultyProxy, tmp_path: Path) -> None:
        content = settings(s3_server, bucket, endpoint_url=proxied.url)
        proxied.rules = [always(InArchive("a.bam"))]
        report = report_of(content)
        # The archived object is not a fault of the bucket.
        assert report.can_be_served and "warning: the object that was checked is in the archive" in messages(report)
        assert "restore-object" in messages(report) and "correct `region`" not in messages(report)
        assert "FAILED /reads/a BAM" in run(tmp_path, content).output
        s3_server.put(bucket, "data/b.bam", b"some bytes")
        assert "archive" not in messages(report_of(content))
        # Neither a listing nor a HEAD shows this.
        proxied.rules = [always(INVALID_OBJECT_STATE, when=lambda request: "X-Amz-Signature=" in request.target)]
        report = report_of(content)
        assert "InvalidObjectState; restore it" in messages(report) and "correct `region`" not in messages(report)

    @only_versitygw
    @pytest.mark.usefixtures("environment")
    def test_urls_that_clients_cannot_use(self, s3_server: S3Server, bucket: str) -> None:
        report = report_of(settings(s3_server, bucket, region="us-west-2"))
        assert "presigned URLs are answered with status 400" in messages(report) and "correct `region`" in messages(
            report
        )
        assert not report.can_be_served
        assert report_of(settings(s3_server, bucket, region="us-west-2", proxy=True)).can_be_served


@pytest.mark.usefixtures("environment")
class TestCorsRulesAreTriedAndReportedIfTheyDoNotSuffice:
    @only_versitygw
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"cors": {"origins": ["https://igv.example"]}, "public_url": "https://data.example/htsget"},
            {"cors": {"origins": ["https://igv.example"]}, "files": {"storages": ["cohort"]}},
            {"cors": {"origins": ["https://igv.example"]}, "refget": {"store": {"storage": "cohort"}}},
        ],
        ids=["all origins", "some origins", "redirects of files", "redirects of sequences"],
    )
    def test_the_reported_rules_are_sufficient(
        self, s3_server: S3Server, bucket: str, more: Mapping[str, object]
    ) -> None:
        content = settings(s3_server, bucket, more)
        report = report_of(content)
        assert report.can_be_served and report.cors_rules is not None
        assert "(preflight for GET and HEAD)" in messages(report)
        rules = json.loads(report.cors_rules)
        is_redirected = "files" in more or "refget" in more
        assert ("null" in rules["CORSRules"][0]["AllowedOrigins"]) == is_redirected
        s3_server.owner.put_bucket_cors(Bucket=bucket, CORSConfiguration=rules)
        sufficient = report_of(content)
        assert sufficient.cors_rules is None and not sufficient.findings
        for name, less in (
            ("AllowedOrigins", rules["CORSRules"][0]["AllowedOrigins"][1:] or ["https://other.example"]),
            ("AllowedMethods", ["GET"]),
            ("AllowedHeaders", ["Range"]),
            ("ExposeHeaders", ["ETag"]),
        ):
            rule: Any = {**rules["CORSRules"][0], name: less}
            s3_server.owner.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
            assert report_of(content).cors_rules == report.cors_rules, name

    def test_a_server_without_cors_rules(self, s3_server: S3Server, bucket: str) -> None:
        report = report_of(settings(s3_server, bucket))
        assert "web pages such as igv.js cannot read" in messages(report) and "set `proxy: true`" in messages(report)

    def test_they_do_not_matter_to_a_proxy(self, s3_server: S3Server, bucket: str) -> None:
        assert not report_of(settings(s3_server, bucket, proxy=True)).findings

    @only_versitygw
    def test_they_need_no_object(self, s3_server: S3Server) -> None:
        bucket = s3_server.create_bucket()
        report = report_of(settings(s3_server, bucket))
        assert report.cors_rules is not None and "holds no objects" in messages(report)
        s3_server.owner.put_bucket_cors(Bucket=bucket, CORSConfiguration=json.loads(report.cors_rules))
        assert report_of(settings(s3_server, bucket)).cors_rules is None


@only_versitygw
@pytest.mark.usefixtures("environment")
class TestFutureFaultsAreReported:
    @pytest.mark.parametrize(("seconds", "severity"), [(-300, "warning"), (1200, "error")])
    def test_clocks_that_differ(
        self, s3_server: S3Server, bucket: str, proxied: FaultyProxy, seconds: float, severity: str
    ) -> None:
        proxied.rules = [always(OtherClock(seconds))]
        report = report_of(settings(s3_server, bucket, endpoint_url=proxied.url))
        assert f"{severity}: its clock is 0:" in messages(report)
        assert ("fast" if seconds > 0 else "slow") in messages(report)

    def test_credentials_that_expire(self, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "credentials" not in messages(report_of(settings(s3_server, bucket)))
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends)
        assert "warning: the credentials expire in 0:59:" in messages(report_of(settings(s3_server, bucket)))
        assert "credentials" not in messages(report_of(settings(s3_server, bucket, expires=1800)))

    def test_temporary_credentials_with_an_unknown_end(
        self, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
        report = report_of(settings(s3_server, bucket))
        assert "temporary with an unknown end" in messages(report) and "a-token" not in messages(report)

    def test_versions(self, s3_server: S3Server) -> None:
        bucket = s3_server.create_bucket({"data/a.bam": b"x"}, versions=True)
        assert "keeps versions" in report_of(settings(s3_server, bucket)).facts
