"""The configuration, which every other module takes as given; only this package knows pydantic and YAML."""

from htsget_flask.config.models import (
    Config,
    DatasetConfig,
    GenomeConfig,
    HtsgetConfig,
    LocalStorageConfig,
    PrefixConfig,
    RefgetConfig,
    RefgetFastaConfig,
    S3StorageConfig,
    TrackConfig,
    is_url,
)
from htsget_flask.config.reading import ConfigError, default_cache_folder, folder_config, read_config

__all__ = [
    "Config",
    "ConfigError",
    "DatasetConfig",
    "GenomeConfig",
    "HtsgetConfig",
    "LocalStorageConfig",
    "PrefixConfig",
    "RefgetConfig",
    "RefgetFastaConfig",
    "S3StorageConfig",
    "TrackConfig",
    "default_cache_folder",
    "folder_config",
    "is_url",
    "read_config",
]
