"""Reference sequences, as far as tickets need them: records of CRAM files are told by their differences to them."""

from collections.abc import Iterator
from typing import Protocol, cast

from htsget_flask.formats.cram.recoder import Recoder
from htsget_flask.web.views import Services

EXTENSION = "bases"
RECODER = "recoder"


class Bases(Protocol):
    """Reference sequences by the MD5 of their letters: the M5 of @SQ lines."""

    def has(self, md5: str) -> bool:
        """Whether a sequence is at hand; ServiceUnavailable where that is not known yet."""

    def letters(self, md5: str, start: int, end: int) -> Iterator[bytes]:
        """Letters `start` to `end` (0-based, half-open) of a sequence, upper-case, in pieces.

        Raises:
            FileFaultError: when it is not there any more, or cannot be read.
        """


def bases(services: Services) -> Bases:
    """The reference sequences of an application."""
    return cast(Bases, services.extensions[EXTENSION])


def recoder(services: Services) -> Recoder:
    """What decodes and encodes CRAM for an application."""
    return cast(Recoder, services.extensions[RECODER])
