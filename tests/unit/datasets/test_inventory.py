"""Prefixes are scanned rarely, and by one thread at a time."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from htsget_flask.config import PrefixConfig
from htsget_flask.datasets.catalog import Catalog
from htsget_flask.datasets.inventory import Inventory
from htsget_flask.storage import Entry
from htsget_flask.storage.local import LocalStorage


class SlowStorage(LocalStorage):
    """A storage whose listing takes a while."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.walks = 0
        self.walking = threading.Lock()

    def entries(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        assert self.walking.acquire(blocking=False), "two at a time"
        time.sleep(0.05)
        self.walks += 1
        yield from super().entries(prefix, after=after)
        self.walking.release()


@pytest.fixture
def storage(tmp_path: Path) -> SlowStorage:
    for name in ("a.bam", "b.cram", "b.bam", "r.fa", "r.fa.fai", "no.fa", "p.fna.gz", "p.fna.gz.fai", "p.fna.gz.gzi"):
        (tmp_path / name).touch()
    return SlowStorage(tmp_path)


@pytest.fixture
def inventory(storage: SlowStorage) -> Inventory:
    storages: Mapping[str, SlowStorage] = {"data": storage}
    return Inventory(Catalog([PrefixConfig(prefix="", storage="data")], storages), storages)


class TestAScanIsShared:
    def test_by_all_threads(self, inventory: Inventory, storage: SlowStorage) -> None:
        with ThreadPoolExecutor(8) as pool:
            counts = list(pool.map(lambda _: len(inventory.search("").datasets), range(50)))
        assert counts == [2] * 50
        assert storage.walks == 1

    @pytest.mark.slow
    def test_and_reports_storages_that_cannot_be_listed(
        self, inventory: Inventory, storage: SlowStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        moved = tmp_path.rename(tmp_path.with_name("moved"))
        assert inventory.search("") == ([], False)
        assert str(tmp_path) in caplog.text
        storage.walking = threading.Lock()
        moved.rename(tmp_path)
        deadline = time.monotonic() + 10
        while not inventory.search("").is_complete and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(inventory.search("").datasets) == 2


class TestTheResult:
    def test_has_files_in_the_order_of_formats(self, inventory: Inventory) -> None:
        (dataset,) = inventory.search("b").datasets[-1:]
        assert [source.format.name for source in dataset.sources] == ["BAM", "CRAM"]

    def test_has_fastas_with_indexes(self, inventory: Inventory) -> None:
        assert inventory.fastas("data") == ["p.fna.gz", "r.fa"]
