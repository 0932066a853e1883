"""The certificate and the key of `serve`, checked before it starts: gunicorn would fail at each handshake, silently."""

import ssl
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509


class CertificateError(Exception):
    """A certificate or its key cannot be used; the text names the file, the fault and the remedy."""


def check_certificate(certfile: Path, keyfile: Path) -> str | None:
    """A warning about a certificate that clients will refuse because of its dates; None if these are good.

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
