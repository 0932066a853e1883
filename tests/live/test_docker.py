"""The image, without a container engine: the Dockerfile's commands run in folders with clean environments."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from htsget_flask.app import CONFIG_VARIABLE
from tests.support.client import fetch
from tests.support.live.server import Server, free_port, running
from tests.support.live.tools import ROOT

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.environ.get("CI") != "true", reason="takes a minute and the package index: on CI only"),
]

# It would create a user on this machine.
NOT_RUN = "useradd --create-home --uid 10001 htsget"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@dataclass
class Stage:
    """A stage of the build: `root` is its root folder on this machine, `settings` holds USER, CMD and the like."""

    root: Path
    settings: dict[str, str] = field(default_factory=dict)

    def localized(self, command: str) -> str:
        """A command with the image's paths replaced by this stage's."""
        return re.sub(r"(?<![\w.:/])/(?=(src|wheels|data)\b)", f"{self.root}/", command)

    def environment(self) -> dict[str, str]:
        """A clean environment with the stage's Python."""
        inherited = {
            name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in ("HOME", "LANG")
        }
        # Compiling botocore takes longer than everything else.
        options = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1"}
        return {**inherited, **options, "PATH": f"{self.root}/venv/bin:{os.defpath}"}

    def run(self, command: str) -> None:
        """Run a shell command in the stage's folder."""
        process = subprocess.run(
            ["/bin/sh", "-ec", self.localized(command)],
            cwd=self.root / "src",
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert process.returncode == 0, (command, process.stderr)


def is_in_context(path: Path) -> bool:
    """Whether a file or folder at the top of the checkout is sent to the builder."""
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in patterns
    return f"!{path.name}" in patterns


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The last stage of the build."""
    stages: dict[str, Stage] = {}
    stage = None
    for instruction, rest in instructions():
        if instruction == "FROM":
            _, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(tmp_path_factory.mktemp("stage"))
            (stage.root / "src").mkdir()
            subprocess.run([sys.executable, "-m", "venv", stage.root / "venv"], check=True, timeout=120)
            continue
        assert stage is not None
        if instruction == "RUN":
            if rest != NOT_RUN:
                stage.run(rest)
        elif instruction == "COPY":
            copy(stage, rest.split(), stages)
        else:
            assert instruction in ("WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"), instruction
            stage.settings[instruction] = rest
    return stages[""]


def copy(stage: Stage, arguments: list[str], stages: dict[str, Stage]) -> None:
    """COPY: for folders and files at the top of the checkout or of another stage."""
    *sources, target = [argument for argument in arguments if not argument.startswith("--")]
    origin = ROOT
    if arguments[0].startswith("--from="):
        origin = stages[arguments[0].removeprefix("--from=")].root
        sources = [source.lstrip("/") for source in sources]
    destination = Path(stage.localized(target)) if target.startswith("/") else stage.root / "src" / target
    for source in sources:
        if source == ".":
            for path in filter(is_in_context, ROOT.iterdir()):
                if path.is_dir():
                    shutil.copytree(path, destination / path.name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, destination)
        elif (origin / source).is_dir():
            shutil.copytree(origin / source, destination)
        else:
            assert origin != ROOT or is_in_context(ROOT / source.partition("/")[0])
            destination.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin / source, destination)


@contextmanager
def container(image: Stage, folder: Path) -> Iterator[Server]:
    """What `docker run` starts, on another port of this machine."""
    port = free_port()
    words = json.loads(image.settings["ENTRYPOINT"]) + json.loads(image.settings["CMD"])
    program, *arguments = [image.localized(word) for word in words]
    with program_of(image, [program, *arguments, "--port", port], folder, port) as server:
        yield server


@contextmanager
def program_of(image: Stage, command: Sequence[object], folder: Path, port: int) -> Iterator[Server]:
    """A server that is one of the image's programs, started outside the checkout."""
    program, *arguments = command
    environment = {**image.environment(), "HOME": str(folder), "PYTHONPATH": "", CONFIG_VARIABLE: f"{image.root}/data"}
    path = image.root / "venv" / "bin" / str(program)
    with running([path, *arguments], folder=folder, port=port, environment=environment) as server:
        yield server


class TestTheImage:
    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def _mounted(image: Stage, demo_folder: Path) -> None:
        (image.root / "data").symlink_to(demo_folder)

    def test_serves_what_is_mounted(self, image: Stage, demo_folder: Path, tmp_path: Path) -> None:
        with container(image, tmp_path) as server:
            is_equal = fetch(server.http, "/reads/NA00001") == (demo_folder / "NA00001.bam").read_bytes()
            assert is_equal
            # Files other than Python must be in the package too.
            for part in ("/", "/page/static/page.js", "/page/static/page.css"):
                assert server.http.get(part).status == 200
            assert self.is_healthy(image, server.port)
        assert not self.is_healthy(image, server.port)

    def test_runs_by_gunicorn_with_the_settings_of_the_package(
        self, image: Stage, demo_folder: Path, tmp_path: Path
    ) -> None:
        port = free_port()
        settings = ["-c", "python:htsget_flask.server.gunicorn_settings", "--workers", 1, "--bind", f"127.0.0.1:{port}"]
        with program_of(image, ["gunicorn", *settings, "htsget_flask.wsgi:app"], tmp_path, port) as server:
            is_equal = fetch(server.http, "/reads/NA00001") == (demo_folder / "NA00001.bam").read_bytes()
            assert is_equal
            assert "Using worker: Worker" in server.log()

    @staticmethod
    def is_healthy(image: Stage, port: int) -> bool:
        """Whether the health check's command succeeds."""
        options, _, command = image.settings["HEALTHCHECK"].partition("CMD ")
        assert re.fullmatch(r"(--\w[\w-]*=\d+s )+", options)
        assert image.settings["EXPOSE"] == "8080" and ":8080/" in command
        words = json.loads(command.replace(":8080/", f":{port}/"))
        process = subprocess.run(words, env=image.environment(), capture_output=True, timeout=10, check=False)
        return process.returncode == 0

    def test_holds_no_more_than_it_needs(self, image: Stage) -> None:
        assert image.settings["USER"] == "htsget"
        assert not (image.root / "src").exists() and not (image.root / "wheels").exists()
        packages = {
            path.name for path in next((image.root / "venv" / "lib").iterdir()).joinpath("site-packages").iterdir()
        }
        assert "htsget_flask" in packages and not {"tests", "benchmarks", "pytest", "mypy"} & packages
