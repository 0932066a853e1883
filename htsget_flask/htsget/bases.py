"""Reference sequences, as far as tickets need them: records of CRAM files are told by their differences to them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol, cast

from htsget_flask.web import Services

EXTENSION = "bases"


class Bases(Protocol):
    """Reference sequences by the MD5 of their letters: the M5 of @SQ lines.

    `turn` is held by who has all of a sequence in memory: one request at a time.
    """

    turn: AbstractContextManager[object]

    def has(self, md5: str) -> bool:
        """Whether a sequence is at hand; ServiceUnavailable where that is not known yet."""

    def letters(self, md5: str, start: int, end: int) -> Iterator[bytes]:
        """Letters `start` to `end` (0-based, half-open) of a sequence, upper-case, in pieces.

        Raises:
            FileFaultError: when it is not there any more, or cannot be read.
        """


def bases(present: Services) -> Bases:
    """The reference sequences of an application."""
    return cast(Bases, present.extensions[EXTENSION])
