"""The programs that live tests run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"


def tool(name: str) -> str:
    """The path of a program of this environment or of the system.

    Without the program the test is skipped; on continuous integration, where nobody would notice that, it fails.
    """
    # Debian installs servers into folders that only root has in PATH.
    folders = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        missing(f"{name} is not installed")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test because something is missing, or fail on continuous integration."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run(name: str, *arguments: object, cwd: Path) -> str:
    """The output of a program, which has to succeed within a minute; it may leave files in the folder `cwd`."""
    command = [tool(name), *map(str, arguments)]
    process = subprocess.run(command, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert process.returncode == 0, (command, process.stderr.decode(errors="replace")[-2000:])
    return process.stdout.decode()


def lines(name: str, *arguments: object, cwd: Path) -> list[str]:
    """The lines that a program prints."""
    output = run(name, *arguments, cwd=cwd)
    # Not splitlines: it splits at other characters too, which SAM and VCF may contain.
    return output.removesuffix("\n").split("\n") if output else []


def view(source: object, *, cwd: Path) -> list[str]:
    """The records of a file, or of a ticket's URL, as lines of SAM or VCF."""
    if "/variants/" in str(source) or str(source).endswith((".vcf.gz", ".bcf")):
        return lines("bcftools", "view", "--no-version", "-H", source, cwd=cwd)
    return lines("samtools", "view", source, cwd=cwd)


def real_data(kind: str) -> Path:
    """The folder with files of a kind that other software wrote.

    They are not part of the project. Without the folder `shared/data` next to the checkout the test is skipped, and
    .ci/run reports it; a kind that is missing there counts as a missing program.
    """
    folder = DATA / kind
    if not DATA.is_dir():
        pytest.skip("there is no folder shared/data next to the checkout")
    if not folder.is_dir():
        missing(f"there is no folder shared/data/{kind} next to the checkout")
    return folder


def write_config(path: Path, root: Path, *settings: str) -> Path:
    """Write a configuration that serves all files of a folder and its subfolders, with optional other settings."""
    common = (
        f"storages: {{here: {{type: local, root: '{root}'}}}}",
        "datasets: [{prefix: '', storage: here}]",
    )
    path.write_text("\n".join([*settings, *common, ""]), encoding="utf-8")
    return path
