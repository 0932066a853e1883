"""The fields and tags of reads that a request or a grant selects (SAMv1 1.4, 1.5)."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# In SAM's order: the number of a field is its bit in htslib's masks.
FIELDS = ("QNAME", "FLAG", "RNAME", "POS", "MAPQ", "CIGAR", "RNEXT", "PNEXT", "TLEN", "SEQ", "QUAL")
# Without these a sorted file would be neither sorted nor valid.
_ALWAYS = frozenset(("FLAG", "RNAME", "POS", "MAPQ", "CIGAR"))

# URLs name them.
MAX_TAGS = 250
TAG = re.compile(r"[A-Za-z][A-Za-z0-9]", re.ASCII)
_TEXT = re.compile(rf"([0-9a-f]{{2,3}})(?:([.-])((?:{TAG.pattern}(?:\.{TAG.pattern})*)?))?", re.ASCII)


class FieldSelection(NamedTuple):
    """Which fields and tags of each record an answer has.

    `tags` None: all but `notags`, which is empty otherwise.
    """

    fields: frozenset[str] = frozenset(FIELDS)
    tags: frozenset[str] | None = None
    notags: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        """Whether it leaves nothing out."""
        return self == EVERYTHING

    def has_tag(self, tag: str) -> bool:
        """Whether it has a tag."""
        return tag not in self.notags if self.tags is None else tag in self.tags

    def restrict(self, other: "FieldSelection") -> "FieldSelection":
        """What both selections have."""
        fields = self.fields & other.fields
        if self.tags is None and other.tags is None:
            return FieldSelection(fields, None, self.notags | other.notags)
        tags = [tag for tag in (self.tags or other.tags or ()) if self.has_tag(tag) and other.has_tag(tag)]
        return FieldSelection(fields, frozenset(tags))

    def __str__(self) -> str:
        """As a part of a URL's path: the fields as a mask, and the tags."""
        mask = sum(1 << number for number, field in enumerate(FIELDS) if field in self.fields)
        if self.tags is not None:
            return f"{mask:x}.{'.'.join(sorted(self.tags))}"
        return f"{mask:x}-{'.'.join(sorted(self.notags))}" if self.notags else f"{mask:x}"


EVERYTHING = FieldSelection()


def select_fields(
    fields: Iterable[str] | None, tags: Iterable[str] | None, notags: Iterable[str] = ()
) -> FieldSelection:
    """The selection that the parameters of a request or rule describe; None is a parameter without a value.

    Fields that a sorted file needs are always in it, and SEQ with QUAL: a record's qualities are as many as its bases.
    """
    selected = frozenset(FIELDS if fields is None else fields) | _ALWAYS
    if "QUAL" in selected:
        selected |= {"SEQ"}
    if tags is None:
        return FieldSelection(selected, None, frozenset(notags))
    return FieldSelection(selected, frozenset(tags).difference(notags))


def parse_selection(text: str) -> FieldSelection | None:
    """The selection that `str` wrote; None for any other text."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    mask, tags = int(match[1], 16), match[3].split(".") if match[3] else []
    fields = [field for number, field in enumerate(FIELDS) if mask >> number & 1]
    selection = select_fields(fields, tags if match[2] == "." else None, tags if match[2] == "-" else ())
    # A text without the fields that are always selected is not one of these either.
    return selection if str(selection) == text else None
