from pathlib import Path

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.formats.table import FORMATS
from htsget_flask.storage.local import LocalStorage


def test_local_files_have_no_pages_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / "x.bam").write_bytes(bytes(10))
    source = Source("x", FORMATS["BAM"], "data", LocalStorage(tmp_path), "x.bam", None, None)
    cache = ByteCache(1 << 20)
    with OpenFile(DataFile(source, source.stat("x.bam", fresh=True)), cache, None) as file:
        assert file.pages.read(20) == bytes(10)
        assert cache.size == 0
