"""The header of the BAM file (SAMv1 4.2) that a CRAM file is converted to."""

import struct

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import deflate
from htsget_flask.formats.cram.container import header_text
from htsget_flask.formats.headers import Header, number_of, sam_tags

_LENGTH = struct.Struct("<i")
_MAX_LENGTH = (1 << 31) - 1


def bam_header(header: Header) -> bytes:
    """The header of a CRAM file as BGZF blocks of BAM: its text unchanged, and the references of its @SQ lines.

    Raises:
        FormatError: when a reference has no name or length, or one that does not fit into BAM.
    """
    text = header_text(header.raw)
    if text and not text.endswith(b"\n"):
        text += b"\n"
    parts: list[bytes] = []
    for name, digits in sam_tags(text, "SQ", "SN", "LN"):
        length = number_of(digits)
        if not name or length is None or length > _MAX_LENGTH:
            raise FormatError("a reference in the header has no name or length that BAM can state")
        parts += (_LENGTH.pack(len(name) + 1), name, b"\0", _LENGTH.pack(length))
    count = len(parts) // 4
    return deflate(b"".join((b"BAM\1", _LENGTH.pack(len(text)), text, _LENGTH.pack(count), *parts)))
