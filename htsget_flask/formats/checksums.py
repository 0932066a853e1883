"""The MD5 of each reference, as headers state it."""

import io
from collections.abc import Callable, Mapping

from htsget_flask.formats import bgzf, cram
from htsget_flask.formats.headers import contigs

Checksums = list[tuple[str, str | None]]


def read_bam_checksums(raw: bytes) -> Checksums:
    """Name and MD5 of each reference (the SN and M5 of @SQ lines, SAMv1 1.3) in the text of a BAM header."""
    data = _unpacked(raw)
    length = int.from_bytes(data[4:8], "little")
    text = data[8 : 8 + length].rstrip(b"\0").decode("utf-8", "replace")
    return [(tags["SN"], tags.get("M5")) for tags in cram.sequences(text) if "SN" in tags]


def read_variant_checksums(raw: bytes) -> Checksums:
    """Name and MD5 of each reference (ID and md5 of contig lines, VCFv4.3 1.4.7) in a VCF or BCF header."""
    data = _unpacked(raw)
    text = (data[9:] if data.startswith(b"BCF") else data).decode("utf-8", "replace")
    return [(contig["ID"], contig.get("md5")) for contig in contigs(text)]


# By the name of the format; each takes a header as `Header.raw` holds it.
READ_CHECKSUMS: Mapping[str, Callable[[bytes], Checksums]] = {
    "BAM": read_bam_checksums,
    "CRAM": cram.read_checksums,
    "VCF": read_variant_checksums,
    "BCF": read_variant_checksums,
}


def _unpacked(raw: bytes) -> bytes:
    prefix = bgzf.Prefix(io.BytesIO(raw))
    while prefix.extend():
        pass
    return bytes(prefix.data)
