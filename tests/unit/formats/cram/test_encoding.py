"""Compressed blocks of CRAM headers."""

import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest

from htsget_flask.formats.cram.encoding import UNREADABLE, decompress

TEXT = b"".join(b"@SQ\tSN:chr%d\tLN:%d\n" % (number, number * 997 % 5003) for number in range(200))


@pytest.mark.parametrize(("method", "pack"), [(1, gzip.compress), (2, bz2.compress), (3, lzma.compress)])
class TestDecompress:
    def test_sound_data(self, method: int, pack: Callable[[bytes], bytes]) -> None:
        for text in (TEXT, b""):
            assert decompress(method, pack(text), len(text)) == text

    def test_damaged_data_is_never_other_text(self, method: int, pack: Callable[[bytes], bytes]) -> None:
        data = pack(TEXT)
        faults = 0
        for position in range(len(data)):
            damaged = bytearray(data)
            damaged[position] ^= 4
            try:
                assert decompress(method, bytes(damaged), len(TEXT)) == TEXT
            except UNREADABLE:
                faults += 1
        # Some fields of gzip's header do not matter.
        assert faults > 0.9 * len(data)

    @pytest.mark.parametrize(("kept", "size"), [(-1, 0), (-9, 0), (None, -1), (None, 1)])
    def test_truncated_data_and_another_size(
        self, method: int, pack: Callable[[bytes], bytes], kept: int | None, size: int
    ) -> None:
        with pytest.raises(UNREADABLE):
            decompress(method, pack(TEXT)[:kept], len(TEXT) + size)
