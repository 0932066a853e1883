"""What `htsget-flask check` finds out: whether files can be served, and whether tickets hold what they hold."""

import base64
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pysam
from flask.testing import FlaskClient

from htsget_flask.app import create_app
from htsget_flask.commands.check.findings import Findings
from htsget_flask.commands.check.references import check_references
from htsget_flask.config import Config, LocalStorageConfig
from htsget_flask.datasets.catalog import DataFile, Source
from htsget_flask.datasets.example_regions import example_regions
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.sequences.library import Library
from htsget_flask.services import EXTENSION, Services, create_services
from htsget_flask.storage import Storage, VersionError

_DEEP_REGIONS = 5
_MEND_INDEX = "run `htsget-flask index`"


@dataclass(slots=True)
class Report(Findings):
    """What was found about a dataset's file in one format; sizes in bytes."""

    source: Source
    size: int | None = None
    index_key: str | None = None
    compared: int = 0
    references: str | None = None


def check(
    config: Config,
    sequences: Library,
    *,
    deep: bool,
    on_fault: Callable[[OSError | StorageError], None] | None = None,
) -> Iterator[Report]:
    """Report on each file of the configuration's datasets, as they are looked at.

    `sequences` are the references that are at hand.
    With `deep`, tickets for some regions of each file are followed and their records compared with pysam's own.
    Where a storage cannot be listed `on_fault` is told, and the others go on; without it the error propagates.
    """
    app = create_app(_with_storages(config, local={"sendfile": None, "url": None, "secret": None}, s3={"proxy": True}))
    services: Services = app.extensions[EXTENSION]
    # By file: the id under which it was first found.
    ids: dict[Hashable, str] = {}
    signing = create_services(_with_storages(config, local={}, s3={"proxy": False})).storages if deep else {}
    for source in services.catalog.sources(on_fault=on_fault):
        report = Report(source)
        other = ids.setdefault(_identity(source), source.id)
        if config.auth is not None and other != source.id:
            report.warning(
                f"is the dataset {other!r} too: a rule for either id opens it; "
                "let the rules name both, or give the file one id"
            )
        try:
            stat = source.storage.stat(source.key)
            report.size = stat.size
            with OpenFile(DataFile(source, stat), services.cache, services.sidecars) as file:
                _check_file(file, report)
                if file.is_cram and report.can_be_served:
                    report.references = check_references(file, sequences, report)
                if deep and report.can_be_served:
                    with _original(file, signing[source.storage_name]) as original:
                        _compare(app.test_client(), file, original, report)
        except FileFaultError as error:
            is_denied = isinstance(error.__cause__, PermissionError)
            remedy = "; give the server's user the right to read it" if is_denied else ""
            report.error(f"{error.reason}{remedy}")
        except VersionError:
            report.error("was replaced while it was looked at; check it again")
        except (OSError, ServiceError, StorageError) as error:
            report.error(f"cannot be read: {error}")
        yield report


def _identity(source: Source) -> Hashable:
    """What is equal for two names of one file: links of both kinds are such."""
    path = source.storage.local_path(source.key)
    if path is not None:
        with suppress(OSError):
            found = path.stat()
            return found.st_dev, found.st_ino
    return source.location


def _with_storages(config: Config, *, local: dict[str, Any], s3: dict[str, Any]) -> Config:
    """The configuration with other settings of its storages: which of their bytes this service delivers itself.

    All is open to everybody: only the data are looked at here.
    """
    storages = {
        name: storage.model_copy(update=local if isinstance(storage, LocalStorageConfig) else s3)
        for name, storage in config.storages.items()
    }
    return config.model_copy(update={"storages": storages, "auth": None})


def _check_file(file: OpenFile, report: Report) -> None:
    header = file.header
    if file.tail == file.stat.size:
        report.warning("has no EOF marker; tickets add one, but the file may be truncated: compare it with its source")
    is_unsorted = header.sort_order in ("unsorted", "queryname")
    if file.source.format.endpoint == "reads" and header.sort_order is None:
        report.warning("its header states no sort order (@HD SO)")
    try:
        found = file.found_index
        report.index_key = found.key
        if not file.source.storage.mtime_is_meaningful and int(found.stat.modified) < int(file.stat.modified):
            report.warning("was uploaded after its index; the index may be of an earlier version")
        index = file.crai if file.is_cram else file.index
        list(example_regions(file, index))
    except FileFaultError as error:
        if is_unsorted:
            report.error(f"is sorted as {header.sort_order}; sort it by coordinate, then {_MEND_INDEX}")
        else:
            report.error(f"{error.reason}; {_mend(error, file.source)}")
        return
    if is_unsorted:
        report.warning(
            f"its header states the sort order {header.sort_order}, yet its index fits: it is served; "
            "correct @HD SO with `samtools reheader`, or other programs may refuse it"
        )


def _mend(error: FileFaultError, source: Source) -> str:
    if source.storage.local_path(source.key) is None:
        return "build one with samtools, tabix or bcftools, and upload it beside the data"
    if "older" in error.reason:
        return f"{_MEND_INDEX}, or touch the index if it is known to belong to the data"
    if "no index" in error.reason:
        return _MEND_INDEX
    return f"remove {error.location}, then {_MEND_INDEX}"


class _Original(NamedTuple):
    """Where pysam finds a file and its index: two paths, or a URL and a path."""

    data: str
    index_path: str


@contextmanager
def _original(file: OpenFile, signing: Storage) -> Iterator[_Original]:
    """The file for pysam; of a bucket by a URL that the storage signs, with a copy of the index."""
    source, found = file.source, file.found_index
    path, index_path = source.storage.local_path(source.key), source.storage.local_path(found.key)
    if path is not None:
        yield _Original(str(path), str(index_path))
        return
    signed = signing.signed_url(source.key, file.stat, pinned=False)
    with tempfile.TemporaryDirectory() as folder, source.storage.open(found.key, etag=found.stat.etag) as content:
        # Else htslib would look for it below another URL, and leave it in the working directory.
        copy = Path(folder, found.key.rpartition("/")[2])
        copy.write_bytes(content.read())
        yield _Original("" if signed is None else signed.url, str(copy))


def _compare(client: FlaskClient, file: OpenFile, original: _Original, report: Report) -> None:
    """Follow tickets as a client does: every record that pysam fetches has to be there, once and in order."""
    source = file.source
    opener: Callable[..., Any] = pysam.AlignmentFile if source.format.endpoint == "reads" else pysam.VariantFile
    index = file.crai if file.is_cram else file.index
    with _quiet_htslib(), tempfile.TemporaryDirectory() as folder:
        delivered = Path(folder, "delivered")
        for region in list(example_regions(file, index))[:_DEEP_REGIONS]:
            name, start, end = region
            delivered.write_bytes(
                _delivered(client, source, f"&referenceName={quote(name, safe='')}&start={start}&end={end}")
            )
            try:
                with opener(original.data, index_filename=original.index_path) as records:
                    expected = list(map(str, records.fetch(name, start, end)))
                with opener(str(delivered)) as answer:
                    found = list(
                        map(str, answer.fetch(until_eof=True) if source.format.endpoint == "reads" else answer)
                    )
            except (OSError, ValueError) as error:
                # A signed URL is for nobody's eyes.
                reason = str(error).replace(original.data, source.location)
                report.error(f"{name}:{start}-{end}: records cannot be read: {reason}")
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
    ticket = client.get(f"/{source.format.endpoint}/{quote(source.id)}?format={source.format.name}{query}")
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


@contextmanager
def _quiet_htslib() -> Iterator[None]:
    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)
