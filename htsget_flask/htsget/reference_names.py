"""What a request calls a reference, where only the file's header can decide which one that is."""

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.errors import InvalidInput, NotFound
from htsget_flask.htsget.query import Query

_MAX_NAMED = 5


def resolve(query: Query, file: OpenFile) -> Query:
    """The query with its region under the reference's name in the file; one for the header without the region.

    Raises:
        InvalidInput: for a header request with a reference that the file has; for a checksum that the header does not
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


def _name_of(md5: str, name: str, file: OpenFile) -> str:
    """The name of the reference with a checksum; `name` is what the request calls it, if it does."""
    identifier = repr(file.source.id)
    references = file.header.references
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
