"""The image without an engine: the Dockerfile's own commands, in folders and clean environments in its place."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.client import fetch
from tests.support.live.server import Server, free_port, running
from tests.support.live.tools import ROOT

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.environ.get("CI") != "true", reason="takes a minute and the package index: on CI only"),
]

# It would make a user of this machine.
NOT_RUN = "useradd --create-home --uid 10001 htsget"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@dataclass
class Stage:
    """A stage of the build: its root folder in this one, and what it was told for later."""

    root: Path
    told: dict[str, str] = field(default_factory=dict)

    def here(self, command: str) -> str:
        """A command with the paths of the image as those of this stage."""
        return re.sub(r"(?<![\w.:/])/(?=(src|wheels|data)\b)", f"{self.root}/", command)

    def environment(self) -> dict[str, str]:
        """A clean environment with the stage's own Python."""
        kept = {
            name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in ("HOME", "LANG")
        }
        # To compile all of botocore takes longer than all else.
        options = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1"}
        return {**kept, **options, "PATH": f"{self.root}/venv/bin:{os.defpath}"}

    def run(self, command: str) -> None:
        """Run a command by the shell in the stage's folder."""
        done = subprocess.run(
            ["/bin/sh", "-ec", self.here(command)],
            cwd=self.root / "src",
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)


def is_in_context(path: Path) -> bool:
    """Whether a file or folder at the top of the checkout is sent to the builder."""
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in kept
    return f"!{path.name}" in kept


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The last stage of the build."""
    stages: dict[str, Stage] = {}
    stage = None
    for word, rest in instructions():
        if word == "FROM":
            _, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(tmp_path_factory.mktemp("stage"))
            (stage.root / "src").mkdir()
            subprocess.run([sys.executable, "-m", "venv", stage.root / "venv"], check=True, timeout=120)
            continue
        assert stage is not None
        if word == "RUN":
            if rest != NOT_RUN:
                stage.run(rest)
        elif word == "COPY":
            copy(stage, rest.split(), stages)
        else:
            assert word in ("WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"), word
            stage.told[word] = rest
    return stages[""]


def copy(stage: Stage, arguments: list[str], stages: dict[str, Stage]) -> None:
    """Do what COPY does, for folders and files at the top of the checkout or of another stage."""
    *sources, target = [argument for argument in arguments if not argument.startswith("--")]
    origin = ROOT
    if arguments[0].startswith("--from="):
        origin = stages[arguments[0].removeprefix("--from=")].root
        sources = [source.lstrip("/") for source in sources]
    place = Path(stage.here(target)) if target.startswith("/") else stage.root / "src" / target
    for source in sources:
        if source == ".":
            for path in filter(is_in_context, ROOT.iterdir()):
                if path.is_dir():
                    shutil.copytree(path, place / path.name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, place)
        elif (origin / source).is_dir():
            shutil.copytree(origin / source, place)
        else:
            assert origin != ROOT or is_in_context(ROOT / source.partition("/")[0])
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin / source, place)


@contextmanager
def container(image: Stage, folder: Path) -> Iterator[Server]:
    """What `docker run` starts, on another port of this machine."""
    port = free_port()
    words = json.loads(image.told["ENTRYPOINT"]) + json.loads(image.told["CMD"])
    command = [image.here(word) for word in words]
    command[0] = str(image.root / "venv" / "bin" / command[0])
    environment = {**image.environment(), "HOME": str(folder), "PYTHONPATH": ""}
    with running([*command, "--port", port], folder=folder, port=port, environment=environment) as server:
        yield server


class TestTheImage:
    def test_serves_what_is_mounted(self, image: Stage, demo_folder: Path, tmp_path: Path) -> None:
        (image.root / "data").symlink_to(demo_folder)
        with container(image, tmp_path) as server:
            is_equal = fetch(server.http, "/reads/NA00001") == (demo_folder / "NA00001.bam").read_bytes()
            assert is_equal
            # What is not Python has to be in the package too.
            for part in ("/", "/page/static/page.js", "/page/static/page.css"):
                assert server.http.get(part).status == 200
            assert self.is_healthy(image, server.port)
        assert not self.is_healthy(image, server.port)

    @staticmethod
    def is_healthy(image: Stage, port: int) -> bool:
        """Whether the health check's command succeeds."""
        options, _, command = image.told["HEALTHCHECK"].partition("CMD ")
        assert re.fullmatch(r"(--\w[\w-]*=\d+s )+", options)
        assert image.told["EXPOSE"] == "8080" and ":8080/" in command
        words = json.loads(command.replace(":8080/", f":{port}/"))
        done = subprocess.run(words, env=image.environment(), capture_output=True, timeout=10, check=False)
        return done.returncode == 0

    def test_holds_no_more_than_it_needs(self, image: Stage) -> None:
        assert image.told["USER"] == "htsget"
        assert not (image.root / "src").exists() and not (image.root / "wheels").exists()
        packages = {
            path.name for path in next((image.root / "venv" / "lib").iterdir()).joinpath("site-packages").iterdir()
        }
        assert "htsget_flask" in packages and not {"tests", "benchmarks", "pytest", "mypy"} & packages
