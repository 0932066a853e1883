from pathlib import Path

import pytest

from tests.support.cli import run


@pytest.mark.slow
class TestDemo:
    def test_prints_the_folder(self, demo_folder: Path) -> None:
        result = run("demo", demo_folder)
        assert result.exit_code == 0
        assert str(demo_folder) in result.output


class TestHelp:
    def test_names_every_command(self) -> None:
        output = run("--help").output
        assert all(command in output for command in ("serve", "check", "index", "demo"))
        assert "0.1.0" in run("--version").output
