"""An index that does not belong to its data is refused."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from htsget_flask.datasets.index_checks import IndexedData, check_index
from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.crai import Crai, read_crai
from htsget_flask.formats.index import Index
from htsget_flask.formats.index_reader import read_index
from htsget_flask.formats.references import Reference, collect_references
from htsget_flask.formats.table import FORMATS
from tests.support import files
from tests.support.files.bam import bam_normal, bam_straddling, bam_tiny_blocks
from tests.support.files.bcf import bcf_normal
from tests.support.files.indexes import index_of
from tests.support.files.vcf import vcf_normal


def indexed_data(folder: Path, maker: Callable[[Path], Path], format_name: str) -> tuple[IndexedData, bytes]:
    path = maker(folder)
    index_path = index_of(path)
    assert index_path is not None
    content = path.read_bytes()
    format_, file = FORMATS[format_name], BytesIO(content)
    header = format_.read_header(file)
    tail = content.rindex(header.eof_marker)
    data = IndexedData(
        format_, header, len(content), file, lambda start: format_.block_end(file, start, header), lambda: tail
    )
    return data, index_path.read_bytes()


def cut_to(data: IndexedData, size: int) -> IndexedData:
    data.content.seek(0)
    return data._replace(size=size, content=BytesIO(data.content.read(size)))


def refusal(check: Callable[[], None]) -> str:
    with pytest.raises(FormatError) as caught:
        check()
    return str(caught.value)


@pytest.mark.slow
class TestAnIndexOfBlocks:
    @pytest.mark.parametrize(
        ("maker", "format_name"),
        [
            (bam_normal, "BAM"),
            (bam_straddling, "BAM"),
            (bam_tiny_blocks, "BAM"),
            (vcf_normal, "VCF"),
            (bcf_normal, "BCF"),
        ],
    )
    def test_of_the_data_is_accepted(self, maker: Callable[[Path], Path], format_name: str, tmp_path: Path) -> None:
        data, index = indexed_data(tmp_path, maker, format_name)
        check_index(read_index(index), data)

    @pytest.fixture
    def bam(self, tmp_path: Path) -> tuple[IndexedData, Index]:
        data, index = indexed_data(tmp_path, bam_normal, "BAM")
        return data, read_index(index)

    def test_of_another_format_is_refused(self, bam: tuple[IndexedData, Index]) -> None:
        data, index = bam
        other = data._replace(format=FORMATS["VCF"])
        assert refusal(lambda: check_index(index, other)) == "this is not the index of a VCF file"

    def test_with_more_references_than_the_header_is_refused(self, bam: tuple[IndexedData, Index]) -> None:
        data, index = bam
        references = collect_references([Reference("chr1", 0)], "the header")
        fewer = data._replace(header=replace(data.header, references=references))
        assert "more references than the header" in refusal(lambda: check_index(index, fewer))

    def test_of_truncated_data_is_refused(self, bam: tuple[IndexedData, Index]) -> None:
        data, index = bam
        shorter = cut_to(data, (index.last_offset() >> 16) - 1)
        assert refusal(lambda: check_index(index, shorter)).endswith("or the data is truncated")

    def test_without_the_last_records_is_refused(self, bam: tuple[IndexedData, Index]) -> None:
        data, index = bam
        first = index.first_offset()
        assert first is not None
        earlier = replace(index, extent=np.array([first, first], np.uint64))
        assert refusal(lambda: check_index(earlier, data)).endswith("it does not hold its last records")

    def test_without_records_is_refused(self, bam: tuple[IndexedData, Index]) -> None:
        data, index = bam
        empty = replace(index, chunk_begins=index.chunk_begins[:0])
        assert refusal(lambda: check_index(empty, data)).endswith("it holds none of its records")

    def test_with_records_within_the_header_is_refused(self, bam: tuple[IndexedData, Index]) -> None:
        data, index = bam
        early = replace(index, extent=np.array([5, index.last_offset()], np.uint64))
        assert refusal(lambda: check_index(early, data)).endswith("it is of another file")


class TestAnIndexOfContainers:
    @pytest.fixture
    def cram(self, tmp_path: Path) -> tuple[IndexedData, Crai]:
        data, index = indexed_data(tmp_path, files.GOOD["cram_3_0"], "CRAM")
        return data, read_crai(index)

    def test_of_the_data_is_accepted(self, cram: tuple[IndexedData, Crai]) -> None:
        check_index(cram[1], cram[0])

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda offsets: offsets + 10**9, "or the data is truncated"),
            (lambda offsets: offsets - 10, "it is of another file"),
            (lambda offsets: offsets[:-1], "it does not hold its last records"),
            (lambda offsets: offsets[:0], "it holds none of its records"),
        ],
    )
    def test_of_other_data_is_refused(
        self,
        cram: tuple[IndexedData, Crai],
        change: Callable[[np.ndarray[tuple[int], np.dtype[np.int64]]], np.ndarray[tuple[int], np.dtype[np.int64]]],
        reason: str,
    ) -> None:
        data, index = cram
        assert len(index.containers) > 1
        other = replace(index, containers=change(index.containers))
        assert refusal(lambda: check_index(other, data)).endswith(reason)
