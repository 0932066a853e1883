import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException, NotAcceptable

from htsget_flask.commands.refget import index_fastas, ingest_fastas
from htsget_flask.config import RefgetConfig
from htsget_flask.errors import FileFaultError, NotFound, ServiceUnavailable
from htsget_flask.refget.query import JSON_TYPES, TEXT_TYPES, Part, bounded_part, choose_type, ranged_part
from htsget_flask.sequences import library
from htsget_flask.sequences.digests import parse_identifier
from htsget_flask.sequences.fasta_files import make_table
from htsget_flask.sequences.fasta_index import BESIDE, Table, store_table
from htsget_flask.sequences.fasta_scan import scan
from htsget_flask.sequences.fasta_text import Blocks, PlainText
from htsget_flask.sequences.library import Library
from htsget_flask.sequences.lookup import Fasta, Stored
from htsget_flask.sequences.store import read_store
from htsget_flask.sequences.subsequence import letters
from htsget_flask.storage.local import LocalStorage
from tests.support.sequences import expected, fasta, some_letters, write_compressed

CHUNKS = st.sampled_from([1, 7, 64, 1000, 1 << 20])


def table_of(text: bytes, chunk: int = 1 << 20) -> Table:
    pieces = (text[start : start + chunk] for start in range(0, len(text), chunk))
    return scan(pieces, Blocks(array("q"), array("q")))


@st.composite
def texts(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A FASTA file of any layout, and what stands in its sequences."""
    content, bodies = b"", []
    for number in range(draw(st.integers(0, 4))):
        body = draw(st.sampled_from([b"ACGT", b"acgtNryk", b"AC*-g", b"A1 >\tx"]))
        length = draw(st.sampled_from([0, 1, 59, 60, 61, 240, 241, 999]))
        body = (body * length)[:length]
        width = draw(st.sampled_from([1, 7, 60, 10_000]))
        end = draw(st.sampled_from([b"\n", b"\r\n", b" \n", b"\n\n"]))
        lines = [body[start : start + width].removeprefix(b">") for start in range(0, length, width)]
        if draw(st.booleans()):
            place = draw(st.integers(0, len(lines)))
            lines.insert(place, draw(st.sampled_from([b"", b"acg", b"*"])))
        content += b">s%d text > more" % number + end + b"".join(line + end for line in lines)
        bodies.append(b"".join(lines))
    if draw(st.booleans()):
        content = content.rstrip(b"\r\n ")
    return content, bodies


class TestAnyLayoutIsReadRight:
    @pytest.mark.slow
    @given(texts(), CHUNKS, st.data())
    @settings(max_examples=300, deadline=None)
    def test_digests_and_any_part(self, made: tuple[bytes, list[bytes]], chunk: int, data: st.DataObject) -> None:
        content, bodies = made
        table = table_of(content, chunk)
        assert table.all_names() == [f"s{number}" for number in range(len(bodies))]
        for place, body in enumerate(bodies):
            right = expected(body)
            assert table.digests(place).md5.hex() == right.md5
            assert table.digests(place).trunc512.hex() == right.trunc512
            assert table.lengths[place] == len(right.letters)
            start = data.draw(st.integers(0, len(right.letters)))
            end = data.draw(st.integers(start, len(right.letters)))
            found = letters(PlainText(io.BytesIO(content)), table.layout(place), start, end)
            assert b"".join(found) == right.letters[start:end]

    @pytest.mark.slow
    @pytest.mark.parametrize("width", [1, 60, 70_000, 200_000, 1_000_000])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_long_sequences(self, width: int, end: bytes) -> None:
        text = some_letters("long", 400_000)
        content = fasta({"a": b"ACGT", "long": text}, width=width, end=end)
        layout = table_of(content).layout(1)
        assert layout.width, "by arithmetic, not by reading all that is before"
        for start, stop in ((0, 400_000), (1, 399_999), (59, 61), (60, 131_133), (199_999, 200_001), (7, 7)):
            pieces = list(letters(PlainText(io.BytesIO(content)), layout, start, stop))
            assert b"".join(pieces) == text.upper()[start:stop]
            assert all(len(piece) <= 128 << 10 for piece in pieces)

    def test_as_samtools_reads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a.fa"
        path.write_bytes(fasta({"a": some_letters("a", 1000), "b": some_letters("b", 777)}, width=50, end=b"\r\n"))
        table = table_of(path.read_bytes())
        pysam.faidx(str(path))
        with pysam.FastaFile(str(path)) as oracle:
            assert list(oracle.references) == table.all_names()
            for place, name in enumerate(oracle.references):
                right = expected(oracle.fetch(name).encode())
                assert (table.digests(place).md5.hex(), table.lengths[place]) == (right.md5, len(right.letters))
                assert oracle.fetch(name, 49, 222).upper().encode() == b"".join(
                    letters(PlainText(io.BytesIO(path.read_bytes())), table.layout(place), 49, 222)
                )

    @pytest.mark.parametrize("content", [b"ACGT\n", b"@read\nACGT\n", b"\n\nx\n>a\nACGT\n"])
    def test_what_is_no_fasta(self, content: bytes) -> None:
        with pytest.raises(Exception, match="not a FASTA file"):
            table_of(content)

    def test_a_header_without_end(self) -> None:
        with pytest.raises(Exception, match="header line of more than 1 MiB"):
            table_of(b">" + b"x" * (2 << 20))


class TestIdentifiers:
    right = expected(b"ACGT")

    @pytest.mark.parametrize("form", ["{0.md5}", "md5:{0.md5}"])
    def test_md5(self, form: str) -> None:
        text = form.format(self.right)
        assert parse_identifier(text) == parse_identifier(self.right.md5.upper())
        assert parse_identifier(text) == (bytes.fromhex(self.right.md5), None, None)

    def test_ga4gh_is_trunc512(self) -> None:
        forms = [self.right.ga4gh, self.right.ga4gh.removeprefix("ga4gh:"), self.right.trunc512]
        forms += [self.right.trunc512.upper(), f"trunc512:{self.right.trunc512}"]
        assert {parse_identifier(form) for form in forms} == {(None, bytes.fromhex(self.right.trunc512), None)}
        assert parse_identifier(self.right.ga4gh.upper()) != parse_identifier(self.right.ga4gh)

    def test_curies(self) -> None:
        assert parse_identifier("insdc:BK006935.2") == (None, None, "insdc:BK006935.2")

    @pytest.mark.parametrize("text", ["", "x", "abc123", "0" * 31, "0" * 33, "g" * 32, "SQ.short", "a:", ":b", "a: b"])
    def test_no_identifier(self, text: str) -> None:
        assert parse_identifier(text) is None


class TestMediaTypesAreNegotiated:
    V1, V2 = "text/vnd.ga4gh.refget.v1.0.0+plain", "text/vnd.ga4gh.refget.v2.0.0+plain"

    @pytest.mark.parametrize(
        ("accept", "chosen"),
        [
            (None, V2),
            ("", V2),
            ("*/*", V2),
            ("text/*", V2),
            ("text/plain", "text/plain"),
            ("TEXT/PLAIN", "text/plain"),
            ("text/plain; charset=us-ascii", "text/plain"),
            (V1, V1),
            ("text/vnd.ga4gh.refget.v1.0.1+plain", "text/vnd.ga4gh.refget.v1.0.1+plain"),
            (f"{V2}, {V1}, text/plain", V2),
            (f"{V1}, {V2}", V1),
            (f"{V2};q=0.5, {V1}", V1),
            ("text/html, */*;q=0.1", V2),
            ("text/*;q=0.5, text/plain", "text/plain"),
            (f"text/*, {V2};q=0", "text/vnd.ga4gh.refget.v1.0.1+plain"),
            (f"application/json, {V1};q=0.001", V1),
        ],
    )
    def test_chosen(self, accept: str | None, chosen: str) -> None:
        assert choose_type(accept, TEXT_TYPES) == chosen

    @pytest.mark.parametrize(
        "accept",
        ["embl/some_json", "text/html", "application/json", "text/plain;q=0", "*/*;q=0", ",", "text", "x;;;,;"],
    )
    def test_refused(self, accept: str) -> None:
        with pytest.raises(NotAcceptable):
            choose_type(accept, TEXT_TYPES)

    def test_json(self) -> None:
        assert (
            choose_type("application/json;q=0.9, application/vnd.ga4gh.refget.v1.0.0+json", JSON_TYPES) == JSON_TYPES[2]
        )


class TestPartsAreSlices:
    """Against Python's own slicing."""

    @given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60), st.booleans())
    def test_bounds(self, length: int, start: int | None, end: int | None, is_circular: bool) -> None:
        text = bytes(range(65, 65 + length))
        try:
            part = bounded_part(start, end, length, is_circular, True)
        except HTTPException as error:
            assert error.code == 416
            is_out = (start is not None and start >= length) or (end is not None and end > length)
            assert is_out or (not is_circular and (start or 0) > (length if end is None else end))
            return
        if part.start <= part.end:
            assert text[part.start : part.end] == text[start:end]
        else:
            assert is_circular
            assert part == (start, end)

    @given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
    def test_ranges(self, length: int, first: int | None, last: int | None) -> None:
        text = bytes(range(65, 65 + length))
        try:
            part = ranged_part(f"bytes={'' if first is None else first}-{'' if last is None else last}", length)
        except HTTPException as error:
            if first is None and last is None:
                assert error.code == 400
                return
            assert error.code == 416
            assert ("Content-Range", f"bytes */{length}") in error.get_headers()
            assert not length or last == 0 or (first or 0) >= length or (last is not None and last < (first or 0))
            return
        if first is None:
            assert last
            assert text[part.start : part.end] == text[-last:]
        else:
            assert text[part.start : part.end] == text[first : None if last is None else last + 1] != b""

    def test_a_part_is_half_open(self) -> None:
        assert bounded_part(2, 5, 10, False, True) == Part(2, 5)
        assert ranged_part("bytes=2-5", 10) == Part(2, 6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def library_of(folder: Path, **settings: Any) -> Library:
    config = {"fastas": [{"storage": "data", "prefix": ""}], **settings}
    return Library(RefgetConfig.model_validate(config), {"data": LocalStorage(folder)}, folder.parent / "cache")


def faults_of(sequences: Library) -> list[str]:
    return [fault for known in sequences.look() for fault in known.faults]


class TestDigestsAreComputedOnce:
    @pytest.fixture
    def scans(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The files that were read as a whole."""
        seen: list[str] = []

        def noted(storage: LocalStorage, key: str, *arguments: Any, **options: Any) -> Table:
            seen.append(key)
            return make_table(storage, key, *arguments, **options)

        monkeypatch.setattr(library, "make_table", noted)
        return seen

    def test_and_found_by_others(self, folder: Path, scans: list[str]) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        md5 = expected(b"ACGT").md5
        for _ in range(2):
            sequences = library_of(folder)
            sequences.look()
            sequences.look()
            assert sequences.find(md5).length == 4
        assert scans == ["a.fa"]

    @pytest.mark.parametrize("suffix", [".fa", ".fa.gz"])
    def test_by_the_command_beside_the_file(self, folder: Path, scans: list[str], suffix: str) -> None:
        path = folder / f"a{suffix}"
        write_compressed(path, fasta({"a": b"ACGT"})) if suffix == ".fa.gz" else path.write_bytes(fasta({"a": b"ACGT"}))
        assert run_index(path, folder.parent / "other") == [Path(f"{path}{BESIDE}")]
        library_of(folder).look()
        assert scans == []

    def test_in_the_cache_folder_where_the_file_is_read_only(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, scans: list[str]
    ) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))

        def refusing(path: Path, *arguments: Any, **options: Any) -> None:
            if path.parent == folder:
                raise PermissionError(13, "denied", str(path))
            store_table(path, *arguments, **options)

        monkeypatch.setattr("htsget_flask.sequences.fasta_files.store_table", refusing)
        (kept,) = run_index(folder / "a.fa", folder.parent / "cache")
        assert kept is not None
        assert folder.parent / "cache" in kept.parents
        library_of(folder).look()
        assert scans == []

    @pytest.fixture
    def claimed(self, folder: Path) -> Path:
        """Digests next to a FASTA file that claim another file's sequence."""
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"TTTT"}))
        (folder / "b.fa").write_bytes(fasta({"b": b"ACGT"}))
        other = folder.parent / "other.fa"
        other.write_bytes(fasta({"a": b"ACGT"}))
        elsewhere, beside = LocalStorage(folder.parent), Path(f"{path}{BESIDE}")
        table = make_table(elsewhere, "other.fa", elsewhere.stat("other.fa"))
        store_table(beside, LocalStorage(folder).stat("a.fa"), table)
        return beside

    @staticmethod
    def source(folder: Path, letters: bytes) -> str:
        """The file that a sequence is found in."""
        sequences = library_of(folder)
        sequences.look()
        source = sequences.find(expected(letters).md5).source
        assert isinstance(source, Fasta)
        return source.key

    def is_honest(self, folder: Path) -> bool:
        """Whether each sequence is found where it is."""
        return [self.source(folder, letters) for letters in (b"TTTT", b"ACGT")] == ["a.fa", "b.fa"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, as only root may")
    def test_but_not_by_another_user(self, folder: Path, claimed: Path, scans: list[str]) -> None:
        os.chown(claimed, 65_534, 65_534)
        assert self.is_honest(folder)
        assert scans == ["a.fa", "b.fa"]
        fault = f"its {BESIDE} is not believed: another user can have written it"
        assert faults_of(library_of(folder)) == [fault]

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_but_not_where_others_may_write(self, folder: Path, claimed: Path, mode: int) -> None:
        assert self.source(folder, b"ACGT") == "a.fa"
        claimed.chmod(mode)
        assert self.is_honest(folder)

    def test_but_not_through_a_link(self, folder: Path, claimed: Path) -> None:
        claimed.symlink_to(claimed.rename(folder.parent / "elsewhere"))
        assert self.is_honest(folder)

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
    def test_for_all_who_may_read_the_file(self, folder: Path, mode: int) -> None:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT"}))
        path.chmod(mode)
        (kept,) = run_index(path, folder.parent / "cache")
        assert kept is not None
        assert stat.S_IMODE(kept.stat().st_mode) == mode

    def test_no_link_in_their_place_is_followed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        secret = folder.parent / "secret"
        secret.touch(mode=0o600)
        replace = Path.replace

        def replace_and_be_replaced(path: Path, target: Path) -> Path:
            placed = replace(path, target)
            placed.unlink()
            placed.symlink_to(secret)
            return placed

        monkeypatch.setattr(Path, "replace", replace_and_be_replaced)
        run_index(folder / "a.fa", folder.parent / "cache")
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600

    def test_in_memory_where_there_is_no_cache_folder(self, folder: Path, scans: list[str]) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        config = RefgetConfig.model_validate({"fastas": [{"storage": "data", "prefix": ""}]})
        sequences = Library(config, {"data": LocalStorage(folder)}, None)
        assert sequences.find(expected(b"ACGT").md5).length == 4
        sequences.look()
        assert scans == ["a.fa"]

    def test_without_any_folder_to_write_to(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        (folder.parent / "cache").write_bytes(b"no folder")
        assert library_of(folder).find(expected(b"ACGT").md5).length == 4

    def test_again_when_the_file_or_what_is_kept_changes(self, folder: Path, scans: list[str]) -> None:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT"}))
        run_index(path, folder.parent / "cache")
        path.write_bytes(fasta({"a": b"TTTT"}))
        sequences = library_of(folder)
        assert sequences.find(expected(b"TTTT").md5).length == 4
        assert scans == ["a.fa"]
        with pytest.raises(NotFound):
            sequences.find(expected(b"ACGT").md5)
        (kept,) = (folder.parent / "cache" / "refget").iterdir()
        kept.write_bytes(kept.read_bytes()[:-1] + b"x")
        library_of(folder).look()
        assert scans == ["a.fa", "a.fa"]


def run_index(path: Path, cache: Path) -> list[Path | None]:
    return [indexed.kept for indexed in index_fastas([path], cache, Silent)]


class Silent:
    """Progress that nobody sees."""

    def __init__(self, label: str, length: int) -> None:
        self.told = 0
        self.length = length

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            assert self.told == self.length

    def __call__(self, count: int) -> None:
        self.told += count


class TestAFailureIsNotAMiss:
    ABSENT = expected(b"ABSENT").md5

    def test_digests_that_are_still_computed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        run_index(folder / "a.fa", folder.parent / "cache")
        (folder / "b.fa").write_bytes(fasta({"b": b"GGGG"}))
        go_on = threading.Event()

        def slow(*arguments: Any, **options: Any) -> Table:
            assert go_on.wait(20)
            return make_table(*arguments, **options)

        monkeypatch.setattr(library, "make_table", slow)
        monkeypatch.setattr(library, "_LOOKUP_TIMEOUT", 0.3)
        sequences = library_of(folder)
        try:
            with pytest.raises(ServiceUnavailable):
                sequences.find(expected(b"GGGG").md5)
            assert sequences.find(expected(b"ACGT").md5).length == 4, "those that are known are served meanwhile"
            with pytest.raises(ServiceUnavailable):
                sequences.find(self.ABSENT)
            with pytest.raises(NotFound):
                sequences.find("no identifier at all")
        finally:
            go_on.set()
        looking = sequences.begin(at_once=True)
        assert looking is not None
        looking.join(20)
        assert sequences.find(expected(b"GGGG").md5).length == 4
        with pytest.raises(NotFound):
            sequences.find(self.ABSENT)

    def test_a_file_that_cannot_be_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        (folder / "b.fa").write_bytes(fasta({"b": b"GGGG"}))
        read = LocalStorage.open

        def failing(self: LocalStorage, key: str, **options: Any) -> Any:
            if key == "b.fa":
                raise OSError(5, "Input/output error")
            return read(self, key, **options)

        monkeypatch.setattr(LocalStorage, "open", failing)
        sequences = library_of(folder)
        assert sequences.find(expected(b"ACGT").md5).length == 4
        with pytest.raises(ServiceUnavailable):
            sequences.find(self.ABSENT)
        assert faults_of(sequences) == ["cannot be read: Input/output error"]

    def test_a_configured_file_that_is_not_there(self, folder: Path) -> None:
        sequences = library_of(folder, fastas=[{"storage": "data", "key": "gone.fa"}])
        with pytest.raises(ServiceUnavailable):
            sequences.find(self.ABSENT)
        assert faults_of(sequences) == ["cannot be read: it is not there"]

    def test_an_unknown_digest_touches_no_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        sequences = library_of(folder)
        sequences.look()
        for name in ("stat", "open", "entries"):
            monkeypatch.setattr(LocalStorage, name, None)
        with pytest.raises(NotFound):
            sequences.find(self.ABSENT)

    def test_a_file_that_came_is_found(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_REST", 0.0)
        monkeypatch.setattr(library, "_MAX_SCAN_SHARE", 1e9)
        sequences = library_of(folder)
        with pytest.raises(NotFound):
            sequences.find(expected(b"ACGT").md5)
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        assert sequences.find(expected(b"ACGT").md5).length == 4

    @pytest.mark.slow
    def test_workers_digest_a_file_once(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": some_letters("many", 3_000_000)}))
        command = [sys.executable, "-c", WORKER, str(folder)]
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) for _ in range(3)]
        assert sorted(worker.communicate(timeout=60)[0] for worker in workers) == [b"0\n", b"0\n", b"1\n"]


WORKER = """
import sys
from pathlib import Path
from htsget_flask.sequences import library
from tests.unit.test_refget import library_of
scans, make_table = [], library.make_table
library.make_table = lambda *given, **more: (scans.append(given), make_table(*given, **more))[1]
library_of(Path(sys.argv[1])).look()
print(len(scans))
"""


class TestFaultsAreToldByName:
    @pytest.fixture
    def path(self, folder: Path) -> Path:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": b"ACGT" * 40, "b": b"GG" * 40}))
        pysam.faidx(str(path))
        return path

    def test_none(self, path: Path, folder: Path) -> None:
        assert faults_of(library_of(folder)) == []

    @pytest.mark.parametrize(
        ("index", "fault"),
        [
            (b"a\t160\tx\t60\t61\n", "its .fai is broken"),
            (b"a\t160\t3\n", "its .fai is broken"),
            (b"a\t160\t3\t60\t61\nb\t80\t169\t60\t6", "its .fai is broken"),
            (b"a\t160\t3\t60\t61\n", "its .fai is of another file: it names other sequences"),
            (b"a\t160\t3\t60\t61\nc\t80\t169\t60\t61\n", "its .fai is of another file: it names other sequences"),
            (b"a\t160\t3\t60\t61\nb\t80\t170\t60\t61\n", "its .fai is of another file: b lies elsewhere"),
            (b"a\t100\t3\t60\t61\nb\t80\t169\t60\t61\n", "its .fai is of another file: a lies elsewhere"),
            (b"a\t160\t3\t50\t51\nb\t80\t169\t60\t61\n", "its .fai is of another file: a has other lines"),
        ],
    )
    def test_an_index_that_does_not_fit(self, path: Path, folder: Path, index: bytes, fault: str) -> None:
        Path(f"{path}.fai").write_bytes(index)
        sequences = library_of(folder)
        assert faults_of(sequences) == [f"{fault}; remove it, then run `samtools faidx`"]
        assert sequences.has(expected(b"ACGT" * 40).md5), "this server needs none"

    def test_a_name_that_stands_twice(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta([("a", b"ACGT"), ("b", b"TT"), ("a", b"GG")]))
        sequences = library_of(folder)
        assert faults_of(sequences) == ["has several sequences of the same name: a"]
        assert all(sequences.has(expected(text).md5) for text in (b"ACGT", b"TT", b"GG"))

    @pytest.mark.parametrize(
        ("name", "content", "fault"),
        [
            ("b.fa", b"not FASTA", "this is not a FASTA file: it does not start with '>'"),
            (
                "b.fa.gz",
                gzip.compress(b">a\nACGT\n", mtime=0),
                "is compressed, but not with bgzip, or it is damaged",
            ),
            ("b.fa", b"", "has no sequence"),
        ],
    )
    def test_the_rest_is_served(self, path: Path, folder: Path, name: str, content: bytes, fault: str) -> None:
        (folder / name).write_bytes(content)
        sequences = library_of(folder)
        (told,) = faults_of(sequences)
        assert told.endswith(fault)
        assert sequences.has(expected(b"ACGT" * 40).md5)
        with pytest.raises(NotFound):
            sequences.find(expected(b"not FASTA").md5)

    def test_a_name_that_only_the_configuration_has(self, path: Path, folder: Path) -> None:
        sequences = library_of(folder, fastas=[{"storage": "data", "key": "a.fa", "circular": ["a", "chrM"]}])
        assert faults_of(sequences) == ["has no sequence chrM, which the configuration names"]
        assert sequences.find(expected(b"ACGT" * 40).md5).is_circular

    def test_a_name_that_no_file_of_a_prefix_has(self, path: Path, folder: Path) -> None:
        (folder / "other.fa").write_bytes(fasta({"c": b"TT"}))
        entry = {"storage": "data", "prefix": "", "circular": ["a", "chrM"], "aliases": {"c": ["x:1"], "chrX": ["x:2"]}}
        sequences = library_of(folder, fastas=[entry])
        for _ in range(2):
            assert faults_of(sequences) == ["no file has a sequence chrM, chrX, which the configuration names"]
        assert sequences.has("x:1")
        (folder / "broken.fa").write_bytes(b"x")
        (told,) = faults_of(sequences)
        assert "not a FASTA file" in told, "the names may be in it"

    def test_they_are_logged_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / "a.fa").write_bytes(b"x")
        sequences = library_of(folder)
        for _ in range(2):
            looking = sequences.begin(at_once=True)
            assert looking is not None
            looking.join()
        assert [record.message for record in caplog.records] == [
            f"{folder}/a.fa: this is not a FASTA file: it does not start with '>'"
        ]


class TestAStore:
    @pytest.fixture
    def path(self, folder: Path) -> Path:
        path = folder / "a.fa"
        path.write_bytes(fasta({"a": some_letters("a", 100_000), "b": b"ac-g*t", "c": b"", "twice": b"ACGT"}))
        return path

    def ingest(self, path: Path, store: Path) -> list[tuple[int, int]]:
        cache = path.parent.parent / "cache"
        return [(done.added, done.sequences) for done in ingest_fastas([path], store, cache, Silent)]

    def test_each_sequence_once(self, path: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        assert self.ingest(path, store) == [(3, 4)]
        content = {file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()}
        listed = content.pop("refget.tsv").decode()
        right = {expected(text) for text in (some_letters("a", 100_000), b"ACGT", b"")}
        assert content == {f"{one.md5[:2]}/{one.md5[2:4]}/{one.md5[4:]}": one.letters for one in right}
        assert sorted(listed.splitlines()) == sorted(f"{one.md5}\t{one.trunc512}\t{len(one.letters)}" for one in right)
        assert self.ingest(path, store) == [(0, 4)]
        assert (store / "refget.tsv").read_text() == listed

    def test_what_was_broken_off_goes_on(self, path: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        self.ingest(path, store)
        listed = (store / "refget.tsv").read_bytes()
        md5 = expected(b"ACGT").md5
        file = store / md5[:2] / md5[2:4] / md5[4:]
        file.write_bytes(b"AC")
        (store / "refget.tsv").write_bytes(listed[:70])
        assert self.ingest(path, store) == [(1, 4)]
        assert file.read_bytes() == b"ACGT"
        stored = read_store(LocalStorage(store), "", (store / "refget.tsv").read_bytes())
        assert sorted(row.tobytes().hex() for row in stored.md5) == sorted(
            expected(text).md5 for text in (some_letters("a", 100_000), b"ACGT", b"")
        )

    def test_a_file_appears_whole_or_not_at_all(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: Any) -> Iterator[bytes]:
            yield b"AC"
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("htsget_flask.sequences.lookup.letters", failing)
        with pytest.raises(OSError, match="No space"):
            self.ingest(path, tmp_path / "store")
        assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []

    def test_nothing_is_kept_under_a_digest_that_it_has_not(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("htsget_flask.sequences.lookup.letters", lambda *_: iter([b"AC"]))
        with pytest.raises(FileFaultError, match="was changed while it was read"):
            self.ingest(path, tmp_path / "store")
        assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []

    def test_is_taken_before_a_fasta(self, path: Path, folder: Path) -> None:
        self.ingest(path, folder / "store")
        sequences = library_of(
            folder,
            store={"storage": "data", "prefix": "store/"},
            fastas=[{"storage": "data", "key": "a.fa", "circular": ["twice"], "namespace": "lab"}],
        )
        found = sequences.find("lab:b")
        assert isinstance(found.source, Stored)
        assert found.is_circular
        assert found.aliases == ("lab:b", "lab:twice")
        assert found.digests.md5 == hashlib.md5(b"ACGT", usedforsecurity=False).digest()

    def test_one_that_was_not_filled_yet_is_no_miss(self, folder: Path) -> None:
        with pytest.raises(ServiceUnavailable):
            library_of(folder, fastas=[], store={"storage": "data"}).find(expected(b"A").md5)


class TestTheServerIsNotHeldUp:
    def test_nothing_is_looked_at_before_it_is_asked_for(self, folder: Path) -> None:
        (folder / "a.fa").write_bytes(fasta({"a": b"ACGT"}))
        threads = threading.active_count()
        library_of(folder)
        assert threading.active_count() == threads
        assert not (folder.parent / "cache").exists()

    def test_misses_do_not_look_again_and_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[None] = []

        def noted(*_: object) -> Iterator[None]:
            looks.append(None)
            return iter(())

        monkeypatch.setattr(Library, "_versions", noted)
        sequences = library_of(folder)
        for _ in range(50):
            with pytest.raises(NotFound):
                sequences.find(expected(b"A").md5)
        assert len(looks) == 1
