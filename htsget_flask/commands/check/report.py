"""What `htsget-flask check` prints: each file of a configuration, whether it can be served, and how to mend it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from htsget_flask.commands.check.files import check
from htsget_flask.commands.check.findings import Findings
from htsget_flask.commands.check.references import check_sequences
from htsget_flask.commands.check.unserved import unserved_files
from htsget_flask.commands.index import unindexed_fastas
from htsget_flask.config import Config, S3StorageConfig
from htsget_flask.errors import StorageError
from htsget_flask.services import create_services

if TYPE_CHECKING:
    from htsget_flask.commands.check.buckets import BucketReport


def report_files(config: Config, *, deep: bool) -> bool:
    """Print what was found out about each file, bucket and FASTA file; whether all of them can be served."""
    for remark in config.remarks:
        click.echo(f"warning: {remark}")
    faults: list[OSError | StorageError] = []
    failed_elsewhere = 0
    for bucket in _bucket_reports(config):
        failed_elsewhere += not bucket.can_be_served
        _tell(bucket, f"{bucket.location} storage {bucket.storage_name}", bucket.facts, bucket.location)
        if bucket.cors_rules is not None:
            click.echo(f"       {bucket.cors_rules}")
    services = create_services(config)
    library, sources = check_sequences(services)
    count, failed = sum(known.is_file for known in sources), 0
    for known in sources:
        is_failed = known.sequences is None or known.is_broken
        failed += is_failed and known.is_file
        failed_elsewhere += is_failed and not known.is_file
        status = "FAILED" if is_failed else "ok"
        click.echo(f"{status:6} sequences of {known.location} ({known.sequences or 0:,})")
        for remark in known.faults:
            click.echo(f"       {'error' if is_failed else 'warning'}: {remark} [{known.location}]")
    for fasta in unindexed_fastas(services):
        mending = (
            "run `samtools faidx`, and upload it"
            if fasta.storage.local_path(fasta.key) is None
            else "run `htsget-flask index`"
        )
        lacking = " and no ".join(fasta.lacking)
        click.echo(f"warning: has no {lacking}, which igv.js and other programs need: {mending} [{fasta.location}]")
    for report in check(config, library, deep=deep, on_fault=faults.append):
        count += 1
        failed += not report.can_be_served
        facts = ["?" if report.size is None else _size(report.size), f"index {report.index_key or 'none'}"]
        if report.references:
            facts.append(f"references: {report.references}")
        if report.compared:
            facts.append(f"{report.compared:,} records compared")
        source = report.source
        _tell(report, f"/{source.format.endpoint}/{source.id} {source.format.name}", facts, source.location)
    for passed_over in unserved_files(config, services.catalog):
        count, failed = count + 1, failed + 1
        click.echo(f"FAILED {passed_over.location}\n       error: {passed_over.reason}")
    for fault in faults:
        click.echo(f"FAILED {fault}: its files were not looked at")
    click.echo(f"{count} files, {failed} of them cannot be served")
    is_meant = bool(config.datasets or config.refget.fastas or config.refget.store)
    is_empty = is_meant and not (count or any(known.sequences for known in sources))
    return not (failed or failed_elsewhere or faults or is_empty)


def _bucket_reports(config: Config) -> "Iterator[BucketReport]":
    if any(isinstance(storage, S3StorageConfig) for storage in config.storages.values()):
        from htsget_flask.commands.check.buckets import check_buckets  # noqa: PLC0415 - boto3 takes long to import

        yield from check_buckets(config)


def _tell(found: Findings, title: str, facts: Sequence[str], location: str) -> None:
    status = "ok" if found.can_be_served else "FAILED"
    told = f" ({', '.join(facts)})" if facts else ""
    click.echo(f"{status:6} {title}{told}")
    for finding in found.findings:
        click.echo(f"       {finding.severity}: {finding.message} [{location}]")


def _size(size: int) -> str:
    """A size in bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size} B"
        size /= 1024  # type: ignore[assignment]
    return f"{size:.4g} TiB"
