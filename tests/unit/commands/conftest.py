import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the example data that a test may change."""
    shutil.copytree(demo_folder, tmp_path / "data", copy_function=shutil.copy2)
    return tmp_path / "data"
