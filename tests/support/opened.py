"""Files on this machine, opened as the service opens a dataset's."""

from pathlib import Path

import pysam

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.formats.bgzf import BgzfBlock
from htsget_flask.formats.table import FORMATS
from htsget_flask.storage.local import LocalStorage


class CountingFile(OpenFile):
    """A file that notes which BGZF blocks were read: by a new cache all of those that an answer takes."""

    def __init__(self, path: Path, cache: ByteCache | None = None, sidecars: Path | None = None) -> None:
        name = next(name for name, format_ in FORMATS.items() if path.name.endswith(format_.suffixes))
        storage = LocalStorage(path.parent)
        source = Source("x", FORMATS[name], "data", storage, path.name, None, None)
        super().__init__(DataFile(source, storage.stat(path.name)), cache or ByteCache(64 << 20), sidecars)
        self.coffsets: set[int] = set()

    def __enter__(self) -> "CountingFile":
        return self

    def read_new_block(self, coffset: int) -> BgzfBlock:
        self.coffsets.add(coffset)
        return super().read_new_block(coffset)


def offsets_by_pysam(path: Path) -> list[int]:
    """The virtual offset of each record of a BAM file, and that of the end."""
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        return [file.tell(), *(file.tell() for _ in file.fetch(until_eof=True))]
