"""The process that decodes CRAM: what it can read, what ends it, and what its successor does."""

import fcntl
import gc
import io
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pysam
import pytest

from htsget_flask.errors import FormatError, ServiceUnavailable
from htsget_flask.fields import EVERYTHING
from htsget_flask.formats.cram.container import Container, eof_container, read_container, read_cram_header
from htsget_flask.formats.cram.encoding import read_block
from htsget_flask.formats.headers import Header
from htsget_flask.ranges import ByteRange
from htsget_flask.records.cram import CramSource, decode_containers
from htsget_flask.records.decoder import Decoder, Limits
from htsget_flask.records.region import RegionFilter
from tests.support import referenced
from tests.support.live.server import wait_until
from tests.support.processes import children, has_ended, is_stopped, memory, status
from tests.support.sequences import expected

pytestmark = pytest.mark.slow

VERSIONS = ("version_2_1", "version_3_0", "version_3_1")
MUTATIONS = int(os.environ.get("HTSGET_FLASK_TEST_MUTATIONS", "25"))


@dataclass
class Cram:
    """A CRAM file in memory, its header, and its records on chr1 as text."""

    content: bytes
    header: Header
    records: list[str]
    letters: bytes

    def select(self, decoder: Decoder, content: bytes | None = None) -> bytes:
        """The containers of all records on chr1 that the decoder makes, from the file or from other content."""
        eof = len(eof_container(self.content[4]))
        with tempfile.TemporaryFile(buffering=0) as target:
            decode_containers(
                CramSource(io.BytesIO(self.content if content is None else content), self.header, "x.cram"),
                [ByteRange(self.header.end, len(self.content) - eof)],
                RegionFilter(0, 0, None, 0),
                EVERYTHING,
                "CRAM",
                lambda _, start, end: iter([self.letters[start:end]]),
                lambda _: {0: (0, len(self.letters))},
                decoder,
                target,
            )
            target.seek(0)
            return target.read()

    def decodes_all(self, decoder: Decoder, folder: Path) -> bool:
        """Whether the decoder selects all records on chr1, unchanged."""
        path = folder / "answer.cram"
        path.write_bytes(self.header.raw + self.select(decoder) + eof_container(self.content[4]))
        return texts(path) == self.records


def with_length(cram: Cram, folder: Path, length: int) -> Cram:
    """The file with a header in which chr1 has this length."""
    path = folder / "header.cram"
    lengths = {**referenced.LENGTHS, "chr1": length}
    lines = [f"@SQ\tSN:{name}\tLN:{size}\tM5:{'0' * 32}\n" for name, size in lengths.items()]
    lines += ["@RG\tID:one\n", "@RG\tID:two\n"]
    options = [f"version={cram.content[4]}.{cram.content[5]}", "no_ref=1"]
    header = pysam.AlignmentHeader.from_text("".join(lines))
    pysam.AlignmentFile(str(path), "wc", header=header, format_options=options).close()
    with path.open("rb") as file:
        return replace(cram, header=replace(read_cram_header(file), end=cram.header.end))


def texts(path: Path, reference: Path | None = None) -> list[str]:
    """The records of a CRAM file on chr1."""
    with pysam.AlignmentFile(str(path), reference_filename=str(reference) if reference else None) as file:
        return [record.to_string() for record in file.fetch(until_eof=True) if record.reference_name == "chr1"]


@pytest.fixture(scope="module")
def crams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cram]:
    folder = tmp_path_factory.mktemp("crams")
    reference = referenced.write_reference(folder / "reference.fa")
    letters = expected(referenced.sequences()["chr1"]).letters
    crams_by_name = {}
    for name in (*VERSIONS, "several_in_slices"):
        path = referenced.write_cram(name, folder / f"{name}.cram", reference)
        with path.open("rb") as file:
            crams_by_name[name] = Cram(path.read_bytes(), read_cram_header(file), texts(path, reference), letters)
    return crams_by_name


@pytest.fixture
def cram(crams: dict[str, Cram]) -> Cram:
    return crams["version_3_0"]


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(1)


def process_of(decoder: Decoder, cram: Cram) -> int:
    """The process that a decoder starts for its first batch."""
    before = children()
    assert cram.select(decoder)
    (process,) = children() - before
    return process


class Selection(threading.Thread):
    """A selection in a thread; `outcome` is its result or its error."""

    outcome: bytes | Exception

    def __init__(self, cram: Cram, decoder: Decoder) -> None:
        super().__init__()
        self.cram, self.decoder, self.process = cram, decoder, next(iter(decoder._idle), None)
        self.start()

    def has_sent(self) -> bool:
        """Whether the process has not read all that its socket holds."""
        assert self.process is not None
        return fcntl.ioctl(self.process._socket, termios.TIOCOUTQ, bytes(4)) != bytes(4)

    def run(self) -> None:
        try:
            self.outcome = self.cram.select(self.decoder)
        except Exception as error:
            self.outcome = error


class TestTheProcess:
    def test_starts_with_the_first_batch_and_stays(self, cram: Cram, decoder: Decoder, tmp_path: Path) -> None:
        process = process_of(decoder, cram)
        before = children()
        assert cram.decodes_all(decoder, tmp_path)
        assert process in children() <= before

    def test_ends_with_the_decoder(self, cram: Cram) -> None:
        decoder = Decoder(1)
        process = process_of(decoder, cram)
        del decoder
        gc.collect()
        assert process not in children()
        assert not Path(f"/proc/{process}").exists()

    def test_ends_when_its_parent_is_killed(self, tmp_path: Path) -> None:
        code = (
            "import os, signal, sys\n"
            "from htsget_flask.records.decoder import Limits, _Process\n"
            "child = _Process(Limits())\n"
            "print(child._process.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        assert wait_until(lambda: has_ended(int(done.stdout)))

    @pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of a process that only root may read")
    def test_has_no_memory_file_or_variable_of_the_worker(
        self, cram: Cram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        secret = random.Random("secret").randbytes(24).hex()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        (tmp_path / "secret").write_text(secret)
        with (tmp_path / "secret").open() as file:
            os.set_inheritable(file.fileno(), True)
            assert file.read() == secret
            process = process_of(decoder := Decoder(1), cram)
        folder = Path(f"/proc/{process}")
        environment = dict(entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if entry)
        assert environment.keys() - {"LD_LIBRARY_PATH"} == {"REF_PATH", "REF_CACHE", "OPENBLAS_NUM_THREADS"}
        assert secret.encode() not in (folder / "cmdline").read_bytes()
        files = sorted(os.readlink(link).partition(":")[0] for link in (folder / "fd").iterdir())
        assert files == ["/dev/null", "/dev/null", "socket"]
        assert secret.encode() in memory()
        assert secret.encode() not in memory(process)
        del decoder

    def test_is_limited(self, cram: Cram, decoder: Decoder) -> None:
        process = process_of(decoder, cram)
        for kind, limit in {
            resource.RLIMIT_AS: Limits().memory,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: 64,
            resource.RLIMIT_FSIZE: 1 << 30,
        }.items():
            assert resource.prlimit(process, kind) == (limit, limit)
        assert Limits().processor <= resource.prlimit(process, resource.RLIMIT_CPU)[0] <= Limits().processor + 10
        assert status(process)["NoNewPrivs"] == "1"


class TestTheProcessFails:
    def test_by_a_crash_in_a_batch_which_the_next_process_survives(
        self, cram: Cram, decoder: Decoder, tmp_path: Path
    ) -> None:
        process = process_of(decoder, cram)
        os.kill(process, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process))
        selection = Selection(cram, decoder)
        assert wait_until(selection.has_sent)
        os.kill(process, signal.SIGSEGV)
        os.kill(process, signal.SIGCONT)
        selection.join(60)
        assert isinstance(selection.outcome, FormatError)
        assert "SIGSEGV" in str(selection.outcome)
        assert cram.decodes_all(decoder, tmp_path)

    def test_between_batches_without_effect(self, cram: Cram, decoder: Decoder, tmp_path: Path) -> None:
        process = process_of(decoder, cram)
        os.kill(process, signal.SIGKILL)
        assert wait_until(lambda: has_ended(process))
        assert cram.decodes_all(decoder, tmp_path)

    def test_by_taking_too_long(self, cram: Cram, tmp_path: Path) -> None:
        decoder = Decoder(1, Limits(seconds=0.5))
        process = process_of(decoder, cram)
        os.kill(process, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process))
        with pytest.raises(FormatError, match="in time"):
            cram.select(decoder)
        assert process not in children()

    def test_by_using_too_much_processor_time(self, cram: Cram) -> None:
        decoder = Decoder(1)
        process = process_of(decoder, cram)
        os.kill(process, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process))
        selection = Selection(cram, decoder)
        assert wait_until(selection.has_sent)
        os.kill(process, signal.SIGXCPU)
        os.kill(process, signal.SIGCONT)
        selection.join(60)
        assert isinstance(selection.outcome, FormatError)
        assert "takes too long" in str(selection.outcome)

    def test_by_needing_too_much_memory(self, crams: dict[str, Cram], tmp_path: Path) -> None:
        """For slices with several references htslib reads every reference completely."""
        cram = crams["several_in_slices"]
        process = process_of(ample := Decoder(1), cram)
        before = int(status(process)["VmSize"].split()[0]) << 10
        del ample
        large = with_length(cram, tmp_path, 250_000_000)
        assert large.select(Decoder(1))
        with pytest.raises(FormatError, match="cannot be decoded"):
            large.select(Decoder(1, Limits(memory=before + (100 << 20))))
        assert cram.decodes_all(Decoder(1, Limits(memory=before + (100 << 20))), tmp_path)

    def test_to_start_which_is_temporary(
        self, cram: Cram, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(sys, "path", [])
        with pytest.raises(ServiceUnavailable):
            cram.select(Decoder(1))
        assert [record.getMessage() for record in caplog.records] == [
            "records cannot be decoded: the process that decodes was ended with status 1"
        ]


class TestTheProcessEndsByItself:
    @pytest.mark.parametrize(("limit", "has_job"), [("_IDLE_TIME = 0.2", False), ("_MAX_IDLE_MEMORY = 1", True)])
    def test_when_it_is_idle_or_has_much_memory(self, limit: str, has_job: bool) -> None:
        code = (
            "from htsget_flask.records import decoder_program\n"
            f"decoder_program.{limit}\n"
            "decoder_program.main(2 << 30, 60)\n"
        )
        ours, theirs = socket.socketpair()
        with ours, theirs, tempfile.TemporaryFile() as file:
            if has_job:
                socket.send_fds(ours, [b"\n"], [file.fileno()])
            done = subprocess.run([sys.executable, "-c", code], stdin=theirs.fileno(), timeout=60, check=False)
            assert (done.returncode, ours.recv(100)) == (0, b"ready\nundecoded\n" if has_job else b"ready\n")

    def test_without_effect_even_if_it_is_needed_then(self, cram: Cram, decoder: Decoder) -> None:
        process = process_of(decoder, cram)
        os.kill(process, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process))
        decoder._idle[0]._socket.shutdown(socket.SHUT_WR)
        selection = Selection(cram, decoder)
        os.kill(process, signal.SIGCONT)
        selection.join(60)
        assert selection.outcome == cram.select(decoder)
        assert process not in children()


class TestBatchesOfSeveralRequests:
    def test_wait_for_each_other(self, cram: Cram, decoder: Decoder) -> None:
        process = process_of(decoder, cram)
        before = children()
        selections = [Selection(cram, decoder) for _ in range(8)]
        for thread in selections:
            thread.join(60)
        assert process in children() <= before
        assert len({thread.outcome for thread in selections}) == 1
        assert isinstance(selections[0].outcome, bytes)

    def test_run_in_as_many_processes_as_are_allowed(self, cram: Cram) -> None:
        decoder = Decoder(2)
        before = children()
        with decoder.reserve(), decoder.reserve():
            pass
        processes = children() - before
        assert len(processes) == 2
        selections = [Selection(cram, decoder) for _ in range(6)]
        for thread in selections:
            thread.join(60)
        assert {thread.outcome for thread in selections} == {cram.select(decoder)}
        assert children() - before == processes

    def test_are_refused_after_a_while(self, cram: Cram) -> None:
        decoder = Decoder(1, Limits(wait=0.2))
        process = process_of(decoder, cram)
        os.kill(process, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process))
        first = Selection(cram, decoder)
        assert wait_until(first.has_sent)
        with pytest.raises(ServiceUnavailable):
            cram.select(decoder)
        os.kill(process, signal.SIGCONT)
        first.join(60)
        assert isinstance(first.outcome, bytes)


def blocks(content: bytes, container: Container) -> Iterator[tuple[int, int]]:
    """The start and end in the file of each block of a container, with its header and without its checksum."""
    position = container.body
    for _ in range(container.blocks):
        end = read_block(content, position)[3]
        yield position, end
        position = end + (4 if content[4] >= 3 else 0)


def with_damaged_block(cram: Cram, rng: random.Random) -> bytes:
    """The file with changed bytes in one block, whose checksum is right nevertheless."""
    content, spans = bytearray(cram.content), []
    offset, end = cram.header.end, len(cram.content) - len(eof_container(cram.content[4]))
    while offset < end:
        container = read_container(io.BytesIO(cram.content), offset, cram.content[4])
        spans += list(blocks(cram.content, container))
        offset = container.end
    start, end = rng.choice(spans)
    # Before htslib reads a block, its header is checked, but not its content.
    for _ in range(rng.choice([1, 1, 2, 8])):
        index = rng.randrange(start + 1 if rng.random() < 0.2 else min(start + 5, end - 1), end)
        content[index] = rng.choice([rng.randrange(256), content[index] ^ 1 << rng.randrange(8), 0, 0x7F, 0xFF])
    if content[4] >= 3:
        content[end : end + 4] = struct.pack("<I", zlib.crc32(content[start:end]))
    return bytes(content)


class TestDamagedFiles:
    @pytest.mark.parametrize("name", [*VERSIONS, "several_in_slices"])
    def test_lead_to_records_or_a_fault_and_nothing_else(
        self, crams: dict[str, Cram], name: str, decoder: Decoder, tmp_path: Path
    ) -> None:
        cram, rng = crams[name], random.Random(name)
        outcomes = set()
        for _ in range(MUTATIONS):
            try:
                cram.select(decoder, with_damaged_block(cram, rng))
                outcomes.add("answer")
            except FormatError as error:
                outcomes.add(str(error))
        assert len(outcomes) > 1
        assert cram.decodes_all(decoder, tmp_path)
