"""Configurations of tests, and the reference of all settings in config/."""

import re
from pathlib import Path

import pytest

from htsget_flask.config import Config, ConfigError, LocalStorageConfig, read_config

ROOT = Path(__file__).parents[2]


def faults(tmp_path: Path, text: str) -> list[str]:
    """The faults of a configuration with this YAML, without the file's name."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def local(config: Config, name: str) -> LocalStorageConfig:
    """The settings of a storage in a folder."""
    storage = config.storages[name]
    assert isinstance(storage, LocalStorageConfig)
    return storage


def reference() -> str:
    """The text of the reference of all settings, with its rules."""
    return (ROOT / "config" / "reference.yaml").read_text()


def reference_with_policy() -> str:
    """The same text with the policy service of its last comments instead of the rules."""
    text, _, rules = reference().partition("  # The first rule that matches")
    return text + re.sub(r"(?m)^  # ", "  ", rules[rules.index("  # policy:") :])
