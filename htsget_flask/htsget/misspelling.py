"""Names that a client wrote for those of parameters: to ignore them would answer another request than it made."""

from collections.abc import Collection, Iterable
from itertools import islice

from htsget_flask.errors import InvalidInput

# Requests that mean well have few unknown names; a body may have a hundred thousand.
_MAX_COMPARED = 100
# What other tools and services call the parameters, in lower case.
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

    Such are names within one edit (a letter more, less or other, or two exchanged) of a known one, case ignored, and
    what other tools call it. Only the first hundred unknown names are compared.

    Raises:
        InvalidInput: for the first of these; the message names the parameter.
    """
    unknown = dict.fromkeys(name for name in names if name not in known)
    for name in islice(unknown, _MAX_COMPARED):
        meant = _meant(name.lower(), known)
        if meant is not None:
            raise InvalidInput(f"there is no parameter {name!r}; did you mean {meant}?")


def _meant(name: str, known: Iterable[str]) -> str | None:
    for parameter in known:
        if _is_near(name, parameter.lower()):
            return parameter
    return _OTHER_NAMES.get(name)


def _is_near(one: str, other: str) -> bool:
    """Whether at most one edit makes one of the texts the other."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    same = 0
    while same < len(short) and short[same] == long[same]:
        same += 1
    if len(short) < len(long):
        return short[same:] == long[same + 1 :]
    exchanged = long[same + 1 : same + 2] + long[same : same + 1] + long[same + 2 :]
    return short[same + 1 :] == long[same + 1 :] or short[same:] == exchanged
