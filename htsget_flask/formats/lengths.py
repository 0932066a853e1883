"""How long the references are that a header names."""

import io
import struct

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from htsget_flask.formats.cram import container as cram
from htsget_flask.formats.header_lines import contigs, number_of
from htsget_flask.formats.headers import MAX_HEADER_DATA, Header

# A list of more takes hundreds of megabytes, and no browser shows it.
_MAX_LENGTHS = 1_000_000


def reference_lengths(format_name: str, header: Header) -> dict[str, int | None]:
    """The lengths in bases of the references that a file's header names, in its order; None where it tells none.

    BAM: SAMv1 4.2; CRAM: the LN of @SQ lines (SAMv1 1.3); VCF and BCF: the length of contig lines (VCFv4.3 1.4.7).
    """
    if len(header.references) > _MAX_LENGTHS:
        raise FormatError(f"the header has more than {_MAX_LENGTHS:,} references, too many to list their lengths")
    if format_name == "CRAM":
        return {name: number_of(length) for name, length in cram.read_sequences(header.raw)}
    prefix = bgzf.Prefix(io.BytesIO(header.raw), MAX_HEADER_DATA)
    while prefix.extend():
        pass
    if format_name == "BAM":
        return _binary(bytes(prefix.data))
    return {contig.name: number_of(contig.length) for contig in contigs(prefix.data)}


def _binary(data: bytes) -> dict[str, int | None]:
    position = 8 + struct.unpack_from("<i", data, 4)[0]
    lengths: dict[str, int | None] = {}
    for _ in range(struct.unpack_from("<i", data, position)[0]):
        (name_length,) = struct.unpack_from("<i", data, position + 4)
        name = data[position + 8 : position + 8 + name_length].rstrip(b"\0").decode("utf-8", "replace")
        position += 4 + name_length
        lengths.setdefault(name, struct.unpack_from("<i", data, position + 4)[0])
        position += 4
    return lengths
