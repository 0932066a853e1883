"""The lengths and checksums of CRAM containers."""

import io
import random
from pathlib import Path

import pytest

from htsget_flask.errors import FormatError
from htsget_flask.formats.cram.container import read_container, read_cram_header, read_version
from tests.support.files import FORMATS, GOOD
from tests.support.files.cram import cram_3_0


def container_ends(content: bytes, major: int) -> list[int]:
    """The end offset of each container, by the lengths in the headers."""
    ends, position = [], len(read_cram_header(io.BytesIO(content)).raw)
    while position < len(content):
        position = read_container(io.BytesIO(content), position, major).end
        ends.append(position)
    return ends


class TestContainers:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(name for name in GOOD if FORMATS[name] == "CRAM"))
    def test_follow_each_other_to_the_end_of_the_file(self, name: str, tmp_path: Path) -> None:
        content = GOOD[name](tmp_path).read_bytes()
        major = read_version(io.BytesIO(content))
        assert container_ends(content, major)[-1:] in ([len(content)], [])

    @pytest.mark.slow
    def test_start_nowhere_else(self, tmp_path: Path) -> None:
        content = cram_3_0(tmp_path).read_bytes()
        ends = {len(read_cram_header(io.BytesIO(content)).raw), *container_ends(content, 3)}
        rng = random.Random(1)
        for start in {rng.randrange(len(content)) for _ in range(300)} - ends - {26}:
            with pytest.raises(FormatError):
                read_container(io.BytesIO(content), start, 3)
