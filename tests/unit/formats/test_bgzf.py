import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htsget_flask.errors import FormatError
from htsget_flask.formats import bgzf
from tests.support.files.bam import bam_tiny_blocks
from tests.support.files.bgzf import BGZF_EOF, bgzf_block, bgzf_data


def blocks_of(data: bytes) -> list[bytes]:
    blocks = []
    while data:
        size = bgzf.block_size(data[:128])
        blocks.append(data[:size])
        data = data[size:]
    return blocks


class TestVirtualOffsets:
    @given(st.integers(0, (1 << 48) - 1), st.integers(0, 65535))
    def test_pack_and_unpack(self, coffset: int, uoffset: int) -> None:
        assert bgzf.split_offset(bgzf.virtual_offset(coffset, uoffset)) == (coffset, uoffset)

    @given(st.tuples(st.integers(0, 99), st.integers(0, 65535)), st.tuples(st.integers(0, 99), st.integers(0, 65535)))
    def test_sort_as_positions_do(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        assert (bgzf.virtual_offset(*one) < bgzf.virtual_offset(*other)) == (one < other)


class TestDeflate:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 200_000), st.sampled_from(["noise", "zeros", "text"]))
    def test_its_blocks_hold_the_data(self, length: int, kind: str) -> None:
        rng = random.Random(length)
        data = {"noise": rng.randbytes(length), "zeros": bytes(length), "text": (b"chr1\t100\tA\n" * length)[:length]}[
            kind
        ]
        blocks = blocks_of(bgzf.deflate(data))
        assert b"".join(map(bgzf.inflate, blocks)) == data
        assert all(len(block) <= 65536 for block in blocks)
        assert bgzf.EOF_BLOCK not in blocks

    @pytest.mark.slow
    def test_it_writes_the_same_bytes_in_any_process(self, tmp_path: Path) -> None:
        data = bgzf_data(bam_tiny_blocks(tmp_path))
        (tmp_path / "data").write_bytes(data)
        program = (
            "import hashlib, random, sys; from htsget_flask.formats import bgzf; rng = random.Random(1)\n"
            "data = open(sys.argv[1], 'rb').read(); print(hashlib.sha256(b''.join(bgzf.deflate(data[start : start + "
            "rng.randrange(5, 300)]) for start in (rng.randrange(len(data)) for _ in range(3000)))).hexdigest())"
        )

        def compressed(fill: int) -> bytes:
            """The digest of the blocks from a process whose freshly allocated memory is filled with this value."""
            variables = {**os.environ, "MALLOC_PERTURB_": str(fill)}
            return subprocess.check_output([sys.executable, "-c", program, tmp_path / "data"], env=variables)

        assert len({compressed(fill) for fill in (0, 1, 17, 85, 170, 255)}) == 1

    def test_it_writes_no_block_without_data(self) -> None:
        assert bgzf.deflate(b"") == b""

    def test_the_end_marker_is_the_specifications(self) -> None:
        assert bgzf.EOF_BLOCK == BGZF_EOF


class TestDamageIsFound:
    def test_every_changed_byte(self) -> None:
        rng = random.Random(3)
        data = rng.randbytes(300)
        whole = bgzf_block(data)
        for offset in range(len(whole)):
            changed = bytearray(whole)
            changed[offset] ^= 0x41
            try:
                block = bgzf.read_block(io.BytesIO(bytes(changed)), 0)
            except FormatError:
                continue
            # Time, operating system and extra flags do not affect the data.
            assert block.data == data
            assert offset in range(4, 10)

    def test_every_truncation(self) -> None:
        whole = bgzf_block(b"some data")
        for length in range(len(whole)):
            with pytest.raises(FormatError):
                bgzf.read_block(io.BytesIO(whole[:length]), 0)

    @given(st.binary(max_size=200))
    def test_noise_is_no_block(self, noise: bytes) -> None:
        with pytest.raises(FormatError):
            bgzf.block_size(b"\x1f\x8b\x08\x00" + noise)


class TestOtherSubfields:
    def test_the_block_size_is_found_after_them(self) -> None:
        block = bgzf_block(b"data")
        extra = b"AB\x03\x00xyz" + block[12:18]
        longer = bytearray(block[:10] + len(extra).to_bytes(2, "little") + extra + block[18:])
        longer[12 + 7 + 4 : 12 + 7 + 6] = (len(longer) - 1).to_bytes(2, "little")
        assert bgzf.read_block(io.BytesIO(bytes(longer)), 0) == (b"data", len(longer))
        assert bgzf.read_block_size(io.BytesIO(bytes(longer)), 0) == len(longer)


@pytest.fixture(scope="module")
def decoys(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """Blocks whose contents look like starts of blocks, and the offsets where blocks really start."""
    rng = random.Random(5)
    content, starts = b"", []
    while len(content) < 400_000:
        decoy = b"".join(bgzf_block(rng.randbytes(20))[: rng.randrange(4, 40)] for _ in range(100))
        starts.append(len(content))
        content += bgzf_block(decoy + rng.randbytes(rng.randrange(60_000)), level=0)
    return content, starts


class TestFindBlock:
    def test_finds_the_next_block_from_anywhere(self, decoys: tuple[bytes, list[int]]) -> None:
        content, starts = decoys
        rng = random.Random(6)
        for target in [0, len(content) - 1, *starts, *(rng.randrange(len(content)) for _ in range(300))]:
            expected = next((start for start in starts if start >= target), len(content))
            assert bgzf.find_block(io.BytesIO(content), target, len(content)) == expected

    def test_fails_without_a_block(self) -> None:
        with pytest.raises(FormatError):
            bgzf.find_block(io.BytesIO(bytes(1 << 20)), 5, 1 << 20)

    def test_the_last_block_is_whole(self, decoys: tuple[bytes, list[int]]) -> None:
        content, starts = decoys
        assert bgzf.ends_whole(io.BytesIO(content), len(content))
        for length in (len(content) - 1, len(content) - 30, starts[-1] + 5, starts[-2] + 17, 5, 0):
            assert not bgzf.ends_whole(io.BytesIO(content[:length]), length)
        for start in starts[1:]:
            assert bgzf.ends_whole(io.BytesIO(content[:start]), start)


class TestThePrefixOfAFile:
    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(0, 300), min_size=1, max_size=20), st.data())
    def test_maps_lengths_to_virtual_offsets(self, lengths: list[int], data: st.DataObject) -> None:
        parts = [os.urandom(length) for length in lengths]
        content = b"".join(map(bgzf_block, parts))
        whole = b"".join(parts)
        length = data.draw(st.integers(0, len(whole)))
        prefix = bgzf.Prefix(io.BytesIO(content), 1 << 20)
        assert prefix.require(length)[:length] == whole[:length]
        coffset, uoffset = bgzf.split_offset(prefix.virtual_offset(length))
        rest = b"".join(map(bgzf.inflate, blocks_of(content[coffset:])))
        assert rest[uoffset:] == whole[length:]
        with pytest.raises(FormatError):
            prefix.require(len(whole) + 1)


def test_reading_does_not_depend_on_the_files_buffering(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(bgzf_block(bytes([value]) * 1000) for value in range(20)))
    with path.open("rb", buffering=0) as file:
        assert bytes(bgzf.Prefix(file, 1 << 20).require(20_000)) == b"".join(
            bytes([value]) * 1000 for value in range(20)
        )
