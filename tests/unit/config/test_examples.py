"""The configurations in config/."""

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from htsget_flask.config import Config, ConfigError, S3StorageConfig, describe_risks, folder_config, read_config
from tests.support.config import ROOT, local, reference, reference_with_policy


class TestTheExamplesAreValid:
    def example(self, tmp_path: Path, text: str) -> Config:
        """An example in a folder that has the folders and secrets that it names."""
        path = tmp_path / "config" / "example.yaml"
        path.parent.mkdir()
        path.write_text(text)
        for root in re.findall(r"root: ([\w./-]+)", text):
            (path.parent / root).mkdir(parents=True)
        for secret in re.findall(r"file:([\w./-]+)", text):
            (path.parent / secret).write_text(secrets.token_hex(32))
            (path.parent / secret).chmod(0o600)
        return read_config(path)

    def test_reference(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, reference())
        assert local(config, "lab").root == tmp_path / "config" / "data" / "lab"
        assert not list(describe_risks(config))

    def test_reference_with_a_policy_service(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, reference_with_policy())
        assert config.auth is not None and config.auth.policy is not None and not config.auth.rules
        assert not list(describe_risks(config))

    def test_the_reference_says_that_it_is_one(self) -> None:
        assert reference().startswith("# The reference of all settings")

    def test_the_reference_comes_without_secrets_and_says_how_to_make_them(self) -> None:
        with pytest.raises(ConfigError) as caught:
            read_config(ROOT / "config" / "reference.yaml")
        for line in str(caught.value).splitlines():
            is_folder = ".root: there is no folder" in line
            assert is_folder or ("secret" in line and ("openssl rand -hex 32" in line or "client.secret" in line))

    def test_folder(self, tmp_path: Path) -> None:
        config = self.example(tmp_path, (ROOT / "config" / "folder.yaml").read_text())
        assert config == folder_config(tmp_path / "config" / ".." / "build" / "demo")
        assert not list(describe_risks(config))

    @pytest.mark.parametrize("name", ["lab.yaml", "hospital.yaml"])
    def test_purposes(self, tmp_path: Path, name: str) -> None:
        assert not list(describe_risks(self.example(tmp_path, (ROOT / "config" / name).read_text())))

    @pytest.mark.parametrize("name", ["lab.yaml", "hospital.yaml"])
    def test_settings_in_comments_are_valid(self, tmp_path: Path, name: str) -> None:
        text, count = re.subn(r"(?m)^( *)# (\w+: \S+)$", r"\1\2", (ROOT / "config" / name).read_text())
        assert count == 2
        self.example(tmp_path, text)

    def test_bucket(self) -> None:
        text = (ROOT / "config" / "bucket.yaml").read_text()
        config = read_config(ROOT / "config" / "bucket.yaml")
        storage = config.storages["cohort"]
        assert isinstance(storage, S3StorageConfig)
        assert (storage.bucket, storage.prefix, storage.region) == ("my-bucket", "cohort/", "eu-central-1")
        # The settings in comments are valid too.
        proposed = re.findall(r"^    # (\w+: \S+)$", text, re.M)
        assert len(proposed) == 4
        S3StorageConfig.model_validate({**storage.model_dump(), **yaml.safe_load("\n".join(proposed))})

    def test_gunicorn(self) -> None:
        values: dict[str, Any] = {}
        exec(compile((ROOT / "config" / "gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"), values)
        from gunicorn.config import Config as GunicornConfig

        gunicorn_settings = GunicornConfig().settings
        assert {"bind", "workers", "threads", "worker_class", "secure_scheme_headers"} <= set(values) & set(
            gunicorn_settings
        )
