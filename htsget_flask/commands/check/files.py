"""Whether the files of datasets can be served, and whether tickets deliver their records."""

import base64
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pysam
from flask.testing import FlaskClient

from htsget_flask.app import create_app
from htsget_flask.commands.check.findings import Findings
from htsget_flask.commands.index import quiet_htslib
from htsget_flask.config import Config, LocalStorageConfig
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.reference_checks import BaseSource, find_bases
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.sequences.fasta_files import abbreviate
from htsget_flask.sequences.library import Library
from htsget_flask.services import EXTENSION, Services, create_services
from htsget_flask.storage import Storage, VersionError

_DEEP_REGIONS = 5
_RUN_INDEX = "run `htsget-flask index`"


@dataclass(slots=True)
class FileReport(Findings):
    """The findings about a dataset's file in one format; `compared`: how many records were compared with pysam's."""

    source: Source
    size: int | None = None
    index_key: str | None = None
    compared: int = 0
    references: str | None = None


def check_files(
    config: Config, library: Library, *, deep: bool, on_fault: Callable[[OSError | StorageError], None]
) -> Iterator[FileReport]:
    """Check each file of the configuration's datasets; the reports come one by one.

    `library` has the references that are available. With `deep`, tickets for some regions of each file are followed,
    and their records compared with pysam's. `on_fault` is called with the error of a storage that cannot be listed.
    """
    app = create_app(_with_storages(config, local={"sendfile": None, "url": None, "secret": None}, s3={"proxy": True}))
    services: Services = app.extensions[EXTENSION]
    first_ids: dict[Hashable, str] = {}
    signing = create_services(_with_storages(config, local={}, s3={"proxy": False})).storages if deep else {}
    for source in services.catalog.sources(on_fault=on_fault):
        report = FileReport(source)
        first_id = first_ids.setdefault(_identity(source), source.id)
        if config.auth is not None and first_id != source.id:
            report.warning(
                f"is the dataset {first_id!r} too: a rule for either id opens it; "
                "let the rules name both, or give the file one id"
            )
        try:
            stat = source.storage.stat(source.key)
            report.size = stat.size
            with OpenFile(DataFile(source, stat), services.cache, services.sidecars) as file:
                _check_file(file, report)
                if not file.source.format.is_bgzf and report.can_be_served:
                    report.references = _check_references(file, library, report, convert=config.htsget.convert)
                if deep and report.can_be_served:
                    with _original(file, signing[source.storage_name]) as original:
                        _compare(app.test_client(), file, original, report)
        except FileFaultError as error:
            is_denied = isinstance(error.__cause__, PermissionError)
            remedy = "; give the server's user the right to read it" if is_denied else ""
            report.error(f"{error.reason}{remedy}")
        except VersionError:
            report.error("was replaced while it was checked; check it again")
        except (OSError, ServiceError, StorageError) as error:
            report.error(f"cannot be read: {error}")
        yield report


def _identity(source: Source) -> Hashable:
    """Equal for two names of one file, such as hard and symbolic links."""
    path = source.storage.local_path(source.key)
    if path is not None:
        with suppress(OSError):
            stat = path.stat()
            return stat.st_dev, stat.st_ino
    return source.location


def _with_storages(config: Config, *, local: dict[str, Any], s3: dict[str, Any]) -> Config:
    """The configuration with other settings of its storages, which decide how bytes are delivered.

    It has no access control: only the data are checked here.
    """
    storages = {
        name: storage.model_copy(update=local if isinstance(storage, LocalStorageConfig) else s3)
        for name, storage in config.storages.items()
    }
    return config.model_copy(update={"storages": storages, "auth": None})


def _check_file(file: OpenFile, report: FileReport) -> None:
    sort_order = file.header.sort_order
    if file.tail == file.stat.size:
        report.warning(
            "has no EOF marker; tickets add one, but the file may be truncated: compare it with its original"
        )
    is_unsorted = sort_order in ("unsorted", "queryname")
    if file.source.format.endpoint == "reads" and sort_order is None:
        report.warning("its header states no sort order (@HD SO)")
    try:
        index_file = file.index_file
        report.index_key = index_file.key
        if not file.source.storage.mtime_is_meaningful and int(index_file.stat.modified) < int(file.stat.modified):
            report.warning("was uploaded after its index; the index may be of an earlier version")
        list(file.example_regions())
    except FileFaultError as error:
        if is_unsorted:
            report.error(f"is sorted as {sort_order}; sort it by coordinate, then {_RUN_INDEX}")
        else:
            report.error(f"{error.reason}; {_remedy(error, file.source)}")
        return
    if is_unsorted:
        report.warning(
            f"its header states the sort order {sort_order}, yet its index fits: it is served; "
            "correct @HD SO with `samtools reheader`, or other programs may refuse it"
        )


def _check_references(file: OpenFile, library: Library, report: FileReport, *, convert: bool) -> str:
    """Where readers of a CRAM file get the references of its records from; missing ones become a warning."""
    found = list(find_bases(file, library.has))
    missing = [reference for reference, source in found if source is BaseSource.NOWHERE]
    if missing:
        names = [name if md5 else f"{name} (no M5 in the header)" for name, _, _, md5 in missing]
        effect = "it cannot be converted to BAM, and clients" if convert else "clients"
        remedy = "let refget.fastas name their FASTA files"
        if None in {reference.md5 for reference in missing}:
            remedy += ", and add each M5 to the header (`samtools reheader`)"
        report.warning(
            f"references that are neither embedded nor available at /sequence: {abbreviate(names)};"
            f" {effect} need them from elsewhere; {remedy}"
        )
    counts = Counter(source for _, source in found)
    return ", ".join(f"{counts[source]} {source.value}" for source in BaseSource if counts[source])


def _remedy(error: FileFaultError, source: Source) -> str:
    if source.storage.local_path(source.key) is None:
        return "build one with samtools, tabix or bcftools, and upload it next to the data"
    if "older" in error.reason:
        return f"{_RUN_INDEX}, or touch the index if it is known to belong to the data"
    if "no index" in error.reason:
        return _RUN_INDEX
    return f"remove {error.location}, then {_RUN_INDEX}"


@contextmanager
def _original(file: OpenFile, signing: Storage) -> Iterator[tuple[str, str]]:
    """Where pysam finds a file and its index: two paths, or a URL that the storage signs and a copy of the index."""
    source, index_file = file.source, file.index_file
    path = source.storage.local_path(source.key)
    if path is not None:
        yield str(path), str(source.storage.local_path(index_file.key))
        return
    signed = signing.signed_url(source.key, file.stat, pinned=False)
    with (
        tempfile.TemporaryDirectory() as folder,
        source.storage.open(index_file.key, etag=index_file.stat.etag) as content,
    ):
        # Without a copy htslib would derive its URL from that of the data, and leave a copy in the working directory.
        copy = Path(folder, index_file.key.rpartition("/")[2])
        copy.write_bytes(content.read())
        yield "" if signed is None else signed.url, str(copy)


def _compare(client: FlaskClient, file: OpenFile, original: tuple[str, str], report: FileReport) -> None:
    """Follow tickets as a client does: they have to deliver every record that pysam fetches, once and in order."""
    source = file.source
    opener: Callable[..., Any] = pysam.AlignmentFile if source.format.endpoint == "reads" else pysam.VariantFile
    with quiet_htslib(), tempfile.TemporaryDirectory() as folder:
        download = Path(folder, "download")
        for name, start, end in islice(file.example_regions(), _DEEP_REGIONS):
            query = f"&referenceName={quote(name, safe='')}&start={start}&end={end}"
            download.write_bytes(_download(client, source, query))
            try:
                with opener(original[0], index_filename=original[1]) as data:
                    expected = list(map(str, data.fetch(name, start, end)))
                with opener(str(download)) as answer:
                    records = answer.fetch(until_eof=True) if source.format.endpoint == "reads" else answer
                    delivered = list(map(str, records))
            except (OSError, ValueError) as error:
                # A signed URL must not be printed.
                reason = str(error).replace(original[0], source.location)
                report.error(f"{name}:{start}-{end}: records cannot be read: {reason}")
                continue
            report.compared += len(expected)
            # The expected records are among the delivered ones, in order.
            remaining = iter(delivered)
            if not all(record in remaining for record in expected):
                report.error(
                    f"{name}:{start}-{end}: tickets do not deliver the {len(expected)} records that pysam fetches"
                )


def _download(client: FlaskClient, source: Source, query: str) -> bytearray:
    ticket = client.get(f"/{source.format.endpoint}/{quote(source.id)}?format={source.format.name}{query}")
    content: dict[str, Any] = ticket.get_json(force=True)["htsget"]
    if ticket.status_code != 200:
        raise FileFaultError(f"no ticket: {content['message']}", location=source.location)
    download = bytearray()
    for entry in content["urls"]:
        head, _, inline = entry["url"].partition(",")
        if head.startswith("data:"):
            download += base64.b64decode(inline)
            continue
        with client.get(urlsplit(entry["url"]).path) as answer:
            if answer.status_code != 200:
                raise FileFaultError(f"a data block is answered with {answer.status}", location=source.location)
            download += answer.get_data()
    return download
