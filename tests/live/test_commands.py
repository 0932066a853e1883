"""Commands run by a user without the right to read and write everything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.live.tools import tool


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run `htsget-flask` without root's capability to ignore the permissions of files."""
    prefix = []
    if os.geteuid() == 0:
        prefix = [tool("setpriv"), "--bounding-set=-dac_override,-dac_read_search", "--"]
    command = [*prefix, tool("htsget-flask"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def folder(demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the example data without indexes, with a file and folders that cannot be read."""
    copy = shutil.copytree(demo_folder, tmp_path / "data")
    for name in ("NA00001.bam.bai", "cohort.bcf.csi", "demo.fa.fai"):
        (copy / name).unlink()
    shutil.copy2(copy / "NA00001.bam", copy / "A.bam")
    (copy / "A.bam").chmod(0)
    (copy / "closed").mkdir(mode=0)
    shutil.copytree(demo_folder, copy / "shut")
    (copy / "shut").chmod(0o644)
    return copy


def test_index_builds_all_others(folder: Path) -> None:
    process = run("index", folder)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stdout == "3 indexes built, 1 failed\n"
    assert (
        f"Error: {folder}/A.bam: it cannot be read: Permission denied; run this as a user that may read it"
        in process.stderr
    )
    assert all((folder / name).exists() for name in ("NA00001.bam.bai", "cohort.bcf.csi", "demo.fa.fai"))


def test_index_in_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.chmod(0o555)
    process = run("index", folder)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stdout == "0 indexes built, 3 failed\n"
    assert f"{folder}/NA00001.bam.bai: no index can be built: its folder cannot be written" in process.stderr


def test_check_reports_what_cannot_be_read(folder: Path) -> None:
    run("index", folder)
    process = run("check", folder)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    denied = "error: it cannot be read: Permission denied; give the server's user the right to read it"
    assert f"{denied} [{folder}/A.bam]" in process.stdout
    for name, verb in (("closed", "listed"), ("shut", "entered")):
        reason = f"error: cannot be {verb}, so nothing in it is served"
        assert f"FAILED {folder}/{name}\n       {reason}" in process.stdout
    assert process.stdout.count("give the server's user the rights to list and to enter it") == 2
    assert "ok     /reads/NA00001 BAM" in process.stdout
    assert "8 files, 3 of them cannot be served" in process.stdout


@pytest.mark.parametrize("name", ["closed", "file/below", "closed/below"])
def test_demo_in_a_folder_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "file").touch()
    process = run("demo", tmp_path / name)
    assert process.returncode == 1
    assert process.stderr.startswith(f"Error: {tmp_path / name}: ")
    assert "choose a folder that can be written" in process.stderr
    assert "Traceback" not in process.stderr
