"""Misspelled parameters: to ignore them would answer another request than the client meant."""

from collections.abc import Collection, Iterable
from itertools import islice

from htsget_flask.errors import InvalidInput

# Real requests have few unknown names; a body may have a hundred thousand.
_MAX_COMPARED = 100
# The names that other tools and services have for the parameters, in lower case. Parameters that clients and proxies
# are known to add are further than one edit away from ours.
_OTHER_NAMES = {
    "region": "referenceName, start and end",
    "regions": "referenceName, start and end",
    **dict.fromkeys(
        ("reference", "referencemd5", "ref", "refname", "rname", "chr", "chrom", "chromosome", "contig"),
        "referenceName",
    ),
    "begin": "start",
    "stop": "end",
}


def refuse_misspellings(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse unknown names that stand for a known one; htsget 1.3.0 lets a server ignore all others.

    These are names within one edit of a known one (a letter inserted, deleted or replaced, or two transposed), case
    ignored, and the names that other tools have for it. Only the first hundred unknown names are compared.

    Raises:
        InvalidInput: for the first of these; the message names the parameter.
    """
    unknown = dict.fromkeys(name for name in names if name not in known)
    for name in islice(unknown, _MAX_COMPARED):
        lower = name.lower()
        suggestion = next((one for one in known if _is_near(lower, one.lower())), _OTHER_NAMES.get(lower))
        if suggestion is not None:
            raise InvalidInput(f"there is no parameter {name!r}; did you mean {suggestion}?")


def _is_near(one: str, other: str) -> bool:
    """Whether at most one edit turns one text into the other."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    equal = 0
    while equal < len(short) and short[equal] == long[equal]:
        equal += 1
    if len(short) < len(long):
        return short[equal:] == long[equal + 1 :]
    transposed = long[equal + 1 : equal + 2] + long[equal : equal + 1] + long[equal + 2 :]
    return short[equal + 1 :] == long[equal + 1 :] or short[equal:] == transposed
