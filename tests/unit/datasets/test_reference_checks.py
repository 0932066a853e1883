"""Where the references of a CRAM file's records are found."""

import gzip
from collections.abc import Collection
from pathlib import Path

import pytest

from htsget_flask.cache import ByteCache
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.reference_checks import (
    BaseSource,
    describe_absence,
    find_bases,
    has_all_references,
    missing_reference,
)
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.formats.table import FORMATS
from htsget_flask.storage.local import LocalStorage
from tests.support import referenced
from tests.support.sequences import expected

# One reference of the header has no records.
USED = [name for name in referenced.LENGTHS if name != "empty"]
MD5S = {name: expected(letters).md5 for name, letters in referenced.sequences().items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return referenced.write_reference(tmp_path_factory.mktemp("reference") / "reference.fa")


def open_cram(path: Path) -> OpenFile:
    storage = LocalStorage(path.parent)
    source = Source("x", FORMATS["CRAM"], "data", storage, path.name, None, None)
    return OpenFile(DataFile(source, storage.stat(path.name)), ByteCache(1 << 20), None)


def found(
    path: Path, available: Collection[str], reference_ids: Collection[int] | None = None
) -> dict[str, BaseSource]:
    """The sources of a file's bases if the references with these names are served."""
    md5s = {MD5S[name] for name in available}
    with open_cram(path) as file:
        sources = {one.name: source for one, source in find_bases(file, md5s.__contains__, reference_ids)}
        missing = [name for name, source in sources.items() if source is BaseSource.NOWHERE]
        first = missing_reference(file, md5s.__contains__, reference_ids)
        assert first == (file.references_with_md5s[missing[0]] if missing else None)
    return sources


@pytest.mark.parametrize("name", sorted(referenced.OPTIONS))
def test_each_reference_with_records(name: str, reference: Path, tmp_path: Path) -> None:
    path = referenced.write_cram(name, tmp_path / "x.cram", reference)
    absent = BaseSource.FILE if name in referenced.ALONE else BaseSource.NOWHERE
    assert found(path, USED) == dict.fromkeys(USED, BaseSource.SEQUENCES)
    assert found(path, ()) == dict.fromkeys(USED, absent)
    assert found(path, ("chr2", "c3", "empty")) == {
        used: BaseSource.SEQUENCES if used in ("chr2", "c3") else absent for used in USED
    }
    assert found(path, (), (1, 5, 7)) == {"chr2": absent}


@pytest.mark.parametrize("name", ["version_3_0", *referenced.ALONE])
def test_sequences_that_are_not_known_yet(name: str, reference: Path, tmp_path: Path) -> None:
    path = referenced.write_cram(name, tmp_path / "x.cram", reference)

    def has(_: str) -> bool:
        raise ServiceUnavailable("try again")

    with open_cram(path) as file:
        if name in referenced.ALONE:
            assert missing_reference(file, has) is None
        else:
            with pytest.raises(ServiceUnavailable):
                missing_reference(file, has)


def test_that_all_are_available_is_found_once(reference: Path, tmp_path: Path) -> None:
    path = referenced.write_cram("version_3_0", tmp_path / "x.cram", reference)
    available: set[str] = set()
    checked: list[str] = []

    def has(md5: str) -> bool:
        checked.append(md5)
        return md5 in available

    with open_cram(path) as file:
        assert not has_all_references(file, has, 1)
        available.update(MD5S.values())
        assert has_all_references(file, has, 1)
        checked.clear()
        assert has_all_references(file, has, 1)
        assert not checked
        available.clear()
        assert not has_all_references(file, has, 2)


def test_a_header_without_checksums(reference: Path, tmp_path: Path) -> None:
    path = referenced.write_cram("version_3_0", tmp_path / "x.cram", reference)
    with open_cram(path) as file:
        chr1 = file.references_with_md5s["chr1"]
        assert describe_absence(chr1) == "its reference 'chr1' is not among this server's sequences"
    referenced.remove_md5s(path)
    assert found(path, USED) == dict.fromkeys(USED, BaseSource.NOWHERE)
    with open_cram(path) as file:
        assert describe_absence(file.references_with_md5s["chr1"]) == "its header has no M5 of the reference 'chr1'"


def test_an_index_that_names_no_references_of_a_container(reference: Path, tmp_path: Path) -> None:
    path = referenced.write_cram("several_references", tmp_path / "x.cram", reference)
    index = Path(f"{path}.crai")
    offsets = {line.split()[3] for line in gzip.decompress(index.read_bytes()).decode().splitlines()}
    index.write_text("".join(f"-2\t0\t0\t{offset}\t0\t0\n" for offset in sorted(offsets, key=int)))
    assert found(path, ("chr1",)) == {
        name: BaseSource.SEQUENCES if name == "chr1" else BaseSource.NOWHERE for name in referenced.LENGTHS
    }
