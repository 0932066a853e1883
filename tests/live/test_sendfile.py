"""Files that the kernel's sendfile cannot send: the bytes are the same."""

import os
from collections.abc import Iterator
from functools import partial
from http.client import IncompleteRead
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.live.server import Server, configured, wait_until
from tests.support.live.tools import lines, run
from tests.support.live.wire import ask, urls
from tests.support.sequences import Expected, expected, fasta, some_letters

pytestmark = pytest.mark.live

_REFUSE = """
import errno, os

def refuse(*arguments):
    raise OSError({error}, "the kernel does not send this file")

os.sendfile = refuse
"""
# Settings that select how bytes are sent; the first one, sendfile itself, checks the tests.
METHODS = {
    "sendfile": "",
    "refused by the kernel": _REFUSE.format(error="errno.ENOSYS"),
    "refused by the file system": _REFUSE.format(error="errno.EINVAL"),
    "switched off": 'settings |= {"sendfile": False}',
    "another worker, refused": _REFUSE.format(error="errno.EINVAL") + 'settings |= {"worker_class": "gthread"}',
}


class Data(NamedTuple):
    """The served data and the configuration."""

    config: Path
    bam: bytes
    in_fasta: Expected
    in_store: Expected


@pytest.fixture(scope="module")
def data(big_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A large BAM file, a FASTA file and a store of sequences."""
    top = tmp_path_factory.mktemp("data")
    folder = top / "served"
    folder.mkdir()
    os.link(big_folder / "big.bam", folder / "big.bam")
    os.link(big_folder / "big.bam.bai", folder / "big.bam.bai")
    in_fasta, in_store = some_letters("fasta", 600_000), some_letters("store", 600_000)
    (folder / "one.fa").write_bytes(fasta({"one": in_fasta}))
    (folder / "other").mkdir()
    (folder / "other" / "other.fa").write_bytes(fasta({"other": in_store}))
    run("htsget-flask", "refget", "ingest", folder / "other" / "other.fa", folder / "store", cwd=folder)
    (top / "config.yaml").write_text(
        f"storages: {{here: {{type: local, root: {folder}}}, store: {{type: local, root: {folder / 'store'}}}}}\n"
        "datasets: [{prefix: '', storage: here}]\n"
        "files: {storages: [here]}\n"
        "refget: {fastas: [{storage: here, key: one.fa}], store: {storage: store}}\n"
        "htsget: {inline_limit: 0}\n",
        encoding="utf-8",
    )
    bam = (folder / "big.bam").read_bytes()
    return Data(top / "config.yaml", bam, expected(in_fasta), expected(in_store))


@pytest.fixture(scope="module", params=METHODS)
def server(request: pytest.FixtureRequest, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that sends files by one of the methods."""
    with configured(METHODS[request.param], data.config, folder=tmp_path_factory.mktemp("server")) as server:
        yield server


def assert_ranges(server: Server, target: str, whole: bytes) -> None:
    """Check a whole resource and ranges of it: from the start, from the middle, of more and of less than 64 KiB."""
    for first, last in ((0, 99_999), (1, 70_000), (100_000, 350_001), (5, 9), (len(whole) - 90_000, len(whole) - 1)):
        answer = ask(server, "GET", target, Range=f"bytes={first}-{last}")
        assert answer.status == 206
        is_equal = answer.body == whole[first : last + 1]
        assert is_equal, (target, first, last, len(answer.body))
    answer = ask(server, "GET", target)
    assert answer.status == 200
    is_equal = answer.body == whole
    assert is_equal, (target, len(answer.body))


def assert_blocks(server: Server, target: str) -> bytes:
    """The bytes of a ticket's URLs; ranges of the larger ones are checked too."""
    blocks = []
    for url in urls(ask(server, "GET", target)):
        blocks.append(ask(server, "GET", url).body)
        if len(blocks[-1]) > 400_000:
            assert_ranges(server, url, blocks[-1])
    assert len(blocks) > 1
    assert max(map(len, blocks)) > 400_000
    return b"".join(blocks)


class TestTheBytesAreTheSame:
    def test_of_files(self, server: Server, data: Data) -> None:
        assert_ranges(server, "/files/here/big.bam", data.bam)

    def test_of_blocks(self, server: Server, data: Data) -> None:
        is_equal = assert_blocks(server, "/reads/big") == data.bam
        assert is_equal

    def test_of_cut_edges(self, server: Server, data: Data, tmp_path: Path) -> None:
        part = assert_blocks(server, "/reads/big?referenceName=chr1&start=20000000&end=60000000")
        assert len(part) < len(data.bam)
        views = []
        for name, content in (("part.bam", part), ("whole.bam", data.bam)):
            (tmp_path / name).write_bytes(content)
            run("samtools", "index", name, cwd=tmp_path)
            views.append(lines("samtools", "view", name, "chr1:20000001-60000000", cwd=tmp_path))
        are_equal = views[0] == views[1] != []
        assert are_equal

    @staticmethod
    def is_served(server: Server, target: str) -> bool:
        """Whether a sequence is already indexed."""
        return ask(server, "HEAD", target).status == 200

    def test_of_sequences(self, server: Server, data: Data) -> None:
        for sequence in (data.in_fasta, data.in_store):
            target = f"/sequence/{sequence.md5}"
            assert wait_until(partial(self.is_served, server, target))
            assert_ranges(server, target, sequence.letters)
            answer = ask(server, "GET", f"{target}?start=100000&end=500000")
            is_equal = answer.body == sequence.letters[100_000:500_000]
            assert is_equal


# The client receives the headers and disconnects before the kernel begins to send.
DISCONNECT = """
import errno, os, socket

def leave(connection, *arguments):
    with socket.socket(fileno=os.dup(connection)) as client:
        client.shutdown(socket.SHUT_RDWR)
    raise BrokenPipeError(errno.EPIPE, 'the client has disconnected')

os.sendfile = leave
"""


class TestAClientThatDisconnects:
    @pytest.mark.parametrize("worker", ["", 'settings |= {"worker_class": "gthread"}'], ids=["own", "gthread"])
    def test_leaves_nothing_in_the_log(self, data: Data, tmp_path: Path, worker: str) -> None:
        with configured(DISCONNECT + worker, data.config, folder=tmp_path) as server:
            for first in range(3):
                with pytest.raises((IncompleteRead, ConnectionError)):
                    ask(server, "GET", "/files/here/big.bam", Range=f"bytes={first}-999999")
            assert server.is_healthy()
            assert server.log() == ""
