"""The libraries that determine the bytes of record blocks."""

import hashlib

import deflate
import pysam


def codec_versions() -> str:
    """The versions of libdeflate and htslib as 8 hexadecimal digits: other versions may compress to other bytes."""
    versions = f"deflate {deflate.__version__} htslib {pysam.version.__htslib_version__}"  # type: ignore[attr-defined]
    return hashlib.sha256(versions.encode()).hexdigest()[:8]
