"""Certificates and keys for `serve`, created by openssl."""

import subprocess
from pathlib import Path

import pytest

from htsget_flask.commands.serve import CertificateError, check_certificate
from tests.support.live.fronts import make_certificate
from tests.support.live.tools import run, tool

pytestmark = pytest.mark.live


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    return make_certificate(tmp_path)


class TestCheckCertificate:
    def test_a_pair_is_good(self, pair: tuple[Path, Path]) -> None:
        assert check_certificate(*pair) is None

    def test_the_key_of_another_certificate_is_refused(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        _, other = make_certificate(tmp_path / "other")
        with pytest.raises(CertificateError, match="is not the key of the certificate") as raised:
            check_certificate(pair[0], other)
        assert str(raised.value).startswith(f"{other}: ")

    def test_an_encrypted_key_is_refused_without_a_prompt(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        run("openssl", "pkey", "-in", pair[1], "-aes256", "-passout", "pass:secret", "-out", "locked.pem", cwd=tmp_path)
        with pytest.raises(CertificateError, match=r"locked\.pem: the key is encrypted: .* `openssl pkey "):
            check_certificate(pair[0], tmp_path / "locked.pem")

    @pytest.mark.parametrize(
        "content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    def test_other_files_are_refused(self, pair: tuple[Path, Path], tmp_path: Path, content: str) -> None:
        other = tmp_path / "other.pem"
        other.write_text(content)
        with pytest.raises(CertificateError, match=r"other\.pem: holds no certificate"):
            check_certificate(other, pair[1])
        with pytest.raises(CertificateError, match=r"other\.pem: not a key"):
            check_certificate(pair[0], other)

    @pytest.mark.parametrize("index", [0, 1])
    def test_a_file_that_cannot_be_read_is_refused(self, pair: tuple[Path, Path], index: int) -> None:
        pair[index].unlink()
        with pytest.raises(CertificateError, match=f"{pair[index]}: .*: the service's user has to be able to read it"):
            check_certificate(*pair)

    def test_dates_that_clients_refuse_are_a_warning(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        request = ["openssl", "req", "-new", "-key", str(pair[1]), "-subj", "/CN=127.0.0.1", "-out", "request.pem"]
        subprocess.run(request, cwd=tmp_path, check=True, capture_output=True)
        signing = ("openssl", "x509", "-req", "-in", "request.pem", "-signkey", pair[1])
        run(*signing, "-days", "-1", "-out", "expired.pem", cwd=tmp_path)
        warning = check_certificate(tmp_path / "expired.pem", pair[1])
        assert warning is not None
        assert "expired.pem: the certificate expired at 20" in warning


class TestServe:
    def test_does_not_start_with_the_key_of_another_certificate(
        self, pair: tuple[Path, Path], demo_folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        _, other = make_certificate(tmp_path / "other")
        command = [tool("htsget-flask"), "serve", demo_folder, "--port", "0", "--certfile", pair[0], "--keyfile", other]
        process = subprocess.run(
            [*map(str, command)], capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False
        )
        assert (process.returncode, process.stdout) == (1, b"")
        assert f"{other}: is not the key of the certificate in {pair[0]}" in process.stderr.decode()
