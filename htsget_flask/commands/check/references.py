"""Which reference sequences are at hand, and which of them those who read a CRAM file need."""

from contextlib import suppress

import numpy as np

from htsget_flask.commands.check.findings import Findings
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.sequences.library import Known, Library
from htsget_flask.services import Services
from htsget_flask.storage import Stat, VersionError

_MAX_NAMED = 5


def check_sequences(services: Services) -> tuple[Library, list[Known]]:
    """The reference sequences of a configuration, and what was found of the files and the store that they are in."""
    sequences = services.sequences
    known = sequences.look()
    store = sequences.check_store()
    return sequences, known if store is None else [*known, store]


def check_references(file: OpenFile, sequences: Library, findings: Findings) -> str:
    """Where those who read a CRAM file have the references of its records from; what they lack is a finding."""
    index, references = file.crai, file.header.references
    embedded, missing, at_hand = 0, [], 0
    for reference_id in np.unique(index.references[index.references >= 0]).tolist():
        reference = references.with_id(reference_id)
        md5 = reference and reference.md5
        if md5 is not None and sequences.has(md5):
            at_hand += 1
            continue
        places = index.places[index.references == reference_id]
        if file.needs_reference(int(index.containers[places[0]])):
            name = reference.name if reference else "?"
            missing.append(name if md5 else f"{name} (no M5 in the header)")
        else:
            embedded += 1
    if missing:
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        findings.warning(
            f"references that it does not embed and that /sequence does not have: {', '.join(missing[:_MAX_NAMED])}"
            f"{more}; clients need them from elsewhere"
        )
    counts = {"at /sequence": at_hand, "embedded or not needed": embedded, "not at hand": len(missing)}
    return ", ".join(f"{count} {where}" for where, count in counts.items() if count)


def reference_names(services: Services, dataset_id: str) -> set[str]:
    """The references that the headers of a dataset's files name: of those that can be read."""
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
