"""Configurations of tests: their faults, and their storages."""

from pathlib import Path

import pytest

from htsget_flask.config import Config, ConfigError, LocalStorageConfig, read_config


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
