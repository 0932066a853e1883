"""Damaged indexes, and FormatError for each of them."""

import gzip
import random
from pathlib import Path

import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.index_reader import read_index
from tests.support.files import GOOD_BGZF
from tests.support.files.indexes import index_of


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A BAI, a TBI and a CSI with and without names; decompressed, so that no checksum hides damage."""
    folder = tmp_path_factory.mktemp("indexes")
    contents_ = []
    for name in ("bam_normal", "vcf_normal", "vcf_csi", "bcf_normal", "bam_csi"):
        index = index_of(GOOD_BGZF[name](folder))
        assert index is not None
        data = index.read_bytes()
        contents_.append(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    return contents_


class TestADamagedIndexIsRefused:
    def test_every_truncation(self, contents: list[bytes]) -> None:
        for content in contents:
            complete = read_index(content)
            for length in [*range(min(600, len(content))), *range(600, len(content) - 8, 97)]:
                with pytest.raises(FormatError):
                    read_index(content[:length])
            # The number of records without coordinates may be missing: old writers leave it out.
            assert (read_index(content[:-8]).bins == complete.bins).all()

    @pytest.mark.slow
    def test_changed_bytes_raise_nothing_else(self, contents: list[bytes]) -> None:
        rng = random.Random(9)
        for content in contents:
            for _ in range(400):
                changed = bytearray(content)
                for _ in range(rng.randrange(1, 4)):
                    changed[rng.randrange(min(len(changed), 2000))] = rng.choice(
                        (0, 1, 127, 128, 255, rng.randrange(256))
                    )
                try:
                    index = read_index(bytes(changed))
                except FormatError:
                    continue
                index.chunks(0, 0, None)
                index.chunks(0, 1000, 5000)

    def test_a_compressed_one_that_is_cut_short(self, tmp_path: Path) -> None:
        index = index_of(GOOD_BGZF["vcf_normal"](tmp_path))
        assert index is not None
        data = index.read_bytes()
        for length in range(2, len(data) - 30, 7):
            with pytest.raises(FormatError):
                read_index(data[:length])
