"""Chunks are cut at any record: their blocks are those records, however they are split."""

import gzip
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.edges import (
    Containers,
    chunk_parts,
    cut_chunk,
    edges_of,
    is_cut_later,
    prefetch_edges,
    read_parts,
    split_span,
)
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import FileFaultError
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.table import FORMATS
from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile
from htsget_flask.storage.local import LocalStorage
from htsget_flask.storage.remote_file import RemoteFile
from tests.support.files.bgzf import bgzf_block

HEADER = b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LINES = [b"chr1\t%d\t.\tA\t.\t.\t.\t%s\n" % (number, b"x" * (number % 40)) for number in range(1, 200)]
BLOCK = 500


class Sample:
    """A VCF file in blocks of 500 bytes, and the virtual offset of each of its records."""

    def __init__(self, folder: Path) -> None:
        body, self.offsets, coffsets = b"".join(LINES), [], []
        content = bgzf_block(HEADER)
        self.start = len(content)
        for start in range(0, len(body), BLOCK):
            coffsets.append(len(content))
            content += bgzf_block(body[start : start + BLOCK])
        self.content = content
        coffsets.append(len(content))
        position = 0
        for line in [*LINES, b""]:
            self.offsets.append(coffsets[position // BLOCK] << 16 | position % BLOCK)
            position += len(line)
        (folder / "x.vcf.gz").write_bytes(content)
        storage = LocalStorage(folder)
        self.source = Source("x", FORMATS["VCF"], "data", storage, "x.vcf.gz", None, None)
        self.cache = ByteCache(1 << 20)

    def open(self) -> OpenFile:
        return OpenFile(DataFile(self.source, self.source.stat("x.vcf.gz", fresh=True)), self.cache, None)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("data"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), longest=st.sampled_from([700, 2000, 1 << 16]), size=st.sampled_from([100, 1000, 1 << 30]))
def test_the_blocks_of_a_chunk_are_its_records(sample: Sample, data: st.DataObject, longest: int, size: int) -> None:
    first = data.draw(st.integers(0, len(LINES) - 1))
    last = data.draw(st.integers(first + 1, len(LINES)))
    content = b""
    with sample.open() as file:
        for block in split_span(file, Chunk(sample.offsets[first], sample.offsets[last]), longest, size):
            if isinstance(block, ByteRange):
                content += sample.content[block.start : block.end]
            else:
                before, middle, after = chunk_parts(file, block)
                part = before + sample.content[middle.start : middle.end] + after
                assert read_parts(lambda: file.content, cut_chunk(file, block)) == part
                content += part
    assert gzip.decompress(content) == b"".join(LINES[first:last])


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_a_range_is_split_where_blocks_start(sample: Sample, size: int) -> None:
    span = ByteRange(sample.start, len(sample.content))
    with sample.open() as file:
        blocks = split_span(file, span, 1 << 16, size)
        parts = [block for block in blocks if isinstance(block, ByteRange)]
    assert [parts[0].start, *(part.end for part in parts)] == [*(part.start for part in parts), span.end]
    for part in parts:
        assert gzip.decompress(sample.content[part.start : part.end])


@pytest.mark.parametrize("longest", [700, 1 << 16])
def test_edges_where_no_block_or_record_starts(sample: Sample, longest: int) -> None:
    first, last = sample.offsets[3], sample.offsets[-1]
    with sample.open() as file:
        for chunk in (Chunk(first + 1, last), Chunk(first + (1 << 16), last), Chunk(first, first + (3 << 16))):
            with pytest.raises(FileFaultError):
                for block in split_span(file, chunk, longest, 1 << 30):
                    if isinstance(block, Chunk):
                        chunk_parts(file, block)


def test_the_blocks_that_are_read() -> None:
    assert edges_of(Containers(5, 90), 100) == [5]
    assert edges_of(Chunk(5 << 16 | 3, 50 << 16 | 4), 100) == [5, 50]
    assert edges_of(Chunk(5 << 16, 50 << 16), 100) == [5, 50]
    assert edges_of(Chunk(5 << 16, 100 << 16), 100) == [5]
    assert edges_of(Chunk(5 << 16 | 3, 5 << 16 | 9), 100) == [5]


def test_chunks_that_stay_one_block() -> None:
    assert is_cut_later(Chunk(5 << 16 | 3, 50 << 16), 45)
    assert not is_cut_later(Chunk(5 << 16 | 3, 50 << 16), 44)
    assert not is_cut_later(Chunk(5 << 16, 50 << 16), 45)


class CountedStorage(LocalStorage):
    """A storage whose files are read by requests, which are recorded."""

    reads_are_requests = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests: list[ByteRange] = []

    def open(self, key: str, *, etag: str | None = None) -> StoredFile:
        with super().open(key, etag=etag) as file:
            content = file.read()

        def fetch(span: ByteRange) -> Iterator[bytes]:
            self.requests.append(span)
            yield content[span.start : span.end]

        return RemoteFile(len(content), fetch, ThreadPoolExecutor(1))


@pytest.mark.parametrize("is_known", [False, True])
def test_each_edge_takes_one_request(tmp_path: Path, is_known: bool) -> None:
    """Also where the end of the first edge's block is cached, but not its content."""
    rng = random.Random(1)
    lines = [b"chr1\t%d\t.\tA\t.\t.\t.\t%s\n" % (number, rng.randbytes(490).hex().encode()) for number in range(600)]
    blocks = [bgzf_block(HEADER), *(bgzf_block(b"".join(lines[start : start + 60]), 0) for start in range(0, 600, 60))]
    (tmp_path / "x.vcf.gz").write_bytes(b"".join(blocks))
    storage, cache = CountedStorage(tmp_path), ByteCache(1 << 20)
    source = Source("x", FORMATS["VCF"], "data", storage, "x.vcf.gz", None, None)
    data_file = DataFile(source, source.stat("x.vcf.gz", fresh=True))
    starts = [sum(map(len, blocks[:number])) for number in range(len(blocks))]
    with OpenFile(data_file, cache, None) as file:
        assert file.header.references is not None
        if is_known:
            file.block_end(starts[2])
    chunk = Chunk(starts[2] << 16 | len(lines[60]), starts[8] << 16 | len(lines[420]))
    storage.requests.clear()
    with OpenFile(data_file, cache, None) as file:
        prefetch_edges(file, [chunk])
        for block in split_span(file, chunk, 1 << 16, 1 << 30):
            if isinstance(block, Chunk):
                chunk_parts(file, block)
    assert len(storage.requests) == 2, storage.requests
