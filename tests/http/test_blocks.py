"""Data blocks: exactly their bytes, whole or in part."""

import json
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


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlaskClient, str, bytes]:
    """A block URL of a chunk, and its bytes."""
    folder = tmp_path_factory.mktemp("data")
    path = bam_straddling(folder).rename(folder / "sample.bam")
    make_index(path)
    client = http_for(folder, htsget={"exact": False}).client
    ticket = json.loads(client.get("/reads/sample?referenceName=chr1&start=1000&end=300000").data)
    url = ticket["htsget"]["urls"][1]["url"].removeprefix("http://localhost")
    assert url.split("/")[3].count(".") == 2
    with client.get(url) as answer:
        whole = answer.data
        assert int(answer.headers["Content-Length"]) == len(whole)
    # Most of the chunk is unchanged bytes of the file.
    assert whole[len(whole) // 3 : len(whole) // 2] in path.read_bytes()
    return client, url, whole


class TestAChunkIsOneBlock:
    """A chunk is its cut edges and the whole BGZF blocks between them; ranges span all three."""

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_in_part(self, chunk: tuple[FlaskClient, str, bytes], data: st.DataObject) -> None:
        client, url, whole = chunk
        first = data.draw(st.integers(0, len(whole) - 1))
        last = data.draw(st.integers(first, len(whole) + 10))
        with client.get(url, headers={"Range": f"bytes={first}-{last}"}) as answer:
            assert answer.status_code == 206
            assert answer.data == whole[first : last + 1]
            end = min(last, len(whole) - 1)
            assert answer.headers["Content-Range"] == f"bytes {first}-{end}/{len(whole)}"

    def test_its_end_is_where_a_bgzf_block_starts(self, chunk: tuple[FlaskClient, str, bytes]) -> None:
        client, url, _ = chunk
        before, segment, after = url.split("/")[:3], url.split("/")[3], url.split("/")[4:]
        begin, end = segment.split("-")
        for wrong in (
            f"{begin}-{int(end.split('.')[0]) + 1}.0",
            f"{int(begin.split('.')[0]) + 1}.0-{end}",
            f"{begin}-{int(begin.split('.')[0]) + 50}.0",
        ):
            assert client.get("/".join([*before, wrong, *after])).status_code == 500


class TestRangesAndPreconditions:
    @pytest.mark.parametrize("case", CASES, ids=case_id)
    @pytest.mark.parametrize("span", [(10, 1000), (0, SIZE)])
    def test_of_bytes_of_the_file(self, block: Block, span: tuple[int, int], case: Case) -> None:
        http, etag = FlaskHttp(block.client), f'"{block.etag}"'
        check_case(case, http, block.of(*span), block.content[slice(*span)], etag=etag, last_modified=None)

    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_of_a_chunk_with_cut_edges(self, chunk: tuple[FlaskClient, str, bytes], case: Case) -> None:
        client, url, whole = chunk
        etag = f'"{url.split("/")[2]}"'
        check_case(case, FlaskHttp(client), url, whole, etag=etag, last_modified=None)

    def test_of_head(self, block: Block) -> None:
        for headers in ({}, {"Range": "bytes=0-9"}):
            with block.client.head(block.of(0, 1000), headers=headers) as answer:
                assert answer.status_code == 200
                assert answer.data == b""
                assert answer.headers["Content-Length"] == "1000"
                assert answer.headers["ETag"]


class TestOnlyBlocksOfDatasetsAreServed:
    @pytest.mark.parametrize(
        "segment", ["", "x", "0-0", "5-4", "-5", "0-", "0-99999999999999999999999", "header2", "0-5,7-9", "٣-٤"]
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
