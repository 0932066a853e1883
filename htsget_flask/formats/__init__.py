"""Genomic file formats: what they are called, and how their files and indexes are named."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A format by the name that htsget gives it.

    `endpoint`: reads or variants. `suffixes`: of data files. `index_suffixes`: of the index, appended to the data
    file's name or put in the place of its last suffix; in the order in which they are looked for.
    """

    name: str
    endpoint: str
    suffixes: tuple[str, ...]
    index_suffixes: tuple[str, ...]

    def index_keys(self, key: str) -> list[str]:
        """The usual keys of the index of the data file `key`."""
        stem = key.rpartition(".")[0]
        return [name + suffix for suffix in self.index_suffixes for name in (key, stem)]


# In the order of preference where a request names no format: the specification's default first.
FORMATS = {
    format_.name: format_
    for format_ in (
        Format("BAM", "reads", (".bam",), (".bai", ".csi")),
        Format("CRAM", "reads", (".cram",), (".crai",)),
        Format("VCF", "variants", (".vcf.gz", ".vcf.bgz"), (".tbi", ".csi")),
        Format("BCF", "variants", (".bcf",), (".csi",)),
    )
}
ENDPOINTS = tuple(dict.fromkeys(format_.endpoint for format_ in FORMATS.values()))
