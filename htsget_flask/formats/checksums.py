"""The MD5 of each reference, as headers state it."""

import io
from collections.abc import Callable, Mapping

from htsget_flask.formats import bgzf
from htsget_flask.formats.cram import container as cram
from htsget_flask.formats.header_lines import contigs, sam_tags
from htsget_flask.formats.headers import MAX_HEADER_DATA

Checksums = list[tuple[str, str | None]]


def read_bam_checksums(raw: bytes) -> Checksums:
    """Name and MD5 of each reference (the SN and M5 of @SQ lines, SAMv1 1.3) in the text of a BAM header."""
    data = _unpacked(raw)
    length = int.from_bytes(data[4:8], "little")
    return [(name, md5) for name, md5 in sam_tags(data[8 : 8 + length], "SQ", "SN", "M5") if name is not None]


def read_variant_checksums(raw: bytes) -> Checksums:
    """Name and MD5 of each reference (ID and md5 of contig lines, VCFv4.3 1.4.7) in a VCF or BCF header."""
    data = _unpacked(raw)
    return [(contig.name, contig.md5) for contig in contigs(data[9:] if data.startswith(b"BCF") else data)]


# By the name of the format; each takes a header as `Header.raw` holds it.
READ_CHECKSUMS: Mapping[str, Callable[[bytes], Checksums]] = {
    "BAM": read_bam_checksums,
    "CRAM": cram.read_named_checksums,
    "VCF": read_variant_checksums,
    "BCF": read_variant_checksums,
}


def _unpacked(raw: bytes) -> bytes:
    prefix = bgzf.Prefix(io.BytesIO(raw), MAX_HEADER_DATA)
    while prefix.extend():
        pass
    return bytes(prefix.data)
