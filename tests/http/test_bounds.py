"""The work and memory that a client can cause are bounded, whatever it sends."""

import difflib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.app import create_app
from htsget_flask.services import EXTENSION
from tests.support.app import configured, http_for
from tests.support.client import FlaskHttp
from tests.support.files.bam import MATCH, Read, Reference, bam_header, bam_record
from tests.support.files.bgzf import MAX_BLOCK_DATA, cut, write_bgzf
from tests.support.files.indexes import make_index


def write(folder: Path, names: Sequence[str]) -> Path:
    """A folder with a BAM file that has a read on the first of its references."""
    data = folder / "data"
    data.mkdir()
    path = data / "sample.bam"
    read = bam_record(Read("r", 0, 0, 100, ((MATCH, 150),), 150), random.Random(1))
    header = bam_header([Reference(name, 1_000_000) for name in names])
    write_bgzf(path, [*cut(header, MAX_BLOCK_DATA), read])
    make_index(path)
    return data


class TestAnUnknownReference:
    @pytest.mark.parametrize("length", [5, 30, 31, 98, 4000])
    def test_is_compared_with_few_names(self, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"{number:05}".rjust(min(length, 98), "x") for number in range(3000)]
        compared: list[str] = []
        real = difflib.get_close_matches

        def count(word: str, possibilities: Sequence[str], *rest: Any) -> list[str]:
            compared.extend(possibilities)
            return real(word, possibilities, *rest)

        monkeypatch.setattr(difflib, "get_close_matches", count)
        answer = http_for(write(tmp_path, names)).get(f"/reads/sample?referenceName={'y' * 3}{'x' * (length - 3)}")
        assert answer.status == 404
        assert len(answer.body) < 1000
        assert len(compared) == (200 if length <= 30 else 0)
        assert all(len(name) <= length + 3 for name in compared)


class TestTheHostOfARequest:
    def get(self, folder: Path, hosts: Sequence[str], **settings: Any) -> int:
        """The size of the cache after a ticket for chunks of the index, for each of these hosts."""
        app = create_app(configured(folder, htsget={"exact": False}, cache={"max_bytes": 2_000_000}, **settings))
        http = FlaskHttp(app.test_client())
        for host in hosts:
            answer = http.get("/reads/sample?referenceName=chr1&start=0&end=1000", headers={"Host": host})
            assert answer.status == 200
        return int(app.extensions[EXTENSION].cache.size)

    def test_takes_its_part_of_the_cache(self, tmp_path: Path) -> None:
        folder = write(tmp_path, ["chr1"])
        hosts = [f"{number}.{'a' * 3000}" for number in range(600)]
        one, all_of_them = self.get(folder, hosts[:1]), self.get(folder, hosts)
        assert one + 1_000_000 < all_of_them <= 2_000_000
        assert self.get(folder, [f"{number}.{'a' * 7900}" for number in range(10)]) < one + 80_000

    def test_none_where_the_public_url_is_known(self, tmp_path: Path) -> None:
        folder = write(tmp_path, ["chr1"])
        hosts = [f"{number}.{'a' * 3000}" for number in range(20)]
        url = "https://example.org/"
        assert self.get(folder, hosts[:1], public_url=url) == self.get(folder, hosts, public_url=url)
