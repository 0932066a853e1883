"""`htsget-flask check`: each file of a configuration, whether it can be served, and the remedy if not."""

from collections.abc import Callable, Sequence

from htsget_flask.commands.check.files import check_files
from htsget_flask.commands.check.findings import Finding, Findings
from htsget_flask.commands.check.unserved import unserved_files
from htsget_flask.commands.index import unindexed_fastas
from htsget_flask.config import Config, S3StorageConfig, describe_risks
from htsget_flask.errors import StorageError
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.sources import SourceReport
from htsget_flask.services import Services, create_services


def report_files(config: Config, *, deep: bool, echo: Callable[[str], None]) -> bool:
    """Echo the findings about each bucket, FASTA file and data file; True if all of them can be served."""
    return _Report(config, echo).run(deep=deep)


def check_sources(library: Library) -> list[SourceReport]:
    """The state of each FASTA file, and of the store with all its files; `library` knows their sequences then."""
    reports = library.scan()
    store = library.sources.check_store()
    return reports if store is None else [*reports, store]


class _Report:
    """The lines of a check, and the counts of its verdict; `_failed_sources` are buckets, prefixes and stores."""

    def __init__(self, config: Config, echo: Callable[[str], None]) -> None:
        self._config, self._echo = config, echo
        self._files = self._failed_files = self._failed_sources = 0

    def run(self, *, deep: bool) -> bool:
        config, faults = self._config, list[OSError | StorageError]()
        for remark in describe_risks(config):
            self._echo(f"warning: {remark}")
        self._report_buckets()
        services = create_services(config)
        has_sequences = self._report_sequences(services)
        for report in check_files(config, services.sequences, deep=deep, on_fault=faults.append):
            facts = ["?" if report.size is None else _format_size(report.size), f"index {report.index_key or 'none'}"]
            facts += [f"references: {report.references}"] if report.references else []
            facts += [f"{report.compared:,} records compared"] if report.compared else []
            source = report.source
            title = f"/{source.format.endpoint}/{source.id} {source.format.name}"
            self._count_file(is_failed=not report.can_be_served)
            self._report(report, title, facts, source.location)
        for location, reason in unserved_files(config, services.catalog):
            self._count_file(is_failed=True)
            self._echo(f"FAILED {location}\n       error: {reason}")
        for fault in faults:
            self._echo(f"FAILED {fault}: its files were not checked")
        self._echo(f"{self._files} files, {self._failed_files} of them cannot be served")
        expects_files = bool(config.datasets or config.refget.fastas or config.refget.store)
        is_empty = expects_files and not (self._files or has_sequences)
        return not (self._failed_files or self._failed_sources or faults or is_empty)

    def _report_buckets(self) -> None:
        if not any(isinstance(storage, S3StorageConfig) for storage in self._config.storages.values()):
            return
        from htsget_flask.commands.check.buckets import check_buckets  # noqa: PLC0415 - boto3 takes long to import

        for bucket in check_buckets(self._config):
            self._failed_sources += not bucket.can_be_served
            self._report(bucket, f"{bucket.location} storage {bucket.storage_name}", bucket.facts, bucket.location)
            if bucket.cors_rules is not None:
                self._echo(f"       {bucket.cors_rules}")

    def _report_sequences(self, services: Services) -> bool:
        """Report the sources of sequences; True if there are any sequences."""
        sources = check_sources(services.sequences)
        for source in sources:
            is_failed = source.sequences is None or source.is_broken
            if source.is_file:
                self._count_file(is_failed=is_failed)
            else:
                self._failed_sources += is_failed
            findings = Findings(
                findings=[Finding("error" if is_failed else "warning", fault) for fault in source.faults]
            )
            self._report(findings, f"sequences of {source.location}", [f"{source.sequences or 0:,}"], source.location)
        for fasta in unindexed_fastas(services):
            remedy = "run `htsget-flask index`" if fasta.is_local else "run `samtools faidx`, and upload it"
            missing = " and no ".join(fasta.missing)
            self._echo(f"warning: has no {missing}, which igv.js and other programs need: {remedy} [{fasta.location}]")
        return any(source.sequences for source in sources)

    def _report(self, findings: Findings, title: str, facts: Sequence[str], location: str) -> None:
        details = f" ({', '.join(facts)})" if facts else ""
        self._echo(f"{'ok' if findings.can_be_served else 'FAILED':6} {title}{details}")
        for finding in findings.findings:
            self._echo(f"       {finding.severity}: {finding.message} [{location}]")

    def _count_file(self, *, is_failed: bool) -> None:
        self._files += 1
        self._failed_files += is_failed


def _format_size(size: int) -> str:
    exponent = min(max(size.bit_length() - 1, 0) // 10, 4)
    return f"{size / 1024**exponent:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[exponent]}"
