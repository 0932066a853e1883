"""Whether the references that the records of a CRAM file are stored with are available for decoding."""

from collections.abc import Callable, Collection, Iterator
from enum import Enum

import numpy as np

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.formats.cram.slices import MULTIPLE_REFERENCES
from htsget_flask.formats.references import Reference


class BaseSource(Enum):
    """Where the bases of a reference are found; the values are words for the operator."""

    SEQUENCES = "at /sequence"
    FILE = "embedded or not needed"
    NOWHERE = "not available"


def find_bases(file: OpenFile, reference: Reference, container: int, has: Callable[[str], bool]) -> BaseSource:
    """Where the bases are for the records of a reference in a container, whose index in the CRAI is given.

    `has`: whether the sequence with an MD5 is among those served; the container is read only where it is not. A writer
    chooses once for all containers with records of a reference, so one of them answers for all.
    """
    if reference.md5 is not None and has(reference.md5):
        return BaseSource.SEQUENCES
    needed = file.needs_reference(int(file.crai.containers[container]))
    return BaseSource.NOWHERE if needed else BaseSource.FILE


def find_all_bases(
    file: OpenFile, has: Callable[[str], bool], names: Collection[str] | None = None
) -> Iterator[tuple[Reference, BaseSource]]:
    """Each reference that has records, in the order of the header, with the source of its bases; `names`: only these.

    Where the index names no references for a container, the records may be on each of the header.
    """
    index = file.crai
    ids, entries = np.unique(index.references, return_index=True)
    containers: dict[int, int] = dict(zip(ids.tolist(), index.container_indices[entries].tolist(), strict=True))
    unknown = containers.get(MULTIPLE_REFERENCES)
    for reference in file.references_with_md5s.in_order():
        container = unknown if reference.id is None else containers.get(reference.id, unknown)
        if container is not None and (names is None or reference.name in names):
            yield reference, find_bases(file, reference, container, has)


def describe_absence(reference: Reference) -> str:
    """Why the bases of a reference are not available, for clients and operators."""
    if reference.md5 is None:
        return f"its header has no M5 of the reference {reference.name!r}"
    return f"its reference {reference.name!r} is not among this server's sequences"
