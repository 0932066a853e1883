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
    """The path of a program: of this environment's own, or installed.

    Where there is none the test is skipped, but on continuous integration, where it would never be missed, it fails.
    """
    # Debian puts servers where only root looks.
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        missing(f"{name} is not installed")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test for the lack of something, or fail on continuous integration."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run(name: str, *arguments: object, cwd: Path) -> str:
    """What a program prints, which has to succeed within a minute, in a folder where it may leave files."""
    command = [tool(name), *map(str, arguments)]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert ended.returncode == 0, (command, ended.stderr.decode(errors="replace")[-2000:])
    return ended.stdout.decode()


def lines(name: str, *arguments: object, cwd: Path) -> list[str]:
    """The lines that a program prints."""
    printed = run(name, *arguments, cwd=cwd)
    # Not splitlines: SAM and VCF may hold other characters that it takes for the ends of lines.
    return printed.removesuffix("\n").split("\n") if printed else []


def view(source: object, *, cwd: Path) -> list[str]:
    """The records of a file, or behind the URL of a ticket, as lines of SAM or VCF."""
    if "/variants/" in str(source) or str(source).endswith((".vcf.gz", ".bcf")):
        return lines("bcftools", "view", "--no-version", "-H", source, cwd=cwd)
    return lines("samtools", "view", source, cwd=cwd)


def real_data(kind: str) -> Path:
    """The folder with files of a kind that other software wrote.

    They are no part of the project: where none lie beside the checkout the test is skipped, and .ci/run says so. Where
    others do, the lack of these is one as of a program.
    """
    folder = DATA / kind
    if not DATA.is_dir():
        pytest.skip("there is no folder shared/data beside the checkout")
    if not folder.is_dir():
        missing(f"there is no folder shared/data/{kind} beside the checkout")
    return folder


def write_config(path: Path, root: Path, *settings: str) -> Path:
    """Write a configuration that serves all files below a folder, with more settings if given."""
    common = (
        f"storages: {{here: {{type: local, root: '{root}'}}}}",
        "datasets: [{prefix: '', storage: here}]",
    )
    path.write_text("\n".join([*settings, *common, ""]), encoding="utf-8")
    return path
