"""htsjdk, from Maven Central; cached in build/."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.live.tools import ROOT, run

_SOURCES = ROOT / "tests" / "live" / "htsjdk"
_JARS = ROOT / "build" / "htsjdk"

# The variables before the tests change them: Maven may need a proxy.
_ENVIRONMENT = dict(os.environ)


def view(*arguments: object, cwd: Path) -> list[str]:
    """The reads that htsjdk prints of an htsget URL, or of a region (1-based, closed) of it.

    Skips the test without Java, Maven or their network, also on continuous integration, which has none of them.
    """
    printed = run("java", "-cp", f"{_jars()}/*", _SOURCES / "View.java", *arguments, cwd=cwd)
    return printed.removesuffix("\n").split("\n") if printed else []


def _jars() -> Path:
    """The folder of htsjdk's classes."""
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not _JARS.is_dir():
        _JARS.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_JARS.parent) as folder:
            shutil.copy(_SOURCES / "pom.xml", folder)
            fetched = subprocess.run(
                ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"],
                cwd=folder,
                env={**_ENVIRONMENT, "HOME": pwd.getpwuid(os.getuid()).pw_dir},
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=180,
                check=False,
            )
            if fetched.returncode:
                pytest.skip(f"Maven cannot fetch htsjdk: {fetched.stdout.decode(errors='replace')[-500:]}")
            Path(folder, "jars").rename(_JARS)
    return _JARS
