"""Whether the references that the records of a CRAM file are stored with are available for decoding."""

from collections.abc import Callable, Collection, Iterator
from enum import Enum

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.formats.references import Reference


class BaseSource(Enum):
    """Where the bases of a reference are found; the values are words for the operator."""

    SEQUENCES = "at /sequence"
    FILE = "embedded or not needed"
    NOWHERE = "not available"


def find_bases(
    file: OpenFile, has: Callable[[str], bool], reference_ids: Collection[int] | None = None
) -> Iterator[tuple[Reference, BaseSource]]:
    """Each reference that has records, in the order of the header, and where its bases are.

    `reference_ids`: only these. `has`: whether the sequence with an MD5 is among those served. Where it is not, the
    first container with records of the reference is read: writers embed a reference everywhere or nowhere. Where the
    index does not name the references of a container, each one of the header may have records.

    Raises:
        ServiceUnavailable: when `has` does, for a reference that is not in the file.
    """
    references = file.references_with_md5s
    if reference_ids is None:
        candidates = references.in_order()
    else:
        candidates = filter(None, map(references.with_id, sorted(reference_ids)))
    for reference in candidates:
        container = None if reference.id is None else file.crai.first_container(reference.id)
        if container is not None:
            yield reference, _find_bases(file, reference, container, has)


def _find_bases(file: OpenFile, reference: Reference, container: int, has: Callable[[str], bool]) -> BaseSource:
    try:
        if reference.md5 is not None and has(reference.md5):
            return BaseSource.SEQUENCES
    except ServiceUnavailable:
        if file.needs_reference(container):
            raise
    return BaseSource.NOWHERE if file.needs_reference(container) else BaseSource.FILE


def missing_reference(
    file: OpenFile, has: Callable[[str], bool], reference_ids: Collection[int] | None = None
) -> Reference | None:
    """The first reference whose bases are not available; None without one. The parameters are those of `find_bases`."""
    found = find_bases(file, has, reference_ids)
    return next((reference for reference, source in found if source is BaseSource.NOWHERE), None)


def has_all_references(file: OpenFile, has: Callable[[str], bool], generation: int) -> bool:
    """Whether no reference is missing; cached if so, as a genome may have thousands.

    `has`: as of `find_bases`, with the same answers as long as `generation` is the same.
    """
    key = ("all references", generation)
    if not file.is_cached(key):
        if missing_reference(file, has) is not None:
            return False
        file.cached(key, lambda: True)
    return True


def describe_absence(reference: Reference) -> str:
    """Why the bases of a reference are not available, for clients and operators."""
    if reference.md5 is None:
        return f"its header has no M5 of the reference {reference.name!r}"
    return f"its reference {reference.name!r} is not among this server's sequences"
