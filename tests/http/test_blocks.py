"""Data blocks: exactly their bytes, whole or in part."""

import json
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htsget_flask.app import create_app
from htsget_flask.config import folder_config
from tests.support.app import http_for
from tests.support.client import FlaskHttp
from tests.support.files.bam import bam_normal, bam_straddling
from tests.support.files.bgzf import BGZF_EOF
from tests.support.files.indexes import make_index
from tests.support.range_cases import CASES, Case, case_id, check_case

SIZE = 200_000


class Block:
    def __init__(self, client: FlaskClient, path: Path) -> None:
        self.client = client
        self.content = path.read_bytes()
        ticket = json.loads(client.get("/reads/sample").data)
        url = next(url["url"] for url in ticket["htsget"]["urls"] if not url["url"].startswith("data:"))
        self.url = url.removeprefix("http://localhost")
        _, _, self.etag, _, *_ = self.url.split("/")

    def of(self, start: int, end: int) -> str:
        return f"/blocks/{self.etag}/{start}-{end}/reads/BAM/sample"


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    folder = tmp_path_factory.mktemp("data")
    path = bam_normal(folder)
    path = path.rename(folder / "sample.bam")
    assert path.stat().st_size > SIZE
    return Block(create_app(folder_config(folder)).test_client(), path)


class TestABlockIsExactlyItsBytes:
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, SIZE - 1), st.one_of(st.integers(1, SIZE), st.integers(1, 10)))
    def test_whole(self, block: Block, start: int, length: int) -> None:
        end = min(SIZE, start + length)
        with block.client.get(block.of(start, end)) as answer:
            assert answer.status_code == 200
            assert answer.data == block.content[start:end]
            assert int(answer.headers["Content-Length"]) == end - start
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["Content-Type"] == "application/octet-stream"
            # A browser must not run the content of a file as a script.
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Content-Encoding" not in answer.headers

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 100_000), st.integers(1, 100_000), st.data())
    def test_in_part(self, block: Block, start: int, length: int, data: st.DataObject) -> None:
        content = block.content[start : start + length]
        first = data.draw(st.integers(0, length + 10))
        last = data.draw(st.one_of(st.none(), st.integers(first, length + 20)))
        range_ = f"bytes={first}-" if last is None else f"bytes={first}-{last}"
        self.check_part(block, start, length, range_, content[first : None if last is None else last + 1], first)

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 100_000), st.integers(1, 100_000), st.integers(1, 120_000))
    def test_its_end(self, block: Block, start: int, length: int, suffix: int) -> None:
        content = block.content[start : start + length]
        self.check_part(block, start, length, f"bytes=-{suffix}", content[-suffix:], max(0, length - suffix))

    def check_part(self, block: Block, start: int, length: int, range_: str, expected: bytes, first: int) -> None:
        with block.client.get(block.of(start, start + length), headers={"Range": range_}) as answer:
            if first >= length:
                assert answer.status_code == 416
                assert answer.headers["Content-Range"] == f"bytes */{length}"
            else:
                assert answer.status_code == 206
                assert answer.data == expected
                assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{length}"
                assert int(answer.headers["Content-Length"]) == len(expected)

    def test_nothing_follows_its_end(self, block: Block) -> None:
        size = len(block.content)
        assert block.client.get(block.of(size - 5, size + 1)).status_code == 404
        with block.client.get(block.of(size - 5, size)) as answer:
            assert answer.data == block.content[-5:]


class CutBlock:
    """A data block with cut edges: its URL and bytes."""

    def __init__(self, folder: Path, *, exact: bool) -> None:
        path = bam_straddling(folder).rename(folder / "sample.bam")
        make_index(path)
        self.client = http_for(folder, htsget={"exact": exact}).client
        query = "referenceName=chr1&start=1000&end=2900000&inline=false"
        ticket = json.loads(self.client.get(f"/reads/sample?{query}").data)
        self.url = ticket["htsget"]["urls"][1]["url"].removeprefix("http://localhost")
        self.segment = self.url.split("/")[3]
        with self.client.get(self.url) as answer:
            self.content = answer.data
            self.etag = answer.headers["ETag"]
            assert int(answer.headers["Content-Length"]) == len(self.content)
        # Most of the block is unchanged bytes of the file.
        assert self.content[len(self.content) // 3 : len(self.content) // 2] in path.read_bytes()


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> CutBlock:
    """A chunk."""
    block = CutBlock(tmp_path_factory.mktemp("data"), exact=False)
    assert block.segment.count(".") == 2
    return block


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> CutBlock:
    """The records of a region."""
    block = CutBlock(tmp_path_factory.mktemp("data"), exact=True)
    assert block.segment == "records-0.1000-2900000.0"
    return block


class TestAChunkIsOneBlock:
    """A chunk, or an exact region, is its cut edges and the whole BGZF blocks between them; ranges span all three."""

    @pytest.mark.parametrize("name", ["chunk", "records"])
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_in_part(self, name: str, request: pytest.FixtureRequest, data: st.DataObject) -> None:
        block: CutBlock = request.getfixturevalue(name)
        size = len(block.content)
        first = data.draw(st.integers(0, size - 1))
        last = data.draw(st.integers(first, size + 10))
        with block.client.get(block.url, headers={"Range": f"bytes={first}-{last}"}) as answer:
            assert answer.status_code == 206
            assert answer.data == block.content[first : last + 1]
            assert answer.headers["Content-Range"] == f"bytes {first}-{min(last, size - 1)}/{size}"

    def test_its_end_is_where_a_bgzf_block_starts(self, chunk: CutBlock) -> None:
        begin, end = chunk.segment.split("-")
        for wrong in (
            f"{begin}-{int(end.split('.')[0]) + 1}.0",
            f"{int(begin.split('.')[0]) + 1}.0-{end}",
            f"{begin}-{int(begin.split('.')[0]) + 50}.0",
        ):
            assert chunk.client.get(chunk.url.replace(chunk.segment, wrong)).status_code == 500

    def test_its_etag_depends_on_what_compresses_it(self, chunk: CutBlock, records: CutBlock) -> None:
        for block in (chunk, records):
            version = block.url.split("/")[2]
            assert re.fullmatch(f'"{version}-[0-9a-f]{{8}}"', block.etag)


class TestRangesAndPreconditions:
    @pytest.mark.parametrize("case", CASES, ids=case_id)
    @pytest.mark.parametrize("span", [(10, 1000), (0, SIZE)])
    def test_of_bytes_of_the_file(self, block: Block, span: tuple[int, int], case: Case) -> None:
        http, etag = FlaskHttp(block.client), f'"{block.etag}"'
        check_case(case, http, block.of(*span), block.content[slice(*span)], etag=etag, last_modified=None)

    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_of_a_block_with_cut_edges(self, chunk: CutBlock, records: CutBlock, case: Case) -> None:
        for block in (chunk, records):
            http, etag = FlaskHttp(block.client), block.etag
            check_case(case, http, block.url, block.content, etag=etag, last_modified=None)

    def test_of_head(self, block: Block) -> None:
        for headers in ({}, {"Range": "bytes=0-9"}):
            with block.client.head(block.of(0, 1000), headers=headers) as answer:
                assert answer.status_code == 200
                assert answer.data == b""
                assert answer.headers["Content-Length"] == "1000"
                assert answer.headers["ETag"]


class TestOnlyBlocksOfDatasetsAreServed:
    @pytest.mark.parametrize(
        "segment",
        [
            *("", "x", "0-0", "5-4", "-5", "0-", "0-99999999999999999999999", "header2", "0-5,7-9", "٣-٤"),
            *("records", "records~0.0-5.0", "records~0-5", "records~f3f", "records-0.5-9.0~0-5", "records-u.0-.0"),
            *("records-99.5-9.0", "records-0.5-9.0~BCF", "records-0.5-9.0~BAM", "header~VCF", "eof~BAM"),
        ],
    )
    def test_other_segments_are_not_found(self, block: Block, segment: str) -> None:
        assert block.client.get(f"/blocks/{block.etag}/{segment}/reads/BAM/sample").status_code == 404

    def test_offsets_that_no_index_has(self, block: Block) -> None:
        for segment in ("5.0-", "0.70000-", "0.5-4", "0.65535-", "99999999.0-"):
            assert block.client.get(f"/blocks/{block.etag}/{segment}/reads/BAM/sample").status_code in (404, 500)

    def test_other_files_are_not_found(self, block: Block) -> None:
        for path in ("reads/BAM/sample.bam.bai", "reads/BAI/sample", "variants/VCF/sample", "reads/VCF/sample"):
            assert block.client.get(f"/blocks/{block.etag}/0-5/{path}").status_code in (400, 404)

    def test_the_end_of_file(self, block: Block) -> None:
        with block.client.get(f"/blocks/{block.etag}/eof/reads/BAM/sample") as answer:
            assert answer.data == BGZF_EOF
        with block.client.get(f"/blocks/{block.etag}/eof/reads/BAM/sample", headers={"Range": "bytes=-4"}) as answer:
            assert answer.data == BGZF_EOF[-4:]
            assert answer.status_code == 206


class TestFilesAreClosed:
    def test_after_every_answer(self, block: Block) -> None:
        import os

        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        requests: list[tuple[str, dict[str, str]]] = [
            (block.of(0, SIZE), {}),
            (block.of(0, SIZE), {"Range": "bytes=5-9"}),
            (block.of(0, SIZE), {"Range": "bytes=5-150000"}),
            (block.of(0, SIZE), {"Range": "bytes=9999999-"}),
            (block.of(0, SIZE), {"If-None-Match": "*"}),
            (block.of(0, SIZE), {"If-Match": '"x"'}),
            ("/blocks/x/0-5/reads/BAM/sample", {}),
            ("/reads/sample?referenceName=chr1&start=5&end=100000", {}),
        ]
        before = descriptors()
        for url, headers in requests * 3:
            for method in ("GET", "HEAD"):
                with block.client.open(url, method=method, headers=headers) as answer:
                    answer.get_data()
        assert descriptors() <= before + 1
