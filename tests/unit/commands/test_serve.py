from pathlib import Path

import pytest

from tests.support.cli import run

pytestmark = pytest.mark.slow


class TestServe:
    @pytest.mark.parametrize("is_link", [False, True])
    def test_private_keys_that_could_be_fetched_are_refused(self, folder: Path, tmp_path: Path, is_link: bool) -> None:
        key, certificate = folder / "key.pem", folder / "cert.pem"
        key.write_text("a private key")
        certificate.write_text("a certificate")
        if is_link:
            (tmp_path / "link.pem").symlink_to(key)
            key = tmp_path / "link.pem"
        result = run("serve", folder, "--certfile", certificate, "--keyfile", key)
        assert result.exit_code == 1
        assert f"files.storages[0]: {key} lies in this storage, and could be fetched" in result.output
