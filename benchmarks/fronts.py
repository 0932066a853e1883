"""nginx with `config/nginx.conf` in front of the project's server, without TLS, which would cost more than all else."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.client import Connection, get
from benchmarks.servers import Process, nginx_command, running

SECRET = "of-no-use-outside-of-benchmarks"


def configuration(folder: Path, front_port: int) -> Path:
    """A configuration for the files in `folder`/data: sent by the server, and below `direct/` by direct URLs."""
    local = {"type": "local", "root": str(folder / "data")}
    direct = {"url": f"http://127.0.0.1:{front_port}/raw/direct/", "secret": SECRET}
    content = {
        "trusted_proxies": 1,
        "storages": {"data": {**local, "sendfile": "x-accel"}, "direct": {**local, **direct}},
        "datasets": [{"prefix": "direct/", "storage": "direct"}, {"prefix": "", "storage": "data"}],
        "files": {"storages": ["data"]},
        "cache": {"folder": str(folder / "cache")},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content))
    return path


@contextlib.contextmanager
def front(folder: Path, server: Process, port: int) -> Iterator[Process]:
    """nginx with one worker in front of the server; its own files go below `folder`."""
    own = folder / f"front-{port}"
    own.mkdir()
    (own / "secret").write_text(f'default "{SECRET}";')
    # Longer texts first, so that no replacement is replaced again.
    replacements = {
        "unix:/run/htsget/htsget.sock": f"127.0.0.1:{server.port}",
        "lab /srv/htsget;": f"data {folder}/data; direct {folder}/data;",
        "/etc/nginx/htsget_secret*": f"{own}/secret",
        "listen 80;": f"listen unix:{own}/plain;",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port};",
        "ssl_certificate /etc/ssl/certs/htsget.pem;": "",
        "ssl_certificate_key /etc/ssl/private/htsget.key;": "",
        "access_log /var/log/nginx/htsget.log htsget;": "",
        "/var/log/nginx/htsget_error.log": f"{own}/errors",
    }
    text = (Path(__file__).parents[1] / "config" / "nginx.conf").read_text()
    for old, new in replacements.items():
        if old not in text:
            raise AssertionError(f"config/nginx.conf has no {old!r}")
        text = text.replace(old, new)
    user = "user root;" if os.getuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {own}/{kind};" for kind in kinds)
    config = own / "nginx.conf"
    config.write_text(
        f"{user} worker_processes 1; daemon off; pid {own}/pid; error_log {own}/errors;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; keepalive_requests 1000000; {temporary}\n{text}\n}}\n"
    )
    command = [nginx_command() or "nginx", "-c", str(config), "-p", str(own)]
    with running(command, port=port, probe="/health", folder=own, environment={}) as process:
        yield process


def direct_target(server: Process) -> tuple[str, Sequence[str]]:
    """The direct URL of the sample, without its host, and the header fields that go with it, from a real ticket."""
    with Connection(server.port) as connection:
        answer = connection.exchange(get("/reads/direct/sample"))
    entries = json.loads(answer.body)["htsget"]["urls"]
    entry = next(entry for entry in entries if "/raw/" in entry["url"])
    parts = urlsplit(entry["url"])
    fields = [f"{name}: {value}" for name, value in entry["headers"].items() if name != "Range"]
    return f"{parts.path}?{parts.query}", fields
