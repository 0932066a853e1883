"""Refget with its clients: the compliance suite, the client from PyPI, and samtools with and without a server."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from tests.live.conftest import Serve
from tests.support.live.server import Server, serving
from tests.support.live.tools import ROOT, missing, real_data, run, tool
from tests.support.live.wire import ask
from tests.support.sequences import expected, fasta, some_letters

pytestmark = pytest.mark.live

I_MD5, NC_MD5 = "6681ac2f62509cfc220d78751b8dc524", "3332ed720ac7eaa9b3655c06f6b9e196"
# The suite and the client have dependencies that stay out of this project's environment.
CLIENTS = ("refget-compliance==1.2.6", "refget==0.12.0")


@pytest.fixture(scope="session")
def clients() -> Path:
    """The programs of an environment with the clients from PyPI; it is cached in build/."""
    environment_folder = ROOT / "build" / "refget-clients"
    environment_folder.parent.mkdir(exist_ok=True)
    # pip may need the proxy variables, which other tests must not have.
    environment = {**os.environ, **{name: value for name, value in _PROXIES.items() if value}}
    with environment_folder.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = environment_folder / "complete"
        if not (complete.is_file() and complete.read_text() == " ".join(CLIENTS)):
            shutil.rmtree(environment_folder, ignore_errors=True)
            for command in (
                [sys.executable, "-m", "venv", str(environment_folder)],
                [
                    str(environment_folder / "bin" / "python"),
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-compile",
                    "--disable-pip-version-check",
                    *CLIENTS,
                ],
            ):
                process = subprocess.run(command, capture_output=True, timeout=180, env=environment, check=False)
                if process.returncode:
                    missing(f"refget's clients cannot be installed: {process.stderr.decode(errors='replace')[-500:]}")
            complete.write_text(" ".join(CLIENTS))
    return environment_folder / "bin"


_PROXIES = {
    name: os.environ.get(name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "http_proxy", "NO_PROXY")
}


@pytest.fixture(scope="module", params=[True, False], ids=["circular", "linear only"])
def suite_server(request: pytest.FixtureRequest, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of the suite's sequences."""
    folder = tmp_path_factory.mktemp("suite")
    for path in real_data("refget").glob("*.faa"):
        shutil.copyfile(path, folder / path.name)
    config = folder.with_suffix(".yaml")
    config.write_text(
        f"storages: {{here: {{type: local, root: '{folder}'}}}}\n"
        "datasets: [{prefix: '', storage: here}]\n"
        "refget:\n"
        f"  circular_supported: {json.dumps(request.param)}\n"
        "  fastas:\n"
        "    - {storage: here, key: I.faa, aliases: {I: ['insdc:BK006935.2']}}\n"
        "    - {storage: here, key: NC.faa, namespace: insdc, circular: [NC_001422.1]}\n"
        "    - {storage: here, prefix: ''}\n"
    )
    return serve("--config", config)


class TestTheComplianceSuite:
    def test_passes(self, suite_server: Server, clients: Path, tmp_path: Path) -> None:
        command = [
            str(clients / "refget-compliance"),
            "report",
            "-s",
            f"{suite_server.url}/",
            "--json",
            "out.json",
            "--no-web",
        ]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
        # The suite exits with 0 whatever the result.
        (report,) = json.loads((tmp_path / "out.json").read_text())
        results = {test["name"]: test["result"] for test in report["test_results"]}
        assert len(results) > 25, process.stderr
        is_circular = json.loads(ask(suite_server, "GET", "/sequence/service-info").body)["refget"][
            "circular_supported"
        ]
        # The suite skips the tests of the behaviour that the server does not have.
        skipped = {True: ["circular_support_false_errors"], False: ["circular", "circular_support_true_errors"]}[
            is_circular
        ]
        expected_skips = {f"test_sequence_{name}" for name in skipped}
        expected_skips |= set() if is_circular else {"test_metadata_query_circular_sequence"}
        assert {name for name, result in results.items() if result == 0} == expected_skips
        assert {name for name, result in results.items() if result not in (0, 1)} == set()

    def test_the_cases_for_refget_2(self, suite_server: Server) -> None:
        checksums = json.loads((real_data("refget") / "checksums.json").read_text())
        sequence_names = {"I": "I", "VI": "VI", "NC": "NC_001422.1"}
        for name, sums in checksums.items():
            with pysam.FastaFile(str(self.copy_of(suite_server, f"{name}.faa"))) as oracle:
                letters = oracle.fetch(sequence_names[name]).encode()
            for identifier in (sums["md5"], sums["sha512"], sums["ga4gh"], sums["ga4gh"].removeprefix("ga4gh:")):
                answer = ask(suite_server, "GET", f"/sequence/{identifier}", Accept="text/plain, */*;q=0.5")
                assert (answer.status, answer.body) == (200, letters)
            metadata = json.loads(ask(suite_server, "GET", f"/sequence/{sums['ga4gh']}/metadata").body)["metadata"]
            assert (metadata["md5"], metadata["ga4gh"], metadata["length"]) == (
                sums["md5"],
                sums["ga4gh"],
                len(letters),
            )
        for identifier, md5 in {"insdc:BK006935.2": I_MD5, "insdc:NC_001422.1": NC_MD5}.items():
            accept = "application/vnd.ga4gh.refget.v2.0.0+json, application/vnd.ga4gh.refget.v1.0.0+json"
            answer = ask(suite_server, "GET", f"/sequence/{identifier}/metadata", Accept=accept)
            metadata = json.loads(answer.body)["metadata"]
            authority, _, alias = identifier.partition(":")
            assert (metadata["md5"], metadata["aliases"]) == (md5, [{"alias": alias, "naming_authority": authority}])
        info = json.loads(ask(suite_server, "GET", "/sequence/service-info").body)
        assert {"md5", "ga4gh"} <= set(info["refget"]["algorithms"])
        assert info["refget"]["identifier_types"] == ["insdc"]
        assert info["type"]["artifact"] == "refget"

    def copy_of(self, server: Server, name: str) -> Path:
        """A copy of one of the suite's files in a folder that is writable for its index."""
        folder = server.out.parent
        if not (folder / name).exists():
            shutil.copyfile(real_data("refget") / name, folder / name)
        return folder / name


class TestThePythonClient:
    def test_reads_a_slice(self, demo_server: Server, demo_folder: Path, clients: Path, tmp_path: Path) -> None:
        with pysam.FastaFile(str(demo_folder / "demo.fa")) as reference:
            text = reference.fetch("chr1")
        md5 = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        script = (
            "import json, sys; from refget.clients import SequenceClient\n"
            f"client = SequenceClient(urls=[{demo_server.url!r}], raise_errors=True)\n"
            f"whole, part = client.get_sequence({md5!r}), client.get_sequence({md5!r}, start=1000, end=1100)\n"
            f"print(json.dumps([whole, part, client.get_metadata({md5!r}), client.service_info()]))"
        )
        process = subprocess.run(
            [clients / "python", "-c", script], cwd=tmp_path, capture_output=True, timeout=60, check=False
        )
        assert process.returncode == 0, process.stderr.decode()
        whole, part, metadata, info = json.loads(process.stdout)
        assert (whole == text, part) == (True, text[1000:1100])
        assert metadata["metadata"]["length"] == len(text)
        assert info["type"]["artifact"] == "refget"


class TestSamtoolsDecodesCramThroughIt:
    @pytest.fixture
    def cram(self, demo_folder: Path, tmp_path: Path) -> Path:
        """Reads whose header identifies the reference only by its checksum, in a folder without the reference."""
        path = tmp_path / "reads.cram"
        options = ["-C", "-T", demo_folder / "demo.fa", "--output-fmt-option", "embed_ref=0", "-o", path]
        run("samtools", "view", *options, demo_folder / "NA00001.bam", "chrM", "chr2:1-20000", cwd=tmp_path)
        header = run("samtools", "view", "-H", "--no-PG", path, cwd=tmp_path)
        fields = [line.split("\t") for line in header.splitlines()]
        lines = ["\t".join(field for field in line if not field.startswith("UR:")) + "\n" for line in fields]
        (tmp_path / "header").write_text("".join(lines))
        run("samtools", "reheader", "-i", tmp_path / "header", path, cwd=tmp_path)
        return path

    def decode(self, cram: Path, cwd: Path, **variables: object) -> "subprocess.CompletedProcess[bytes]":
        environment = {
            **os.environ,
            "REF_PATH": os.devnull,
            "REF_CACHE": os.devnull,
            **{name: str(value) for name, value in variables.items()},
        }
        command = [tool("samtools"), "view", str(cram)]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=60, check=False)

    def expected_reads(self, demo_folder: Path, cwd: Path) -> set[str]:
        regions = ("chrM", "chr2:1-20000")
        return set(run("samtools", "view", demo_folder / "NA00001.bam", *regions, cwd=cwd).splitlines())

    def test_ref_path(self, demo_server: Server, demo_folder: Path, cram: Path, tmp_path: Path) -> None:
        assert self.decode(cram, tmp_path).returncode, "no reference, no reads"
        decoded = self.decode(cram, tmp_path, REF_PATH=f"{demo_server.url}/sequence/%s")
        assert decoded.returncode == 0, decoded.stderr
        assert are_same_reads(decoded.stdout.decode().splitlines(), self.expected_reads(demo_folder, tmp_path))

    def test_an_ingested_folder_without_a_server(self, demo_folder: Path, cram: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        run("htsget-flask", "refget", "ingest", demo_folder / "demo.fa", store, cwd=tmp_path)
        decoded = self.decode(cram, tmp_path, REF_CACHE=f"{store}/%2s/%2s/%s")
        assert decoded.returncode == 0, decoded.stderr
        assert are_same_reads(decoded.stdout.decode().splitlines(), self.expected_reads(demo_folder, tmp_path))

    def test_check_reports_whether_references_are_available(
        self, demo_folder: Path, cram: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "served"
        folder.mkdir()
        shutil.copyfile(cram, folder / "reads.cram")
        shutil.copyfile(demo_folder / "NA00001.cram", folder / "embedded.cram")
        run("htsget-flask", "index", folder, cwd=tmp_path)
        output = run("htsget-flask", "check", folder, cwd=tmp_path)
        assert "embedded.cram.crai, references: 3 embedded or not needed)" in output
        assert "reads.cram.crai, references: 2 not available)" in output
        assert "warning: references that are neither embedded nor available at /sequence: chr2, chrM" in output
        for name in ("demo.fa", "demo.fa.fai"):
            shutil.copyfile(demo_folder / name, folder / name)
        output = run("htsget-flask", "check", folder, cwd=tmp_path)
        assert "reads.cram.crai, references: 2 at /sequence)" in output
        assert "warning" not in output


def are_same_reads(decoded: list[str], expected: set[str]) -> bool:
    """Whether the decoded reads are the expected ones, apart from the tags that CRAM generates."""

    def core(line: str) -> str:
        return "\t".join(line.split("\t")[:11])

    return bool(decoded) and {core(line) for line in decoded} == {core(line) for line in expected}


LONG = some_letters("long", 3_000_000, b"ACGTacgt")


@pytest.fixture(scope="module")
def long_fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FASTA file whose only sequence is always streamed in several buffers."""
    path = tmp_path_factory.mktemp("long") / "long.fa"
    path.write_bytes(fasta({"long": LONG}, width=70))
    return path


@pytest.fixture(scope="module", params=["wrapped", "compressed", "store"])
def long_server(
    request: pytest.FixtureRequest, serve: Serve, long_fasta: Path, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A server of the sequence in one layout."""
    served = tmp_path_factory.mktemp("served")
    if request.param == "store":
        run("htsget-flask", "refget", "ingest", long_fasta, served, cwd=served)
    elif request.param == "compressed":
        shutil.copyfile(long_fasta, served / "long.fa")
        run("bgzip", served / "long.fa", cwd=served)
    else:
        shutil.copyfile(long_fasta, served / "long.fa")
    config = served.with_suffix(".yaml")
    source = "store: {storage: here}" if request.param == "store" else "fastas: [{storage: here, prefix: ''}]"
    config.write_text(
        f"storages: {{here: {{type: local, root: '{served}'}}}}\n"
        f"datasets: [{{prefix: '', storage: here}}]\nrefget: {{{source}}}\n"
    )
    return serve("--config", config)


class TestLongSequencesAreStreamed:
    def test_whole_and_in_part(self, long_server: Server) -> None:
        sequence = expected(LONG)
        for identifier in (sequence.md5, sequence.ga4gh):
            answer = ask(long_server, "GET", f"/sequence/{identifier}")
            assert (answer.status, answer.body == sequence.letters) == (200, True)
        for start, end in ((5, 2_999_995), (1_000_000, 1_000_001), (7, 200_007)):
            answer = ask(long_server, "GET", f"/sequence/{sequence.md5}?start={start}&end={end}")
            assert (answer.status, answer.body == sequence.letters[start:end]) == (200, True)
            answer = ask(long_server, "GET", f"/sequence/{sequence.md5}", Range=f"bytes={start}-{end - 1}")
            assert (answer.status, answer.body == sequence.letters[start:end]) == (206, True)

    def test_the_log_is_empty(self, long_server: Server) -> None:
        assert long_server.log() == ""


class TestTheStartReportsFaults:
    def test_and_serves_the_rest(self, demo_folder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "served"
        folder.mkdir()
        shutil.copyfile(demo_folder / "demo.fa", folder / "demo.fa")
        (folder / "demo.fa.fai").write_text("chr1\t5\t6\t60\t61\n")
        (folder / "broken.fa").write_text("no FASTA")
        (tmp_path / "server").mkdir()
        with serving(folder, folder=tmp_path / "server") as server:
            with pysam.FastaFile(str(demo_folder / "demo.fa")) as reference:
                md5 = expected(reference.fetch("chrM").encode()).md5
            assert ask(server, "GET", f"/sequence/{md5}").status == 200
            log = server.log()
        assert f"{folder}/broken.fa: this is not a FASTA file" in log
        assert f"{folder}/demo.fa: its .fai belongs to another file" in log
