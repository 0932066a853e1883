"""The references that requests name, as the file's header and index know them."""

import difflib
from itertools import islice

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import InvalidInput, NotFound
from htsget_flask.htsget.query import Query

_MAX_NAMED = 5
_LONGEST_QUOTED = 100
# Suggestions are names of about the same length: to find them costs little, whatever a client sends.
_LONGEST_SUGGESTED, _MAX_COMPARED, _MAX_SEARCHED = 30, 200, 1000


def resolve(query: Query, file: OpenFile) -> Query:
    """The query with the name that the file has for the region's reference; a header query has no region afterwards.

    Raises:
        InvalidInput: for a header query with a reference that the file has; for a checksum that the header does not
            confirm.
        NotFound: for a checksum that the header does not have.
    """
    (region,) = query.regions or ()
    name, references = region.reference_name, file.references
    if query.header_only:
        if name in references:
            raise InvalidInput("class=header excludes referenceName")
        return query._replace(regions=None)
    # A `+` that the client did not encode is a blank in a query.
    if name not in references and (encoded := name.replace(" ", "+")) in references:
        name = encoded
    if query.md5 is not None:
        name = _name_of(query.md5, name, file)
    return query._replace(regions=(region._replace(reference_name=name),))


def reference_id_of(name: str, file: OpenFile) -> int | None:
    """The id of a reference in the index; None for one that the index does not list.

    Raises:
        NotFound: for a reference that the file does not have; the message suggests similar names.
    """
    references = file.references
    if name in references:
        return references[name].id
    message = f"{file.source.id!r} has no reference {name[:_LONGEST_QUOTED]!r}"
    if len(name) <= _LONGEST_SUGGESTED:
        twin = name.removeprefix("chr") if name.startswith("chr") else f"chr{name}"
        similar = (other for other in islice(references, _MAX_SEARCHED) if abs(len(other) - len(name)) <= 3)
        close = [twin] if twin in references else difflib.get_close_matches(name, list(islice(similar, _MAX_COMPARED)))
        if close:
            raise NotFound(f"{message}; did you mean {' or '.join(close)}?")
    first = ", ".join(other[:_LONGEST_QUOTED] for other in islice(references, _MAX_NAMED))
    raise NotFound(f"{message}; it has {first}{', ...' if len(references) > _MAX_NAMED else ''}")


def _name_of(md5: str, name: str, file: OpenFile) -> str:
    """The name of the reference with a checksum; `name` is the one in the request, or empty."""
    identifier, references = repr(file.source.id), file.references_with_md5s
    if not references.have_md5s:
        raise InvalidInput(f"the header of {identifier} has no checksums; use referenceName instead of referenceMD5")
    if name:
        if name not in references or references[name].md5 != md5:
            raise InvalidInput(f"the header of {identifier} has no reference {name[:100]!r} with the MD5 {md5}")
        return name
    names = [reference.name for reference in references.with_md5(md5)]
    if not names:
        raise NotFound(f"{identifier} has no reference with the MD5 {md5}")
    if len(names) > 1:
        listed = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
        raise InvalidInput(f"several references of {identifier} have the MD5 {md5}: {listed}; use referenceName")
    return names[0]
