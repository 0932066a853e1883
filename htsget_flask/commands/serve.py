"""`htsget-flask serve`: runs gunicorn, and prints the service's address and URLs to try once it listens."""

import contextlib
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cryptography import x509

from htsget_flask import __version__
from htsget_flask.config import Config
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.formats.table import ENDPOINTS
from htsget_flask.server.arbiter import Server, settings
from htsget_flask.services import Services, create_services

# Seconds; a file that takes longer to open ends the search for examples.
_SEARCH_TIMEOUT = 20
# A folder may hold very many files: only the first ones are searched.
_MAX_SEARCHED = 200
_LETTERS = 60
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a URL to connect to, not an address to listen on


class CertificateError(Exception):
    """A certificate or its key cannot be used; the text names the file, the fault and the remedy."""


def check_certificate(certfile: Path, keyfile: Path) -> str | None:
    """A warning about a certificate that clients will refuse because of its dates; None if these are good.

    Checked before the start: gunicorn would fail at each handshake, silently.

    Raises:
        CertificateError: when no server can use the certificate with this key.
    """

    def refuse_password() -> str:
        remedy = "write it without a password by `openssl pkey -in KEY -out FILE`, readable by the service's user only"
        raise CertificateError(f"{keyfile}: the key is encrypted: {remedy}")

    try:
        certificate = x509.load_pem_x509_certificates(certfile.read_bytes())[0]
        # Raises an OSError with the path, which load_cert_chain does not have.
        keyfile.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            commands = "`openssl x509 -noout -pubkey -in CERTIFICATE` and `openssl pkey -pubout -in KEY`"
            fault = f"is not the key of the certificate in {certfile}; for a matching pair {commands} print the same"
        else:
            fault = f"not a key that can be used with {certfile}: {error.reason or 'it is not in PEM form'}"
        raise CertificateError(f"{keyfile}: {fault}") from None
    except ValueError:
        raise CertificateError(f"{certfile}: holds no certificate in PEM form") from None
    except OSError as error:
        fault = f"{error.strerror}: the service's user has to be able to read it"
        raise CertificateError(f"{error.filename}: {fault}") from None
    now = datetime.now(timezone.utc)
    if now >= certificate.not_valid_after_utc:
        return f"{certfile}: the certificate expired at {certificate.not_valid_after_utc}: clients will refuse it"
    if now < certificate.not_valid_before_utc:
        return f"{certfile}: the certificate is not valid before {certificate.not_valid_before_utc}"
    return None


def run_server(
    config: Config,
    *,
    host: str,
    port: int,
    workers: int | None,
    threads: int,
    certificate: tuple[Path, Path] | None,
    echo: Callable[[str], None],
) -> None:
    """Serve a configuration until the process is stopped, by https with a `certificate`: its file, and its key's."""

    def announce_base(arbiter: Any) -> None:
        scheme = "http" if certificate is None else "https"
        address, port = _LOOPBACK.get(host, host), arbiter.LISTENERS[0].sock.getsockname()[1]
        _announce(arbiter, config, config.public_url or f"{scheme}://{_join(address, port)}/", echo)

    options = settings(bind=_join(host, port), workers=workers, threads=threads)
    if certificate is not None:
        options |= zip(("certfile", "keyfile"), map(str, certificate), strict=True)
    Server(config, {**options, "loglevel": "warning", "when_ready": announce_base}).run()


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _announce(arbiter: Any, config: Config, base: str, echo: Callable[[str], None]) -> None:
    """Print the service's URL, and let a process that opens files print examples.

    No file delays the start of the service: one may take hours to open, and hold the interpreter's lock meanwhile.
    gunicorn's first process calls this before it starts workers. It has no threads then, so that it can be forked.
    """
    echo(f"htsget_flask {__version__} serves {base}")
    if os.fork():
        return
    try:
        for number in arbiter.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(_SEARCH_TIMEOUT)
        for listener in arbiter.LISTENERS:
            listener.sock.close()
        if lines := list(_example_lines(config, base)):
            echo("\n".join(["Try:", *lines]))
    except Exception:
        arbiter.log.exception("no example URLs were found")
    finally:
        os._exit(0)


def _example_lines(config: Config, base: str) -> Iterator[str]:
    for url in example_urls(create_services(config), base):
        yield f"  {url}"
        if "?" in url and "/sequence/" not in url:
            tool = "samtools" if "/reads/" in url else "bcftools"
            yield f'  {tool} view "{url}"'


def example_urls(services: Services, base: str) -> Iterator[str]:
    """URLs to try: for each endpoint a ticket, of a region with records if possible, and its service-info.

    Then a listing, if files are listed, and the first letters of a reference sequence.
    """
    sources: list[Source] = []
    with contextlib.suppress(OSError, StorageError):
        sources += islice(services.catalog.sources(), _MAX_SEARCHED)
    for endpoint in ENDPOINTS:
        for source in sources:
            query = _example_query(source, services) if source.format.endpoint == endpoint else None
            if query is not None:
                yield f"{base}{endpoint}/{quote(source.id)}{query}"
                yield f"{base}{endpoint}/service-info"
                break
    files = services.config.files
    if files.listing:
        yield from (f"{base}files/{quote(name)}/" for name in files.storages[:1])
    if md5 := services.sequences.example():
        yield f"{base}sequence/{md5}?start=0&end={_LETTERS}"


def _example_query(source: Source, services: Services) -> str | None:
    """The query for a region of a file; empty for a file that is served whole only, None for one that is not served."""
    try:
        file = DataFile(source, source.storage.stat(source.key))
        with OpenFile(file, services.cache, services.sidecars) as opened:
            opened.tail  # noqa: B018 - a truncated file is no example
            with contextlib.suppress(FileFaultError):
                for name, start, end in opened.example_regions():
                    return "?" + urlencode({"referenceName": name, "start": start, "end": end})
            return ""
    except (ServiceError, FileFaultError, StorageError, OSError):
        return None
