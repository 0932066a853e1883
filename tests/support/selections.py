"""Random selections of fields and tags, and what they leave of a line of SAM."""

import random
from collections.abc import Collection
from typing import NamedTuple

_DEFAULTS = {"QNAME": "*", "RNEXT": "*", "PNEXT": "0", "TLEN": "0", "SEQ": "*", "QUAL": "*"}
_COLUMNS = ("QNAME", "FLAG", "RNAME", "POS", "MAPQ", "CIGAR", "RNEXT", "PNEXT", "TLEN", "SEQ", "QUAL")


class Selection(NamedTuple):
    """The parameters `fields`, `tags` and `notags` of a request; None is an absent one."""

    fields: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    notags: tuple[str, ...] | None = None

    def query(self) -> dict[str, str]:
        """As parameters of a GET request."""
        return {name: ",".join(values) for name, values in self._asdict().items() if values is not None}

    def body(self) -> dict[str, list[str]]:
        """As members of a POST request's body."""
        return {name: list(values) for name, values in self._asdict().items() if values is not None}

    def has(self, name: str) -> bool:
        """Whether it has a field."""
        return self.fields is None or name in self.fields or (name == "SEQ" and "QUAL" in self.fields)

    def apply(self, line: str) -> str:
        """The line of a record with what the selection keeps of it.

        FLAG, RNAME, POS, MAPQ and CIGAR are always kept, and SEQ with QUAL.
        """
        columns = line.split("\t")
        kept = [
            value if self.has(name) else _DEFAULTS.get(name, value)
            for name, value in zip(_COLUMNS, columns, strict=False)
        ]
        return "\t".join([*kept, *(tag for tag in columns[len(_COLUMNS) :] if self._has_tag(tag[:2]))])

    def _has_tag(self, tag: str) -> bool:
        return (self.tags is None or tag in self.tags) and tag not in (self.notags or ())


def random_selections(lines: Collection[str], count: int, *, seed: str) -> list[Selection]:
    """Selections with tags of these lines, of which each field and tag is left out by some."""
    rng = random.Random(seed)
    tags = sorted({tag[:2] for line in lines for tag in line.split("\t")[len(_COLUMNS) :]}) or ["NM"]
    selections = [
        Selection(("FLAG", "RNAME", "POS", "MAPQ", "CIGAR"), ()),
        Selection(("QNAME",), None),
        Selection(("QUAL",), None, ("MD",)),
        Selection(("SEQ", "POS"), ("MD", "NM")),
        Selection(None, (), None),
        Selection(None, None, tuple(tags)),
        Selection(("RNEXT",), ("RG",)),
        Selection(("TLEN", "PNEXT"), ("Zz",)),
    ]
    while len(selections) < count:
        fields = tuple(rng.sample(_COLUMNS, rng.randrange(1, len(_COLUMNS))))
        some = tuple(rng.sample(tags, rng.randrange(len(tags) + 1)))
        only, without = rng.choice([(some, None), (None, some or None), (None, None)])
        selections.append(Selection(fields if rng.random() < 0.8 else None, only, without))
    return selections[:count]
