"""The served formats: one row each, with everything in which they differ."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from htsget_flask.formats import bgzf
from htsget_flask.formats.cram.container import container_end, ends_with_container, read_cram_header
from htsget_flask.formats.cram.crai import Crai, read_crai
from htsget_flask.formats.headers import Header, read_bam_header, read_bcf_header, read_vcf_header
from htsget_flask.formats.index import Index
from htsget_flask.formats.index_reader import read_index
from htsget_flask.formats.records import BAM_RECORDS, BCF_RECORDS, VCF_RECORDS, RecordLayout


def _block_end(file: BinaryIO, coffset: int, _: Header) -> int:
    return coffset + bgzf.read_block_size(file, coffset)


def _ends_with_block(file: BinaryIO, size: int, _: Header) -> bool:
    return bgzf.ends_whole(file, size)


class HeaderReader(Protocol):
    """Reads the header of a file; the MD5s of its references only on request, as they take as long as all the rest."""

    def __call__(self, file: BinaryIO, *, with_md5s: bool = False) -> Header: ...


@dataclass(frozen=True, slots=True)
class Format:
    """A format by the name that htsget gives it.

    `endpoint`: reads or variants. `suffixes`: of data files. `index_suffixes`: of the index, appended to the data
    file's name or in place of its last suffix; in the order in which they are tried.

    `records`: how records follow each other in the data of BGZF blocks; None for CRAM, whose files consist of
    containers. `names_references`: whether records and index name their references, instead of numbering them as the
    header does. `has_unplaced_records`: whether a file may end with records that have no reference.

    `block_end`: the byte offset after the BGZF block or container that starts at an offset. `ends_whole`: whether a
    file of a size in bytes ends with a whole one. The functions raise FormatError where the file is damaged.
    """

    name: str
    endpoint: str
    suffixes: tuple[str, ...]
    index_suffixes: tuple[str, ...]
    read_header: HeaderReader
    records: RecordLayout | None
    names_references: bool = False
    has_unplaced_records: bool = False
    index_type: type[Index] | type[Crai] = Index
    read_index: Callable[[bytes], Index | Crai] = read_index
    block_end: Callable[[BinaryIO, int, Header], int] = _block_end
    ends_whole: Callable[[BinaryIO, int, Header], bool] = _ends_with_block

    @property
    def is_bgzf(self) -> bool:
        """Whether files consist of BGZF blocks, which can be cut at records without decoding them."""
        return self.records is not None

    def index_keys(self, key: str) -> list[str]:
        """The usual keys of the index of the data file `key`."""
        stem = key.rpartition(".")[0]
        return [name + suffix for suffix in self.index_suffixes for name in (key, stem)]


# In the order of preference where a request names no format: the specification's default first.
FORMATS = {
    format_.name: format_
    for format_ in (
        Format("BAM", "reads", (".bam",), (".bai", ".csi"), read_bam_header, BAM_RECORDS, has_unplaced_records=True),
        Format(
            "CRAM",
            "reads",
            (".cram",),
            (".crai",),
            read_cram_header,
            None,
            has_unplaced_records=True,
            index_type=Crai,
            read_index=read_crai,
            block_end=container_end,
            ends_whole=ends_with_container,
        ),
        Format(
            "VCF",
            "variants",
            (".vcf.gz", ".vcf.bgz"),
            (".tbi", ".csi"),
            read_vcf_header,
            VCF_RECORDS,
            names_references=True,
        ),
        Format("BCF", "variants", (".bcf",), (".csi",), read_bcf_header, BCF_RECORDS),
    )
}
ENDPOINTS = tuple(dict.fromkeys(format_.endpoint for format_ in FORMATS.values()))
# The formats of answers, each with those of the files that it is made from, in the order of FORMATS: a file in the
# answer's format is preferred. VCFTEXT (htsget 1.3.1) is VCF without compression.
ANSWER_FORMATS = {
    "BAM": ("BAM", "CRAM"),
    "CRAM": ("CRAM",),
    "VCF": ("VCF", "BCF"),
    "BCF": ("BCF",),
    "VCFTEXT": ("VCF", "BCF"),
}
# By endpoint, as the specification has them.
DEFAULT_FORMATS = {"reads": "BAM", "variants": "VCF"}


def answer_names(files: Collection[str], *, convert: bool) -> list[str]:
    """The formats of answers that files in some formats give, with or without conversion."""
    return [
        name
        for name, sources in ANSWER_FORMATS.items()
        if name in files or (convert and not set(sources).isdisjoint(files))
    ]
