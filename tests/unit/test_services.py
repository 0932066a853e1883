import time
from pathlib import Path

from htsget_flask.config import read_config
from htsget_flask.services import cap_url_lifetime, create_services


def test_signed_urls_of_storages_live_no_longer_than_ones_of_this_server(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "sample.bam").touch()
    path = tmp_path / "config.yaml"
    storage = f"{{type: local, root: '{folder}', url: 'https://a.example/', secret: a-secret-0123456789}}"
    s3 = "{type: s3, bucket: some-bucket, region: eu-west-1, expires: 90000}"
    auth = "{secrets: [a-secret-0123456789], expires: 600, rules: [{ids: ['*'], public: true}]}"
    common = f"storages: {{data: {storage}, far: {s3}}}\ndatasets: [{{prefix: '', storage: data}}]\n"
    path.write_text(common)
    assert _lifetimes(path) == (86_400, 90_000)
    path.write_text(f"{common}auth: {auth}\n")
    assert _lifetimes(path) == (600, 600)


def _lifetimes(path: Path) -> tuple[int, int]:
    """How long URLs of both storages are valid, in seconds."""
    config = read_config(path)
    storages = create_services(config).storages
    now = time.time()
    signed = storages["data"].signed_url("sample.bam", storages["data"].stat("sample.bam"))
    assert signed is not None
    expires = int(signed.url.rpartition("expires=")[2])
    longest = None if config.auth is None else config.auth.expires
    return 10 * round((expires - now) / 10), cap_url_lifetime(config.storages["far"], longest).expires
