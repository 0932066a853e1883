import io
import random
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.ranges import ByteRange
from htsget_flask.storage.remote_file import EDGE, RemoteFile

CONTENT = random.Random(4).randbytes(5 * EDGE)


class Fetches:
    """Serves ranges of the content, and records them."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.spans: list[ByteRange] = []

    def __call__(self, span: ByteRange) -> Iterator[bytes]:
        self.spans.append(span)
        assert span.end <= len(self.content)
        middle = (span.start + span.end) // 2
        yield self.content[span.start : middle]
        yield self.content[middle : span.end]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def offsets() -> st.SearchStrategy[int]:
    return st.integers(0, len(CONTENT) + 10)


class TestReadsAsAnyFile:
    @given(st.lists(st.tuples(st.sampled_from(["seek", "end", "read", "prefetch"]), offsets(), offsets()), max_size=20))
    def test_after_any_operations(self, executor: Executor, steps: list[tuple[str, int, int]]) -> None:
        model = io.BytesIO(CONTENT)
        with RemoteFile(len(CONTENT), Fetches(), executor) as file:
            for operation, first, second in steps:
                match operation:
                    case "seek":
                        assert file.seek(first) == model.seek(first)
                    case "end":
                        back = -min(first, len(CONTENT))
                        assert file.seek(back, io.SEEK_END) == model.seek(back, io.SEEK_END)
                    case "read":
                        assert file.read(first) == model.read(first)
                    case "prefetch":
                        inside = min(first, len(CONTENT) - 1)
                        file.prefetch([ByteRange(inside, inside + second), ByteRange(0, 10)])
                assert file.tell() == model.tell()
            assert file.readall() == model.read()

    def test_of_no_bytes(self, executor: Executor) -> None:
        fetched = Fetches(b"")
        with RemoteFile(0, fetched, executor) as file:
            assert file.read(5) == file.read() == b""
        assert not fetched.spans

    def test_into_a_buffer(self, executor: Executor) -> None:
        with io.BufferedReader(RemoteFile(len(CONTENT), Fetches(), executor)) as file:
            assert file.read(1000) == CONTENT[:1000]

    def test_not_when_it_is_closed(self, executor: Executor) -> None:
        file = RemoteFile(len(CONTENT), Fetches(), executor)
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read(1)


class TestMakesFewRequests:
    def test_one_request_for_a_whole_file(self, executor: Executor) -> None:
        fetched = Fetches()
        with RemoteFile(len(CONTENT), fetched, executor) as file:
            assert file.read() == CONTENT
        assert fetched.spans == [ByteRange(0, len(CONTENT))]

    def test_longer_and_longer_ranges_for_sequential_reads(self, executor: Executor) -> None:
        fetched = Fetches()
        with RemoteFile(len(CONTENT), fetched, executor) as file:
            while file.read(1000):
                pass
        assert fetched.spans == [ByteRange(0, EDGE), ByteRange(EDGE, len(CONTENT))]

    def test_one_request_for_the_end(self, executor: Executor) -> None:
        fetched = Fetches()
        with RemoteFile(len(CONTENT), fetched, executor) as file:
            for back in (28, 56, EDGE):
                file.seek(-back, io.SEEK_END)
                assert file.read(28) == CONTENT[len(CONTENT) - back :][:28]
        assert fetched.spans == [ByteRange(len(CONTENT) - EDGE, len(CONTENT))]

    def test_none_for_what_was_prefetched(self, executor: Executor) -> None:
        fetched = Fetches()
        with RemoteFile(len(CONTENT), fetched, executor) as file:
            file.prefetch([ByteRange(start, start + 100) for start in (5, 1000, 2000)])
            for start in (5, 1000, 2000):
                file.seek(start)
                assert file.read(100) == CONTENT[start : start + 100]
        assert len(fetched.spans) == 3

    def test_one_for_adjacent_ranges(self, executor: Executor) -> None:
        fetched = Fetches()
        with RemoteFile(len(CONTENT), fetched, executor) as file:
            assert file.read(10) == CONTENT[:10]
            file.prefetch([ByteRange(start, start + EDGE) for start in (EDGE - 5, EDGE + 5, 2 * EDGE, 4 * EDGE)])
            for start in (EDGE + 5, 2 * EDGE, 4 * EDGE):
                file.seek(start)
                assert file.read(100) == CONTENT[start : start + 100]
        assert sorted(fetched.spans) == [
            ByteRange(0, EDGE),
            ByteRange(EDGE + 5, 3 * EDGE),
            ByteRange(4 * EDGE, 5 * EDGE),
        ]

    def test_a_failure_is_raised_by_the_read(self, executor: Executor) -> None:
        def fail(span: ByteRange) -> Iterator[bytes]:
            raise ConnectionError("gone")

        with RemoteFile(100, fail, executor) as file:
            file.prefetch([ByteRange(0, 10)])
            with pytest.raises(ConnectionError):
                file.read(10)
