"""Bad data: the answer names the dataset and the log the file; no fault looks like an absent or complete dataset."""

import errno
import gzip
import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from htsget_flask.formats.cram.container import read_cram_header
from tests.support.app import http_for
from tests.support.client import FlaskHttp, bgzf_blocks, fetch, fetch_ticket, join, records, truth
from tests.support.files import FORMATS, GOOD, NOT_BGZF, ODD, WITHOUT_INDEX
from tests.support.files.bam import SOME_REFERENCES, bam_straddling
from tests.support.files.bgzf import bgzf_block
from tests.support.files.broken import empty_index, truncated_index
from tests.support.files.cram import CRAM_EOF, cram_3_0
from tests.support.files.indexes import index_of, make_index

ENDPOINTS = {"BAM": "reads", "CRAM": "reads", "VCF": "variants", "BCF": "variants"}
SUFFIXES = {"BAM": ".bam", "CRAM": ".cram", "VCF": ".vcf.gz", "BCF": ".bcf"}
REGION: dict[str, Any] = {"referenceName": "chr1", "start": 1000, "end": 300_000}
PLAIN = {"BAM": "bam_normal", "CRAM": "cram_3_0", "VCF": "vcf_normal", "BCF": "bcf_normal"}


class Served:
    """A folder with one file, served."""

    def __init__(self, folder: Path, format_name: str) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.format = format_name
        self.file = self.folder / f"sample{SUFFIXES[format_name]}"
        self.path = f"/{ENDPOINTS[format_name]}/sample"

    @property
    def index(self) -> Path:
        path = index_of(self.file)
        assert path is not None
        return path

    @property
    def http(self) -> FlaskHttp:
        return http_for(self.folder)

    def fault(self, caplog: pytest.LogCaptureFixture, query: str = "", *, url: str | None = None) -> str:
        """The message of a 500 answer, by default to a ticket's request; it names no path, but the log does."""
        answer = self.http.get(url or f"{self.path}?format={self.format}{query}")
        assert answer.status == 500, answer.body[:300]
        content = json.loads(answer.body)["htsget"]
        assert content["error"] == "InternalServerError"
        assert "'sample'" in content["message"]
        assert str(self.folder) not in content["message"]
        assert str(self.folder / "sample") in caplog.text
        assert "Traceback" not in caplog.text
        return str(content["message"])


@pytest.fixture(params=sorted(PLAIN))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    """A sound file of each format."""
    sources = tmp_path / "made"
    sources.mkdir()
    source = GOOD[PLAIN[request.param]](sources)
    index = index_of(source)
    assert index is not None
    served = Served(tmp_path, request.param)
    shutil.copy2(source, served.file)
    shutil.copy2(index, str(served.file) + index.suffix)
    return served


def first_half(served: Served) -> bytes:
    """The first half of a file's blocks or containers, as a file."""
    content = served.file.read_bytes()
    if served.format == "CRAM":
        entries = gzip.decompress(served.index.read_bytes()).splitlines()
        offsets = sorted({int(entry.split(b"\t")[3]) for entry in entries})
        return content[: offsets[len(offsets) // 2]] + content[-38:]
    blocks = bgzf_blocks(content)
    *leading, last = blocks[: len(blocks) // 2]
    if served.format == "BCF":
        # Its records straddle blocks.
        data = gzip.decompress(b"".join([*leading, last]))
        end = 9 + int.from_bytes(data[5:9], "little")
        while end + 8 <= len(data) and (size := 8 + sum(struct.unpack_from("<2I", data, end))) <= len(data) - end:
            end += size
        last = bgzf_block(gzip.decompress(last)[: end - len(data) or None])
    return b"".join([*leading, last, blocks[-1]])


def query(region: dict[str, object]) -> str:
    return "".join(f"&{name}={value}" for name, value in region.items())


class TestABadIndexIsAFault:
    def test_a_missing_index(self, served: Served, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        served.index.unlink()
        assert "has no index" in served.fault(caplog, query(REGION))
        body = fetch(served.http, served.path, format=served.format)
        assert records(body, served.format, tmp_path) == truth(served.file, served.format, None)

    def test_an_index_older_than_its_data(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        modified = served.file.stat().st_mtime
        os.utime(served.index, (modified - 60, modified - 60))
        assert "older than its data" in served.fault(caplog, query(REGION))

    def test_the_other_index_is_used_if_it_is_recent(self, served: Served) -> None:
        expected = fetch(served.http, served.path, format=served.format, **REGION)
        index = served.index
        other = index.with_name("sample" + index.suffix)
        if served.format == "VCF":
            other = index.with_name("sample.vcf" + index.suffix)
        shutil.copy2(index, other)
        modified = served.file.stat().st_mtime
        os.utime(index, (modified - 60, modified - 60))
        assert fetch(served.http, served.path, format=served.format, **REGION) == expected

    @pytest.mark.parametrize("damage", [truncated_index, empty_index], ids=["truncated", "empty"])
    def test_a_damaged_index(
        self, served: Served, caplog: pytest.LogCaptureFixture, tmp_path: Path, damage: Callable[[Path, Path], Path]
    ) -> None:
        copy = tmp_path / "copy" / served.file.name
        copy.parent.mkdir()
        damage(served.file, copy)
        served.index.write_bytes((index_of(copy) or copy).read_bytes())
        assert "index" in served.fault(caplog, query(REGION))

    def test_other_content(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        served.index.write_bytes(b"not an index\n" * 100)
        assert "index" in served.fault(caplog, query(REGION))

    def test_of_no_records_where_an_end_marker_precedes_them(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        served = Served(tmp_path, "CRAM")
        content = cram_3_0(tmp_path).read_bytes()
        header_end = read_cram_header(BytesIO(content)).end
        served.file.write_bytes(content[:header_end] + CRAM_EOF[3] + content[header_end:])
        Path(f"{served.file}.crai").write_bytes(gzip.compress(b""))
        assert "holds none of its records" in served.fault(caplog, query(REGION))
        assert str(served.index) in caplog.text

    @pytest.mark.parametrize("other", sorted(GOOD))
    def test_the_index_of_another_file(self, other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Never other records with status 200: a fault, or exactly the right records where the indexes are alike."""
        format_name = FORMATS[other]
        sources = tmp_path / "made"
        sources.mkdir()
        path = GOOD[PLAIN[format_name]](sources)
        foreign = GOOD[other](sources)
        if foreign == path or index_of(foreign) is None:
            return
        served = Served(tmp_path, format_name)
        shutil.copy2(path, served.file)
        index = index_of(foreign)
        assert index is not None
        target = Path(str(served.file) + index.suffix)
        target.write_bytes(index.read_bytes())
        same = target.read_bytes() == (index_of(path) or path).read_bytes()
        for reference in SOME_REFERENCES:
            region = {"referenceName": reference.name, "start": 1000, "end": 100_000}
            answer = served.http.get(f"{served.path}?format={format_name}{query(region)}")
            if answer.status == 200:
                ticket = json.loads(answer.body)
                try:
                    body = join(served.http, ticket)
                except AssertionError:
                    continue
                delivered = records(body, format_name, tmp_path)
                expected = truth(path, format_name, [(reference.name, 1000, 100_000)])
                # CRAM is delivered in whole containers.
                assert same or delivered == expected or (format_name == "CRAM" and set(expected) <= set(delivered))
            else:
                assert answer.status in (500, 404)

    def test_an_index_without_the_last_records(
        self, served: Served, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        """As if data had been appended after the file was indexed."""
        copy = tmp_path / served.file.name
        copy.write_bytes(first_half(served))
        index = make_index(copy)
        served.index.write_bytes(index.read_bytes())
        for name in ("chr1", "chr2", "chrM"):
            assert "index" in served.fault(caplog, f"&referenceName={name}")

    @pytest.mark.parametrize("maker", sorted(WITHOUT_INDEX))
    def test_a_file_without_one_is_served_whole(self, maker: str, tmp_path: Path) -> None:
        served = Served(tmp_path, FORMATS[maker])
        WITHOUT_INDEX[maker](served.folder).rename(served.file)
        expected = truth(served.file, served.format, None)
        for format_name in (served.format, None):
            ticket = fetch_ticket(served.http, served.path, format=format_name)
            assert records(join(served.http, ticket), ticket["htsget"]["format"], tmp_path) == expected
        for more in (f"&format={served.format}", ""):
            assert served.http.get(f"{served.path}?{query(REGION)}{more}").status == 500


class TestBadDataIsAFault:
    def test_truncated(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        content = served.file.read_bytes()
        for length in (len(content) - 5, len(content) - 100, len(content) * 2 // 3, len(content) // 3):
            stat = served.file.stat()
            served.file.write_bytes(content[:length])
            os.utime(served.file, (stat.st_mtime, stat.st_mtime))
            assert "truncated" in served.fault(caplog)
            if length < len(content) - 100:
                assert "truncated" in served.fault(caplog, query(REGION))

    def test_truncated_within_the_header(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        content = served.file.read_bytes()
        for length in (10, 20, 40, 60):
            served.file.write_bytes(content[:length])
            served.fault(caplog)
            served.fault(caplog, "&class=header")

    def test_empty(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        served.file.write_bytes(b"")
        assert "is empty" in served.fault(caplog)

    def test_of_another_format(self, served: Served, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        other = "BCF" if served.format != "BCF" else "BAM"
        folder = tmp_path / "other"
        folder.mkdir()
        served.file.write_bytes(GOOD[PLAIN[other]](folder).read_bytes())
        assert served.format in served.fault(caplog)

    def test_noise(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        served.file.write_bytes(bytes(range(256)) * 400)
        served.fault(caplog)
        served.fault(caplog, "&class=header")

    @pytest.mark.parametrize("maker", sorted(NOT_BGZF))
    def test_without_bgzf(self, maker: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        served = Served(tmp_path, "VCF")
        source = NOT_BGZF[maker](served.folder)
        index = index_of(source)
        source.rename(served.file)
        if index is not None:
            index.rename(str(served.file) + index.suffix)
        for parameters in ("", "&class=header", query(REGION)):
            assert "BGZF" in served.fault(caplog, parameters)

    def test_a_damaged_last_container_is_not_the_fault_of_the_index(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        served = Served(tmp_path, "CRAM")
        path = cram_3_0(tmp_path)
        content = bytearray(path.read_bytes())
        entries = gzip.decompress(Path(f"{path}.crai").read_bytes()).splitlines()
        content[max(int(entry.split(b"\t")[3]) for entry in entries) + 6] ^= 1
        served.file.write_bytes(content)
        shutil.copyfile(f"{path}.crai", f"{served.file}.crai")
        assert "no CRAM container" in served.fault(caplog, query(REGION))
        assert str(served.file) in caplog.text
        assert ".crai" not in caplog.text

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Served:
        """A BAM file whose blocks are damaged after the header."""
        served = Served(tmp_path, "BAM")
        source = bam_straddling(served.folder)
        index = index_of(source)
        assert index is not None
        source.rename(served.file)
        index.rename(str(served.file) + ".bai")
        blocks = [bytearray(block) for block in bgzf_blocks(served.file.read_bytes())]
        for block in blocks[1:-1]:
            block[len(block) // 2] ^= 0xFF
        served.file.write_bytes(b"".join(blocks))
        os.utime(str(served.file) + ".bai")
        return served

    @pytest.mark.parametrize("more", [{"exact": False}, {"inline_limit": 0}])
    def test_a_damaged_block_is_reported_when_it_is_cut(
        self, damaged: Served, caplog: pytest.LogCaptureFixture, more: dict[str, Any]
    ) -> None:
        http = http_for(damaged.folder, htsget=more)
        url = fetch_ticket(http, damaged.path, **REGION)["htsget"]["urls"][1]["url"]
        assert "damaged" in damaged.fault(caplog, url=url)

    @pytest.mark.parametrize("region", [REGION, {**REGION, "start": 540_000, "end": 540_001}])
    def test_a_damaged_block_is_reported_before_it_is_inline(
        self, damaged: Served, caplog: pytest.LogCaptureFixture, region: dict[str, Any]
    ) -> None:
        """A block that is short enough for a data: URL is cut before the ticket is complete."""
        assert "damaged" in damaged.fault(caplog, query(region))


def fail_for(monkeypatch: pytest.MonkeyPatch, call: str, denied: Path, error: OSError) -> None:
    """Let a call of the operating system fail for one file."""
    original = getattr(os, call)

    def fail(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path) == str(denied):
            raise error
        return original(path, *arguments, **options)

    monkeypatch.setattr(f"htsget_flask.storage.local.os.{call}", fail)


class TestAFailureIsNotNotFound:
    @pytest.mark.parametrize("call", ["lstat", "open"])
    @pytest.mark.parametrize("what", ["data", "index"])
    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
    def test_an_unreadable_file(
        self,
        served: Served,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        call: str,
        what: str,
        code: int,
    ) -> None:
        """Root is denied nothing: the operating system's answer is simulated."""
        denied = served.file if what == "data" else served.index
        http = http_for(served.folder, htsget={"inline_limit": 0})
        urls = [entry["url"] for entry in fetch_ticket(http, served.path, format=served.format)["htsget"]["urls"]]
        block = next(url for url in urls if "-" in url.partition("/blocks/")[2].split("/")[1])
        fail_for(monkeypatch, call, denied, OSError(code, os.strerror(code)))
        message = served.fault(caplog, query(REGION))
        assert message.endswith(f"cannot be read: {os.strerror(code)}")
        assert ("index" in message) == (what == "index")
        assert f"{denied}: " in caplog.text
        if what == "data":
            assert "cannot be read" in served.fault(caplog, url=block)

    def test_an_unreadable_file_is_not_another_dataset(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        fail_for(monkeypatch, "lstat", served.file, PermissionError(errno.EACCES, "Permission denied"))
        other = "variants" if ENDPOINTS[served.format] == "reads" else "reads"
        answer = served.http.get(f"/{other}/sample")
        assert answer.status == 404 and f"it is at /{ENDPOINTS[served.format]}".encode() in answer.body

    def test_a_configured_file_that_does_not_exist(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        served = Served(tmp_path, "BAM")
        dataset = {"id": "sample", "reads": {"BAM": {"storage": "data", "key": "sample.bam"}}}
        http = http_for(served.folder, datasets=[dataset])
        answer = http.get("/reads/sample")
        assert answer.status == 500
        assert b"does not exist" in answer.body
        assert str(served.file) in caplog.text

    def test_a_cache_folder_that_cannot_be_written(self, served: Served, tmp_path: Path) -> None:
        expected = fetch(served.http, served.path, format=served.format, **REGION)
        (tmp_path / "file").write_text("in the way")
        http = http_for(served.folder, cache={"folder": str(tmp_path / "file" / "cache"), "max_bytes": 0})
        for _ in range(2):
            assert fetch(http, served.path, format=served.format, **REGION) == expected


class TestACacheFolder:
    """A cache folder is trusted only if no other user can have written it."""

    def answers(self, served: Served, folder: Path, *, expected: bytes) -> bool:
        http = http_for(served.folder, cache={"folder": str(folder), "max_bytes": 0})
        return fetch(http, served.path, format=served.format, **REGION) == expected

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user, as only root may")
    def test_of_another_user_is_not_used(
        self, served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = fetch(served.http, served.path, format=served.format, **REGION)
        cache = tmp_path / "cache"
        cache.mkdir(mode=0o700)
        os.chown(cache, 65_534, 65_534)
        for _ in range(2):
            assert self.answers(served, cache, expected=expected)
        assert list(cache.iterdir()) == []
        assert [record.getMessage() for record in caplog.records] == 2 * [
            f"indexes and digests are kept in memory alone: the cache folder {cache} belongs to another user (65534)"
        ]

    @pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
    def test_that_others_may_write_is_not_used(
        self, served: Served, tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = fetch(served.http, served.path, format=served.format, **REGION)
        cache = tmp_path / "cache"
        assert self.answers(served, cache, expected=expected)
        assert list(cache.iterdir()) != []
        # The file that another user puts there: an index without chunks.
        for path in cache.iterdir():
            path.unlink()
        cache.chmod(mode)
        assert self.answers(served, cache, expected=expected)
        assert list(cache.iterdir()) == []
        assert f"the cache folder {cache} may be written by other users" in caplog.text

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, as only root may")
    def test_with_a_file_of_another_user_in_it(self, served: Served, tmp_path: Path) -> None:
        expected = fetch(served.http, served.path, format=served.format, **REGION)
        cache = tmp_path / "cache"
        assert self.answers(served, cache, expected=expected)
        # The index, and the directory of blocks where the format has one.
        cached_files = list(cache.iterdir())
        assert cached_files
        for cached_file in cached_files:
            os.chown(cached_file, 65_534, 65_534)
        assert self.answers(served, cache, expected=expected)
        assert {cached_file.stat().st_uid for cached_file in cached_files} == {os.geteuid()}


class TestAReplacedFileIsNeverMixed:
    def test_its_data_blocks_are_gone(self, served: Served) -> None:
        http = http_for(served.folder, htsget={"never_inline": True})
        ticket = fetch_ticket(http, served.path, format=served.format, **REGION)
        join(http, ticket)
        os.utime(served.file, (1_000_000_000, 1_000_000_000))
        for entry in ticket["htsget"]["urls"]:
            answer = http.get(entry["url"])
            assert answer.status == 410
            assert json.loads(answer.body)["htsget"]["error"] == "Gone"
        os.utime(served.index, (1_000_000_001, 1_000_000_001))
        fetch(http, served.path, format=served.format, **REGION)

    def test_tickets_follow_the_new_file_within_a_second(self, served: Served, tmp_path: Path) -> None:
        http = served.http
        fetch(http, served.path, format=served.format, **REGION)
        sources = tmp_path / "new"
        sources.mkdir()
        other = {"BAM": "bam_straddling", "CRAM": "cram_multi_slice", "VCF": "vcf_tiny_blocks", "BCF": "bcf_straddling"}
        source = GOOD[other[served.format]](sources)
        index = index_of(source)
        assert index is not None
        served.index.unlink()
        os.replace(source, served.file)
        os.replace(index, str(served.file) + index.suffix)
        name, start, end = "chr1", 1000, 300_000
        time.sleep(1.1)
        delivered = records(fetch(http, served.path, format=served.format, **REGION), served.format, tmp_path)
        assert set(truth(served.file, served.format, [(name, start, end)])) <= set(delivered)


class TestAnEndMarkerWithinAFile:
    def test_the_file_is_delivered_unchanged(self, tmp_path: Path) -> None:
        for maker in ODD.values():
            served = Served(tmp_path, "BAM")
            source = maker(served.folder)
            ticket = fetch_ticket(served.http, f"/reads/{source.name.removesuffix('.bam')}")
            body = join(served.http, ticket, eof_inside=True)
            assert records(body, "BAM", tmp_path) == truth(source, "BAM", None)
