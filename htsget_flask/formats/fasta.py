"""FASTA files: what they are called."""

COMPRESSED = (".gz", ".bgz")

_SUFFIXES = (".fa", ".fasta", ".fna", ".faa")


def is_fasta(key: str) -> bool:
    """Whether a file is FASTA by its name, plain or compressed."""
    stem = next((key.removesuffix(suffix) for suffix in COMPRESSED if key.endswith(suffix)), key)
    return stem.endswith(_SUFFIXES)
