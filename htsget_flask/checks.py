"""What `htsget-flask check` finds out: whether files can be served, and whether tickets hold what they hold."""

import base64
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import pysam
from flask.testing import FlaskClient

from htsget_flask.app import create_app
from htsget_flask.catalog import DataFile, Source
from htsget_flask.config import Config, LocalStorageConfig
from htsget_flask.errors import FileFaultError, ServiceError
from htsget_flask.examples import example_regions
from htsget_flask.htsget.opened import OpenFile
from htsget_flask.storage.local import LocalStorage
from htsget_flask.web import EXTENSION, Services

_DEEP_REGIONS = 5
_MEND_INDEX = "run `htsget-flask index`"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a file that its keeper should know; an error means that requests for it fail."""

    severity: Literal["error", "warning"]
    message: str


@dataclass(slots=True)
class Report:
    """What was found about a dataset's file in one format; sizes in bytes."""

    source: Source
    size: int | None = None
    index_key: str | None = None
    compared: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def can_be_served(self) -> bool:
        """Whether no request for this file has to fail."""
        return all(finding.severity != "error" for finding in self.findings)

    def error(self, message: str) -> None:
        """Add what makes requests fail."""
        self.findings.append(Finding("error", message))

    def warning(self, message: str) -> None:
        """Add what a keeper should look at."""
        self.findings.append(Finding("warning", message))


def check(config: Config, *, deep: bool) -> Iterator[Report]:
    """Report on each file of the configuration's datasets, as they are looked at.

    With `deep`, tickets for some regions of each file are followed and their records compared with pysam's own.
    """
    app = create_app(_alone(config))
    services: Services = app.extensions[EXTENSION]
    for source in services.catalog.sources():
        report = Report(source)
        try:
            stat = source.storage.stat(source.key)
            report.size = stat.size
            with OpenFile(DataFile(source, stat), services.cache, services.sidecars) as file:
                _check_file(file, report)
                if deep and report.can_be_served:
                    _compare(app.test_client(), file, report)
        except FileFaultError as error:
            report.error(error.reason)
        except (OSError, ServiceError) as error:
            report.error(f"cannot be read: {error}")
        yield report


def _alone(config: Config) -> Config:
    """The configuration with all data behind this service itself, and open: only the data are looked at here."""
    local, elsewhere = {"sendfile": None, "url": None}, {"proxy": True}
    storages = {
        name: storage.model_copy(update=local if isinstance(storage, LocalStorageConfig) else elsewhere)
        for name, storage in config.storages.items()
    }
    return config.model_copy(update={"storages": storages, "auth": None})


def _check_file(file: OpenFile, report: Report) -> None:
    header = file.header
    if file.tail == file.stat.size:
        report.warning("has no EOF marker; tickets add one, but the file may be truncated: compare it with its source")
    if header.sort_order in ("unsorted", "queryname"):
        report.error(f"is sorted as {header.sort_order}; sort it by coordinate, then {_MEND_INDEX}")
        return
    if file.source.form.endpoint == "reads" and header.sort_order is None:
        report.warning("its header states no sort order (@HD SO)")
    try:
        report.index_key = file.found_index.key
        index = file.crai if file.is_cram else file.index
        list(example_regions(file, index))
    except FileFaultError as error:
        report.error(f"{error.reason}; {_mend(error)}")


def _mend(error: FileFaultError) -> str:
    if "older" in error.reason:
        return f"{_MEND_INDEX}, or touch the index if it is known to belong to the data"
    if "no index" in error.reason:
        return _MEND_INDEX
    return f"remove {error.location}, then {_MEND_INDEX}"


def _compare(client: FlaskClient, file: OpenFile, report: Report) -> None:
    """Follow tickets as a client does: every record that pysam fetches has to be there, once and in order."""
    source = file.source
    if not isinstance(source.storage, LocalStorage):
        report.warning("was not compared: pysam reads local files only")
        return
    index = file.crai if file.is_cram else file.index
    with _quiet_htslib(), tempfile.TemporaryDirectory() as folder:
        delivered = Path(folder, "delivered")
        for region in list(example_regions(file, index))[:_DEEP_REGIONS]:
            name, start, end = region
            delivered.write_bytes(
                _delivered(client, source, f"&referenceName={quote(name, safe='')}&start={start}&end={end}")
            )
            try:
                with _open(source.location, source) as original:
                    expected = list(map(str, original.fetch(name, start, end)))
                with _open(str(delivered), source) as answer:
                    found = list(map(str, answer.fetch(until_eof=True) if source.form.endpoint == "reads" else answer))
            except (OSError, ValueError) as error:
                report.error(f"{name}:{start}-{end}: records cannot be read: {error}")
                continue
            report.compared += len(expected)
            if not _contains(found, expected):
                report.error(
                    f"{name}:{start}-{end}: tickets do not hold the {len(expected)} records that pysam fetches"
                )


def _contains(found: Iterable[str], expected: Iterable[str]) -> bool:
    """Whether the expected records are among the found ones, in their order."""
    left = iter(found)
    return all(record in left for record in expected)


def _delivered(client: FlaskClient, source: Source, query: str) -> bytes:
    ticket = client.get(f"/{source.form.endpoint}/{quote(source.id)}?format={source.form.name}{query}")
    content: dict[str, Any] = ticket.get_json(force=True)["htsget"]
    if ticket.status_code != 200:
        raise FileFaultError(f"no ticket: {content['message']}", location=source.location)
    return b"".join(_block(client, entry["url"], source) for entry in content["urls"])


def _block(client: FlaskClient, url: str, source: Source) -> bytes:
    if url.startswith("data:"):
        return base64.b64decode(url.partition(",")[2])
    with client.get(urlsplit(url).path) as answer:
        if answer.status_code != 200:
            raise FileFaultError(f"a data block is answered with {answer.status}", location=source.location)
        return answer.get_data()


def _open(path: str, source: Source) -> Any:
    opener: Callable[..., Any] = pysam.AlignmentFile if source.form.endpoint == "reads" else pysam.VariantFile
    indexes = [source.storage.location(key) for key in source.index_keys]
    index = next((index for index in indexes if os.path.exists(index)), None)
    return opener(path, index_filename=index) if path == source.location else opener(path)


@contextmanager
def _quiet_htslib() -> Iterator[None]:
    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)
