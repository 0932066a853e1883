"""The configurations in config/."""

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from htsget_flask.config import Config, ConfigError, S3StorageConfig, folder_config, read_config
from htsget_flask.config.models import FilesConfig, RefgetConfig
from tests.support.config import local

ROOT = Path(__file__).parents[3]


class TestTheExamplesAreValid:
    def example(self, tmp_path: Path, name: str) -> Config:
        """An example read where the secrets that it names were made, as it says."""
        path = tmp_path / name
        path.write_text((ROOT / "config" / name).read_text())
        for root in re.findall(r"root: ([\w.-]+)", path.read_text()):
            (tmp_path / root).mkdir()
        for secret in re.findall(r"file:([\w.-]+)", path.read_text()):
            (tmp_path / secret).write_text(secrets.token_hex(32))
            (tmp_path / secret).chmod(0o600)
        return read_config(path)

    def test_example(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, "example.yaml")
        assert local(config, "lab").root == tmp_path / "lab"
        assert not config.remarks

    def test_policy(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, "policy.yaml")
        assert config.auth is not None and config.auth.policy is not None
        assert not config.remarks

    @pytest.mark.parametrize("name", ["example.yaml", "policy.yaml"])
    def test_they_come_without_secrets_and_say_how_to_make_them(self, name: str) -> None:
        with pytest.raises(ConfigError) as caught:
            read_config(ROOT / "config" / name)
        for line in str(caught.value).splitlines():
            assert "secret" in line and ("openssl rand -hex 32" in line or "client.secret" in line)

    def test_minimal(self, tmp_path: Path) -> None:
        text = (ROOT / "config" / "minimal.yaml").read_text()
        path = tmp_path / "minimal.yaml"
        path.write_text(text.replace("/data", str(tmp_path)))
        # A folder of one's own is opened as it is; a configuration has to say so.
        assert read_config(path) == folder_config(tmp_path).model_copy(
            update={"files": FilesConfig(), "refget": RefgetConfig()}
        )

    def test_s3(self) -> None:
        text = (ROOT / "config" / "s3.yaml").read_text()
        config = read_config(ROOT / "config" / "s3.yaml")
        storage = config.storages["cohort"]
        assert isinstance(storage, S3StorageConfig)
        assert (storage.bucket, storage.prefix, storage.region) == ("my-bucket", "cohort/", "eu-central-1")
        # What stands there in comments is valid too.
        proposed = re.findall(r"^    # (\w+: \S+)$", text, re.M)
        assert len(proposed) == 4
        S3StorageConfig.model_validate({**storage.model_dump(), **yaml.safe_load("\n".join(proposed))})

    def test_gunicorn(self) -> None:
        values: dict[str, Any] = {}
        exec(compile((ROOT / "config" / "gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"), values)
        from gunicorn.config import Config as GunicornConfig

        known = GunicornConfig().settings
        assert {"bind", "workers", "threads", "worker_class", "secure_scheme_headers"} <= set(values) & set(known)
