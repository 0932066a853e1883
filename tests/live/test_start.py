"""Starting a server: its output, the configurations that it refuses, and gunicorn with the settings of `config/`."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.conftest import Serve
from tests.support.client import fetch, fetch_blocks
from tests.support.files.bgzf import BGZF_EOF
from tests.support.live.server import Server, answers, begin, end, free_port, running, serving, wait_until
from tests.support.live.tools import ROOT, run, tool, write_config
from tests.support.live.wire import ask, get, urls

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def named(serve: Serve, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with ids that have to be quoted in a shell and in a URL."""
    folder = tmp_path_factory.mktemp("named") / "a $HOME `of` \"data\" 'here'"
    (folder / "sub folder").mkdir(parents=True)
    for name in ("NA00001.bam", "NA00001.bam.bai", "cohort.bcf", "cohort.bcf.csi"):
        stem, _, suffix = name.partition(".")
        target = folder / "sub folder" / f"a $HOME `id` \"b\" 'c' #%41?&+ü;{stem}.{suffix}"
        target.write_bytes((demo_folder / name).read_bytes())
    return serve(folder)


class TestTheOutputOfServeWorks:
    @pytest.fixture(params=["demo_server", "odd_server", "named"])
    def server(self, request: pytest.FixtureRequest) -> Server:
        """A server of one kind of files."""
        server: Server = request.getfixturevalue(request.param)
        return server

    def test_every_url_answers(self, server: Server, demo_server: Server) -> None:
        output = [line.strip() for line in server.printed() if line.strip().startswith("http")]
        # The example data have a FASTA file.
        assert len(output) == (6 if server is demo_server else 5)
        for url in output:
            assert url.startswith(f"{server.url}/")
            assert ask(server, "GET", url).status == 200, url

    def test_every_command_shows_records(self, server: Server, tmp_path: Path) -> None:
        output = [line.strip() for line in server.printed() if line.strip().startswith(("samtools ", "bcftools "))]
        assert len(output) == 2
        for line in output:
            name, *arguments = shlex.split(line)
            shell = subprocess.run(
                ["/bin/sh", "-c", line.replace(name, tool(name), 1)], cwd=tmp_path, capture_output=True, check=True
            )
            assert any(not record.startswith(b"#") for record in shell.stdout.splitlines()), line
            assert run(name, *arguments, cwd=tmp_path)

    def test_the_address_comes_first(self, server: Server) -> None:
        first = server.printed()[0]
        assert first.startswith("htsget_flask ")
        assert first.endswith(f" {server.url}/")

    @pytest.mark.parametrize("listing", [False, True])
    def test_without_datasets_it_has_other_examples(self, demo_folder: Path, tmp_path: Path, listing: bool) -> None:
        storages = {"data": {"type": "local", "root": str(demo_folder)}}
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps({"storages": storages, "files": {"storages": ["data"], "listing": listing}}))
        with serving("--config", path, folder=tmp_path) as server:
            assert server.printed()[1:] == (["Try:", f"  {server.url}/files/data/"] if listing else [])

    def test_warnings_of_the_configuration_are_in_the_log(self, demo_folder: Path, tmp_path: Path) -> None:
        jwks = "http://login.example.org/jwks"
        content = {
            "storages": {"data": {"type": "local", "root": str(demo_folder)}},
            "datasets": [{"prefix": "", "storage": "data"}],
            "auth": {
                "secrets": ["a-secret-0123456789"],
                "rules": [{"ids": ["*"], "public": True}],
                "issuers": [{"issuer": "https://login.example.org", "audience": "htsget", "jwks": jwks}],
            },
        }
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(content))
        with serving("--config", path, folder=tmp_path) as server:
            warnings = [line for line in server.log().splitlines() if line.startswith("warning: ")]
        (line,) = warnings
        assert line.startswith(f"warning: auth.issuers[0].jwks: {jwks} is not https")

    def test_the_log_has_no_traceback(self, server: Server) -> None:
        assert "Traceback" not in server.log()


class TestFilesThatCannotBeServedDoNotAffectOthers:
    """Their names come first in the folder, so the server opens them first."""

    @pytest.fixture
    def folder(self, demo_folder: Path, tmp_path: Path) -> Path:
        """A folder with one valid file, to which tests add others."""
        folder = tmp_path / "served"
        folder.mkdir()
        for suffix in ("", ".bai"):
            (folder / f"good.bam{suffix}").write_bytes((demo_folder / f"NA00001.bam{suffix}").read_bytes())
        return folder

    def check(self, folder: Path, tmp_path: Path) -> None:
        """Check that the valid file is served, and that all printed URLs answer."""
        with serving(folder, folder=tmp_path) as server:
            is_equal = fetch(server.http, "/reads/good") == (folder / "good.bam").read_bytes()
            assert is_equal
            output = [line.strip() for line in server.printed() if line.strip().startswith("http")]
            assert [ask(server, "GET", url).status for url in output] == [200, 200, 200]

    def test_a_name_that_is_not_text(self, folder: Path, tmp_path: Path) -> None:
        (folder / os.fsdecode(b"\xff.bam")).write_bytes((folder / "good.bam").read_bytes())
        (folder / os.fsdecode(b"a\xff.bam")).write_bytes((folder / "good.bam").read_bytes())
        self.check(folder, tmp_path)

    def test_files_of_other_types(self, folder: Path, tmp_path: Path) -> None:
        (folder / "a.bam").write_bytes(b"text")
        (folder / "b.bam").write_bytes(b"")
        (folder / "c.bam").symlink_to("nowhere.bam")
        os.mkfifo(folder / "d.bam")
        self.check(folder, tmp_path)

    def test_a_name_that_no_url_reaches(self, folder: Path, tmp_path: Path) -> None:
        for suffix in ("", ".bai"):
            shutil.copyfile(folder / f"good.bam{suffix}", folder / f"a\n.bam{suffix}")
        self.check(folder, tmp_path)


def bodies(server: Server, target: str) -> list[bytes]:
    """The data blocks of a ticket."""
    ticket = server.http.get(target)
    assert ticket.status == 200, ticket
    return fetch_blocks(server.http, json.loads(ticket.body))


class TestACacheFolderIsOptional:
    def test_many_clients_fill_it_at_once(self, odd_server: Server, odd_files: dict[str, Path], tmp_path: Path) -> None:
        targets = [f"/reads/normal?referenceName={name}" for name in ("chr1", "chr2", "chr3", "chrM")]
        targets += [f"/variants/normal?format={format_}&referenceName=chr1&start=1" for format_ in ("VCF", "BCF")]
        targets += [f"/reads/odd_names?format={format_}&referenceName=a%23b" for format_ in ("BAM", "CRAM")]
        expected = [bodies(odd_server, target) for target in targets]
        folder = odd_files["bam_normal"].parent
        with (
            serving(folder, folder=tmp_path, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")}) as server,
            ThreadPoolExecutor(len(targets) * 4) as pool,
        ):
            # It already contains the index of the printed example.
            shutil.rmtree(tmp_path / "cache")
            answers = list(pool.map(lambda target: bodies(server, target), targets * 4))
            assert (tmp_path / "cache").is_dir()
        are_equal = answers == expected * 4
        assert are_equal

    def test_without_one_the_server_serves(self, demo_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        environment = {"XDG_CACHE_HOME": str(tmp_path / "file")}
        with serving(demo_folder, folder=tmp_path, environment=environment) as server:
            body = fetch(server.http, "/reads/NA00001", referenceName="chr1", start=0, end=1000)
            assert body.endswith(BGZF_EOF)
            assert "cache folder" in server.log()


class TestAServerListensWhereConfigured:
    def test_on_all_addresses(self, serve: Serve, demo_folder: Path) -> None:
        server = serve(demo_folder, bind="0.0.0.0")
        assert server.printed()[0].endswith(f" http://127.0.0.1:{server.port}/")
        for version, fields in (("1.0", ()), ("1.0", ("Host: 0.0.0.0",)), ("1.1", (f"Host: 0.0.0.0:{server.port}",))):
            (url,) = urls(get(server, "/reads/NA00001", *fields, version=version))
            assert url.startswith("http://127.0.0.1")
        (url,) = urls(get(server, "/reads/NA00001", version="1.0"))
        assert ask(server, "GET", url).status == 200
        (url,) = urls(get(server, "/reads/NA00001", f"Host: localhost:{server.port}"))
        assert url.startswith(f"http://localhost:{server.port}/")

    def test_on_ipv6(self, serve: Serve, demo_folder: Path, tmp_path: Path) -> None:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("there is no IPv6 here")
        server = serve(demo_folder, host="::1")
        assert server.printed()[0].endswith(f" http://[::1]:{server.port}/")
        for version, fields in (("1.0", ()), ("1.1", (f"Host: [::1]:{server.port}",))):
            (url,) = urls(get(server, "/reads/NA00001", *fields, version=version))
            assert url.startswith(f"http://[::1]:{server.port}/")
            assert ask(server, "HEAD", url).status == 200

    def test_by_default_for_this_machine_only(self, demo_server: Server, tmp_path: Path) -> None:
        """For a name that resolves to the loopback address in curl, in htslib, or in a browser under DNS rebinding."""
        evil = ("--resolve", f"evil.example:{demo_server.port}:127.0.0.1", f"http://evil.example:{demo_server.port}")
        silent = ("--silent", "--write-out", "%{http_code}", "--output", "/dev/null")
        for target in ("/", "/files/data/", "/files/data/NA00001.bam", "/reads/NA00001", "/page/datasets", "/health"):
            assert run("curl", *silent, *evil[:2], evil[2] + target, cwd=tmp_path) == "421"
            assert run("curl", *silent, f"http://localhost:{demo_server.port}{target}", cwd=tmp_path) == "200"
        assert run("samtools", "head", f"http://localhost:{demo_server.port}/reads/NA00001", cwd=tmp_path)
        answer = ask(demo_server, "GET", "/files/data/", Origin="http://evil.example")
        assert "access-control-allow-origin" not in answer.headers

    def test_on_a_port_that_the_system_chooses(self, demo_folder: Path, tmp_path: Path) -> None:
        command = [tool("htsget-flask"), "serve", demo_folder, "--port", "0", "--workers", "1"]
        output, log = tmp_path / "stdout", tmp_path / "stderr"
        with output.open("wb") as stdout, log.open("wb") as stderr:
            process = begin(command, cwd=tmp_path, stdout=stdout, stderr=stderr)
        try:
            assert wait_until(lambda: b"variants/service-info" in output.read_bytes())
            base = output.read_text(encoding="utf-8").splitlines()[0].split()[-1].rstrip("/")
            assert wait_until(lambda: answers(base))
        finally:
            end(process)


def refuse(*arguments: object, cwd: Path) -> str:
    """The error output of `serve`, which has to exit by itself with an error."""
    command = [tool("htsget-flask"), "serve", *map(str, arguments)]
    process = subprocess.run(command, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
    assert process.returncode != 0
    assert process.stdout == b""
    message = process.stderr.decode()
    assert "Traceback" not in message, message
    return message


class TestAFaultyConfigurationIsRefused:
    def test_with_all_faults_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            """
public_url: ftp://example.org/
trusted_proxies: -1
nonsense: true
storages:
  here: {type: local, root: nowhere}
  there: {type: tape}
datasets:
  - {prefix: "", storage: elsewhere}
  - {id: one}
  - {id: two, reads: {BAM: {storage: here, key: ../secret.bam}}}
htsget: {block_size: 1}
cache: {max_bytes: many}
""",
            encoding="utf-8",
        )
        message = refuse("--config", path, cwd=tmp_path)
        for fault in (
            "public_url",
            "trusted_proxies",
            "nonsense",
            "storages.here.root",
            "storages.there",
            "datasets[1]",
            "datasets[2].reads.BAM.key",
            "htsget.block_size",
            "cache.max_bytes",
        ):
            assert f"{path}: {fault}" in message, (fault, message)
        # Conflicts between settings are reported once each setting is valid.
        path.write_text("storages: {here: {type: local, root: .}}\ndatasets: [{prefix: '', storage: elsewhere}]\n")
        assert f"{path}: datasets[0].storage" in refuse("--config", path, cwd=tmp_path)

    def test_with_an_invalid_origin(self, demo_folder: Path, tmp_path: Path) -> None:
        message = refuse(demo_folder, "--origin", "igv.org", "--origin", "http://x.org/", cwd=tmp_path)
        assert "Invalid value for '--origin': 'igv.org' must be" in message
        assert "'http://x.org/' must be" in message
        assert "cors.origins" not in message

    def test_with_origins_on_the_command_line_and_in_the_configuration(self, demo_folder: Path, tmp_path: Path) -> None:
        path = write_config(tmp_path / "config.yaml", demo_folder)
        assert "cors.origins" in refuse("--config", path, "--origin", "https://igv.org", cwd=tmp_path)

    def test_that_is_not_yaml(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text("a: [", encoding="utf-8")
        assert f"{path}: not valid YAML" in refuse("--config", path, cwd=tmp_path)

    def test_that_does_not_exist(self, tmp_path: Path) -> None:
        assert "nowhere.yaml" in refuse("--config", tmp_path / "nowhere.yaml", cwd=tmp_path)
        assert "--config" in refuse(cwd=tmp_path)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configurations of the repository."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "config", checkout / "config")
    return checkout


class TestEachExampleStarts:
    """The configurations in `config/`, started by the commands in their first lines."""

    @contextmanager
    def start(self, checkout: Path, name: str) -> Iterator[Server]:
        """Run the commands in the first lines of a configuration, the last of which starts the server."""
        *preparations, serve = re.findall(r"(?m)^#   (.+)$", (checkout / "config" / name).read_text())
        assert serve == f"htsget-flask serve --config config/{name}"
        for command in preparations:
            run("sh", "-c", f"PATH={Path(tool('htsget-flask')).parent}:$PATH; {command}", cwd=checkout)
        with serving("--config", f"config/{name}", folder=checkout) as server:
            yield server

    def test_folder(self, checkout: Path) -> None:
        with self.start(checkout, "folder.yaml") as server:
            assert fetch(server.http, "/reads/NA00001", referenceName="chr1", start=0, end=1000)
            assert ask(server, "GET", "/files/data/NA00001.bam.bai").status == 200
            assert len([line for line in server.printed() if line.strip().startswith("http")]) == 6

    def test_lab(self, checkout: Path) -> None:
        with self.start(checkout, "lab.yaml") as server:
            ticket = server.http.get("/reads/NA00001")
            assert ticket.status == 200
            urls = [entry["url"] for entry in json.loads(ticket.body)["htsget"]["urls"]]
            assert all(url.startswith(("https://htsget.example.org/blocks/", "data:")) for url in urls)

    def test_hospital(self, checkout: Path) -> None:
        with self.start(checkout, "hospital.yaml") as server:
            assert fetch(server.http, "/variants/cohort", referenceName="chr1", start=0, end=1000)
            assert ask(server, "GET", "/reads/NA00001").status == 401
            assert ask(server, "GET", "/files/data/NA00001.bam").status == 401
            audit = (checkout / "build" / "audit.log").read_text()
            assert '"decision":"denied"' in audit and not server.log()

    def test_bucket(self, checkout: Path) -> None:
        """The configuration is valid, and the missing bucket is the only fault."""
        environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
        environment |= {"AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        command = [tool("htsget-flask"), "check", "--config", "config/bucket.yaml"]
        process = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, timeout=60, check=False)
        assert process.returncode == 1
        assert b"FAILED" in process.stdout and b"credentials" in process.stdout, process.stdout
        assert b"Traceback" not in process.stderr


GUNICORN = (sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.conf.py", "wsgi:app", "--workers", "2")


@pytest.fixture(scope="module", params=["folder", "file"])
def gunicorn(
    request: pytest.FixtureRequest, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """gunicorn with the settings of `config/`; HTSGET_FLASK_CONFIG is a folder or a file."""
    folder, port = tmp_path_factory.mktemp("gunicorn"), free_port()
    config = demo_folder if request.param == "folder" else write_config(folder / "config.yaml", demo_folder)
    command = [*GUNICORN, "--bind", f"127.0.0.1:{port}"]
    environment = {"HTSGET_FLASK_CONFIG": str(config)}
    with running(command, folder=folder, port=port, cwd=ROOT, environment=environment) as server:
        assert wait_until(lambda: server.is_complete(2))
        yield server


class TestNoFileDelaysTheStart:
    def test_it_answers_while_a_file_is_opened(self, demo_folder: Path, tmp_path: Path) -> None:
        storage = {"type": "local", "root": str(demo_folder)}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            # The system accepts connections, but no process answers.
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            bucket = {"type": "s3", "bucket": "slow-bucket", "endpoint_url": endpoint, "region": "x", "anonymous": True}
            datasets = [{"prefix": "slow/", "storage": "bucket"}, {"prefix": "", "storage": "here"}]
            config = {"storages": {"here": storage, "bucket": bucket}, "datasets": datasets}
            (tmp_path / "config.yaml").write_text(json.dumps(config))
            port = free_port()
            command = [tool("htsget-flask"), "serve", "--config", tmp_path / "config.yaml", "--port", port]
            with running(command, folder=tmp_path, port=port) as server:
                assert fetch(server.http, "/reads/NA00001", referenceName="chr1", start=0, end=1000)
                assert len(server.printed()) == 1
                assert server.printed()[0].endswith(f"serves {server.url}/")


class TestTheConfigurationIsReadOnce:
    @pytest.mark.parametrize("kind", ["gunicorn", "serve"])
    def test_an_error_in_it_does_not_stop_the_service(self, demo_folder: Path, tmp_path: Path, kind: str) -> None:
        config, port = write_config(tmp_path / "config.yaml", demo_folder), free_port()
        serve = [tool("htsget-flask"), "serve", "--config", config, "--port", port, "--workers", 2]
        command = serve if kind == "serve" else [*GUNICORN, "--bind", f"127.0.0.1:{port}"]
        environment = {"HTSGET_FLASK_CONFIG": str(config)}
        with running(command, folder=tmp_path, port=port, cwd=ROOT, environment=environment) as server:
            assert wait_until(lambda: server.is_complete(2))
            before = server.workers()
            config.write_text("nonsense: [", encoding="utf-8")
            server.process.send_signal(signal.SIGHUP)
            assert wait_until(lambda: not set(before) & set(server.workers()) and server.is_complete(2), seconds=30)
            os.kill(server.workers()[0], signal.SIGKILL)
            assert wait_until(lambda: server.log().count("SIGKILL") == 1 and server.is_complete(2), seconds=30)
            for _ in range(8):
                body = fetch(server.http, "/reads/NA00001", referenceName="chr1", start=0, end=1000)
                assert body.endswith(BGZF_EOF)
            (line,) = (line for line in server.log().splitlines() if "configuration" in line)
            assert line.endswith("with the configuration of the start: restart the service to change it")


class TestGunicornServesTheWsgiFile:
    def test_tickets_and_blocks(self, gunicorn: Server, demo_folder: Path) -> None:
        is_equal = fetch(gunicorn.http, "/reads/NA00001") == (demo_folder / "NA00001.bam").read_bytes()
        assert is_equal

    def test_forwarded_headers_are_ignored(self, gunicorn: Server) -> None:
        fields = ("Host: a.example", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example")
        (url,) = urls(get(gunicorn, "/reads/NA00001", *fields))
        assert url.startswith("http://a.example/")

    @pytest.mark.parametrize("value", [None, "/nowhere/config.yaml", ""])
    def test_not_without_a_configuration(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        if value is not None:
            monkeypatch.setenv("HTSGET_FLASK_CONFIG", value)
        command = [*GUNICORN, "--check-config"]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=False)
        assert process.returncode != 0
        assert (value or "HTSGET_FLASK_CONFIG").encode() in process.stderr

    def test_on_a_unix_socket(self, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTSGET_FLASK_CONFIG", str(demo_folder))
        # Not in tmp_path, which may be too long for the address of a Unix socket.
        with tempfile.TemporaryDirectory() as folder, (tmp_path / "log").open("wb") as log:
            path = Path(folder, "socket")
            process = begin([*GUNICORN, "--bind", f"unix:{path}"], cwd=ROOT, stdout=log, stderr=log)
            try:
                assert wait_until(path.exists)
                fetched = ("curl", "--silent", "--fail", "--retry", "3", "--unix-socket", path)
                body = run(*fetched, "http://data.example/reads/NA00001", cwd=tmp_path)
                assert '"url":"http://data.example/blocks/' in body
            finally:
                end(process)
