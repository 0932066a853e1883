"""nginx and Apache in front of gunicorn, with the files of `config/`: only paths and ports are changed."""

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.client import Response
from tests.support.live.server import Server, begin, end, free_port, running, wait_until
from tests.support.live.tools import ROOT, run, tool

_STARTED_WITHIN = 15.0
_APACHE_MODULES = (
    *("mpm_event", "authz_core", "env", "ssl", "socache_shmcb", "headers", "deflate", "filter", "mime"),
    *("proxy", "proxy_http", "unique_id", "xsendfile"),
)


@dataclass(frozen=True)
class Front:
    """A web server with TLS and its backend, gunicorn, which clients can also reach; both write to `folder`."""

    url: str
    plain_port: int
    certificate: Path
    backend: Server
    folder: Path
    has_direct_urls: bool

    def trust(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment variables that make clients trust the certificate."""
        for name in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(self.certificate))

    def connect(self) -> HTTPSConnection:
        """A connection to the web server."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        return HTTPSConnection(urlsplit(self.url).netloc, timeout=30, context=context)

    def ask(self, method: str, target: str, **headers: str) -> Response:
        """Send a request to the web server over a new connection; `_` in header names stands for `-`."""
        return self._send(method, target, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET request."""
        return self._send("GET", url, None, headers or {})

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """Send a POST request."""
        return self._send("POST", url, body, headers or {})

    def _send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        connection = self.connect()
        try:
            connection.request(method, target.removeprefix(self.url), body, headers)
            return _read(connection.getresponse())
        finally:
            connection.close()

    def was_sent_by_front(self, path: str) -> bool:
        """Whether the web server sent the body of the last answer to this path, in place of gunicorn."""
        lines = (self.folder / "access").read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.startswith(f"{path} ")][-1] != f"{path} - -"


def _read(response: HTTPResponse) -> Response:
    """The answer; no header but Vary may occur twice."""
    fields = [(name.lower(), value) for name, value in response.getheaders()]
    names = [name for name, _ in fields if name != "vary"]
    assert len(names) == len(set(names)), fields
    return Response(response.status, dict(fields), response.read())


@contextmanager
def gunicorn(folder: Path, socket: Path, config: Path) -> Iterator[Server]:
    """gunicorn with the settings of `config/`, on a Unix socket and on a port."""
    port = free_port()
    command = [tool("gunicorn"), "-c", ROOT / "config" / "gunicorn.conf.py", "--chdir", ROOT, "wsgi:app"]
    binds = ["--bind", f"unix:{socket}", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    access_log = [
        "--access-logfile",
        folder / "access",
        "--access-logformat",
        "%(U)s %({x-accel-redirect}o)s %({x-sendfile}o)s",
    ]
    environment = {"HTSGET_FLASK_CONFIG": str(config), "XDG_CACHE_HOME": str(folder / "cache")}
    with running([*command, *binds, *access_log], folder=folder, port=port, environment=environment) as server:
        yield server


@contextmanager
def nginx(
    folder: Path,
    config: Path,
    roots: Mapping[str, Path],
    *,
    port: int | None = None,
    secret: str | None = None,
    level: str = "emerg",
) -> Iterator[Front]:
    """nginx with `config/nginx.conf` in front of gunicorn.

    `roots` are the folders of the storages by name. `level` is the least of errors that are logged for signed requests.
    """
    tool("nginx")
    certificate, key = make_certificate(folder)
    port, plain_port = port or free_port(), free_port()
    if secret is not None:
        (folder / "secret.conf").write_text(f'default "{secret}";', encoding="utf-8")
    with open_folder() as sockets:
        socket = sockets / "htsget"
        site = _adapt(
            "nginx.conf",
            {
                "unix:/run/htsget/htsget.sock": f"unix:{socket}",
                "lab /srv/htsget;": " ".join(f"{name} {root};" for name, root in roots.items()),
                "/etc/nginx/htsget_secret*": f"{folder}/secret*",
                "/etc/ssl/certs/htsget.pem": str(certificate),
                "/etc/ssl/private/htsget.key": str(key),
                "/var/log/nginx/htsget.log": f"{folder}/requests",
                "/var/log/nginx/htsget_error.log emerg;": f"{folder}/errors {level};",
                "/var/log/nginx/htsget_error.log;": f"{folder}/errors;",
                "listen 80;": f"listen 127.0.0.1:{plain_port};",
                "listen 443 ": f"listen 127.0.0.1:{port} ",
            },
        )
        (folder / "site.conf").write_text(site, encoding="utf-8")
        user = f"user {_user()};" if _user() else ""
        (folder / "main.conf").write_text(
            f"{user} worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/errors;\n"
            # Debian's own settings.
            "events { worker_connections 768; }\n"
            "http { sendfile on; tcp_nopush on; gzip on; default_type application/octet-stream; access_log off;\n"
            f"include /etc/nginx/mime.types; {_temp_paths(folder)} include {folder}/site.conf; }}\n",
            encoding="utf-8",
        )
        command = [tool("nginx"), "-p", folder, "-c", folder / "main.conf", "-e", folder / "errors"]
        with gunicorn(folder, socket, config) as backend:
            front = Front(f"https://127.0.0.1:{port}", plain_port, certificate, backend, folder, has_direct_urls=True)
            with _started(command, front):
                yield front


@contextmanager
def apache(folder: Path, config: Path, roots: Mapping[str, Path]) -> Iterator[Front]:
    """Apache with `config/apache.conf` in front of gunicorn; `roots` are the folders of the storages by name."""
    tool("apache2")
    certificate, key = make_certificate(folder)
    port = free_port()
    modules = Path("/usr/lib/apache2/modules")
    for name in _APACHE_MODULES:
        if not (modules / f"mod_{name}.so").exists():
            tool(f"Apache's mod_{name}")
    with open_folder() as sockets:
        socket = sockets / "htsget"
        site = _adapt(
            "apache.conf",
            {
                "unix:/run/htsget/htsget.sock": f"unix:{socket}",
                "XSendFilePath /srv/htsget": "\n    ".join(f"XSendFilePath {root}" for root in roots.values()),
                "/etc/ssl/certs/htsget.pem": str(certificate),
                "/etc/ssl/private/htsget.key": str(key),
                "/var/log/apache2/htsget.log": f"{folder}/requests",
                "<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{port}>",
            },
        )
        user = f"User {_user()}\nGroup {_user()}\n" if _user() else ""
        loaded = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in _APACHE_MODULES)
        (folder / "main.conf").write_text(
            f"{loaded}{user}ServerRoot {folder}\nServerName 127.0.0.1\nListen 127.0.0.1:{port} https\n"
            f"PidFile {folder}/pid\nErrorLog {folder}/errors\nDefaultRuntimeDir {folder}\nMutex file:{folder}\n"
            f"TypesConfig /etc/mime.types\nAddOutputFilterByType DEFLATE text/plain application/json\n{site}",
            encoding="utf-8",
        )
        command = [tool("apache2"), "-f", folder / "main.conf", "-DFOREGROUND"]
        with gunicorn(folder, socket, config) as backend:
            front = Front(f"https://127.0.0.1:{port}", 0, certificate, backend, folder, has_direct_urls=False)
            with _started(command, front):
                yield front


@contextmanager
def plain_nginx(folder: Path, locations: str, *, settings: str = "") -> Iterator[Server]:
    """nginx without TLS, with one worker and one server that has these `locations`; `settings` are those of http."""
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"""
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log stderr warn;
events {{}}
http {{
    {_temp_paths(folder)}
    access_log off;
    {settings}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
""",
        encoding="utf-8",
    )
    command = [tool("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
    with running(command, folder=folder, port=port) as server:
        yield server


def _temp_paths(folder: Path) -> str:
    """nginx's settings for temporary files in a folder."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that all users may read; its path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def _user() -> str:
    """The user of the workers that root starts: Debian's web servers use the same one."""
    return "www-data" if os.geteuid() == 0 else ""


def _adapt(name: str, replacements: Mapping[str, str]) -> str:
    """A file of `config/` with its paths and ports replaced; it must contain each of them."""
    text = (ROOT / "config" / name).read_text(encoding="utf-8")
    for old, new in replacements.items():
        assert old in text, (name, old)
        text = text.replace(old, new)
    return text


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    run("openssl", "req", "-x509", *kind, *names, "-keyout", key, "-out", certificate, cwd=folder)
    return certificate, key


@contextmanager
def _started(command: list[object], front: Front) -> Iterator[None]:
    """Run a web server until the end of the context."""
    with (front.folder / "front").open("wb") as output:
        process = begin(command, cwd=front.folder, stdout=output, stderr=output)

    def answers() -> bool:
        try:
            return front.ask("GET", "/health").status == 200
        except (OSError, HTTPException):
            return False

    try:
        started = wait_until(lambda: process.poll() is not None or answers(), seconds=_STARTED_WITHIN)
        logs = [path for path in (front.folder / "front", front.folder / "errors") if path.exists()]
        assert started and process.poll() is None, [log.read_text() for log in logs]
        yield
    finally:
        end(process)
