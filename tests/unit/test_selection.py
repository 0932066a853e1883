import random
import tracemalloc
from pathlib import Path

import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.bgzf import virtual_offset
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.index_files import read_index
from htsget_flask.formats.selection import Wanted, select
from tests import files

ALL = Wanted(0, 0, None, 0)


def write(folder: Path, count: int) -> tuple[Path, list[Chunk]]:
    """A BAM file with so many reads on its one reference, and the chunk of all of them."""
    rng = random.Random(1)
    reference = files.Reference("chr1", 200_000_000)
    reads = (files.Read(f"r{place}", 0, 0, place * 300, ((files.MATCH, 150),), 150) for place in range(count))
    data = b"".join(files.bam_record(read, rng) for read in reads)
    path = folder / "some.bam"
    files.write_bgzf(path, [files.bam_header([reference]), *files.cut(data, files.MAX_BLOCK_DATA)], level=1)
    return path, read_index(files.make_index(path).read_bytes()).chunks(0, 0, None)


class TestRecordsAreReadAsTheyAreSent:
    def test_in_bounded_memory(self, tmp_path: Path) -> None:
        path, chunks = write(tmp_path, 40_000)
        with path.open("rb", buffering=0) as file:
            tracemalloc.start()
            try:
                size = sum(map(len, select("BAM", file, chunks, ALL)))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert size > 4_000_000
        assert peak < 3_000_000

    def test_no_further_than_the_region(self, tmp_path: Path) -> None:
        path, chunks = write(tmp_path, 20_000)
        with path.open("rb", buffering=0) as file:
            assert b"".join(select("BAM", file, chunks, Wanted(0, 300, 301, 0)))
            assert file.tell() < path.stat().st_size // 2
            assert b"".join(select("BAM", file, chunks, Wanted(0, 160, 300, 0))) == b""
            assert b"".join(select("BAM", file, chunks, Wanted(1, 0, None, 0))) == b""


class TestDamageIsAnError:
    @pytest.mark.parametrize("end", [10, 64, 5_000, -40])
    def test_a_file_that_ends_early(self, tmp_path: Path, end: int) -> None:
        path, chunks = write(tmp_path, 2_000)
        path.write_bytes(path.read_bytes()[:end])
        with path.open("rb", buffering=0) as file, pytest.raises(FormatError):
            list(select("BAM", file, chunks, ALL))

    def test_an_index_of_another_file(self, tmp_path: Path) -> None:
        path, ((begin, end),) = write(tmp_path, 2_000)
        for wrong in (Chunk(begin + 5, end), Chunk(begin, end - 5), Chunk(begin, virtual_offset((end >> 16) - 1, 0))):
            with path.open("rb", buffering=0) as file, pytest.raises(FormatError):
                list(select("BAM", file, [wrong], ALL))
