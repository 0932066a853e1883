"""The sources of reference sequences, and the references that readers of a CRAM file need."""

from contextlib import suppress

import numpy as np

from htsget_flask.commands.check.findings import Findings
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.sequences.fasta_files import abbreviate
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.sources import SourceReport
from htsget_flask.services import Services
from htsget_flask.storage import Stat, VersionError


def check_sources(library: Library) -> list[SourceReport]:
    """The state of each FASTA file, and of the store with all its files; `library` knows their sequences then."""
    reports = library.scan()
    store = library.sources.check_store()
    return reports if store is None else [*reports, store]


def check_references(file: OpenFile, library: Library, findings: Findings) -> str:
    """Where readers of a CRAM file get the references of its records from; missing ones become a warning."""
    index, references = file.crai, file.references_with_md5s
    embedded, missing, available = 0, [], 0
    for reference_id in np.unique(index.references[index.references >= 0]).tolist():
        reference = references.with_id(reference_id)
        md5 = reference and reference.md5
        if md5 is not None and library.has(md5):
            available += 1
            continue
        indices = index.container_indices[index.references == reference_id]
        if file.needs_reference(int(index.containers[indices[0]])):
            name = reference.name if reference else "?"
            missing.append(name if md5 else f"{name} (no M5 in the header)")
        else:
            embedded += 1
    if missing:
        findings.warning(
            f"references that are neither embedded nor available at /sequence: {abbreviate(missing)};"
            " clients need them from elsewhere"
        )
    counts = {"at /sequence": available, "embedded or not needed": embedded, "not available": len(missing)}
    return ", ".join(f"{count} {where}" for where, count in counts.items() if count)


def reference_names(services: Services, dataset_id: str) -> set[str]:
    """The references in the headers of a dataset's files, those that can be read."""
    names: set[str] = set()
    with suppress(OSError, ServiceError, StorageError):
        for source, stat in services.catalog.files(dataset_id):
            if not isinstance(stat, Stat):
                continue
            with (
                suppress(FileFaultError, VersionError),
                OpenFile(DataFile(source, stat), services.cache, services.sidecars) as file,
            ):
                names.update(file.header.references)
    return names
