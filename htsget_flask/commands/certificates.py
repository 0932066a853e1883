"""The certificate and the key of `serve`, checked before it starts: gunicorn would fail at each handshake, silently."""

import ssl
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509


class CertificateError(Exception):
    """A certificate or its key cannot be used; the text names the file, the fault and the remedy."""


class _EncryptedKeyError(Exception):
    """OpenSSL needs a password, for which it would prompt."""


def check_certificate(certfile: Path, keyfile: Path) -> str | None:
    """A warning about a certificate that clients will refuse because of its dates; None if these are good.

    Raises:
        CertificateError: when no server can use the certificate with this key.
    """
    text = _read(certfile)
    _read(keyfile)
    try:
        certificate = x509.load_pem_x509_certificates(text)[0]
    except ValueError:
        raise CertificateError(f"{certfile}: holds no certificate in PEM form") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, _refuse_password)
    except _EncryptedKeyError:
        remedy = "write it without a password by `openssl pkey -in KEY -out FILE`, readable by the service's user only"
        raise CertificateError(f"{keyfile}: the key is encrypted: {remedy}") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            commands = "`openssl x509 -noout -pubkey -in CERTIFICATE` and `openssl pkey -pubout -in KEY`"
            raise CertificateError(
                f"{keyfile}: is not the key of the certificate in {certfile}; for a matching pair {commands} print the"
                " same"
            ) from None
        reason = error.reason or "it is not in PEM form"
        raise CertificateError(f"{keyfile}: not a key that can be used with {certfile}: {reason}") from None
    now = datetime.now(timezone.utc)
    if now >= certificate.not_valid_after_utc:
        return f"{certfile}: the certificate expired at {certificate.not_valid_after_utc}: clients will refuse it"
    if now < certificate.not_valid_before_utc:
        return f"{certfile}: the certificate is not valid before {certificate.not_valid_before_utc}"
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}: the service's user has to be able to read it") from None


def _refuse_password() -> str:
    raise _EncryptedKeyError
