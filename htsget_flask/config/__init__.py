"""The configuration; only this package knows pydantic and YAML."""

from htsget_flask.config.auth import (
    AuthConfig,
    ClaimConfig,
    IntrospectionConfig,
    IssuerConfig,
    RuleConfig,
    SignerConfig,
)
from htsget_flask.config.cross_checks import describe_risks, exposing_faults
from htsget_flask.config.datasets import DatasetConfig, GenomeConfig, PrefixConfig, TrackConfig
from htsget_flask.config.loading import ConfigError, default_cache_folder, folder_config, read_config
from htsget_flask.config.models import Config, HtsgetConfig, RefgetConfig, RefgetFastaConfig
from htsget_flask.config.storages import LocalStorageConfig, S3StorageConfig, StorageConfig
from htsget_flask.config.types import is_url, web_origin

__all__ = [
    "AuthConfig",
    "ClaimConfig",
    "Config",
    "ConfigError",
    "DatasetConfig",
    "GenomeConfig",
    "HtsgetConfig",
    "IntrospectionConfig",
    "IssuerConfig",
    "LocalStorageConfig",
    "PrefixConfig",
    "RefgetConfig",
    "RefgetFastaConfig",
    "RuleConfig",
    "S3StorageConfig",
    "SignerConfig",
    "StorageConfig",
    "TrackConfig",
    "default_cache_folder",
    "describe_risks",
    "exposing_faults",
    "folder_config",
    "is_url",
    "read_config",
    "web_origin",
]
