"""Signed URLs at which a web server delivers files of this machine: nginx checks them with its module secure_link."""

import base64
import hashlib
import time
from urllib.parse import quote, unquote_to_bytes, urlsplit

from htsget_flask.storage import SignedUrl


class SecureLinkSigner:
    """Signs the URLs of files below `base`, which ends with a slash; they are valid for `lifetime` seconds.

    The signature is that of config/nginx.conf: MD5 of the expiry time, the path, a space and the secret.
    """

    def __init__(self, base: str, *, secret: str, lifetime: int) -> None:
        parts = urlsplit(base)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self._base = base
        self._path = unquote_to_bytes(parts.path)
        self._secret = secret.encode()
        self._lifetime = lifetime

    def sign(self, path: bytes, *, etag: str) -> SignedUrl:
        """The URL of the file at a path below the base; `etag` is the web server's ETag for this version."""
        # secure_link signs no header fields: the URL is that of the whole file, and clients send range and version.
        expires = int(time.time()) + self._lifetime
        signed = b"%d%b%b %b" % (expires, self._path, path, self._secret)
        # secure_link supports MD5 only; the secret and the fixed layout protect the URL.
        digest = hashlib.md5(signed, usedforsecurity=False).digest()
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return SignedUrl(f"{self._base}{quote(path)}?md5={signature}&expires={expires}", {"If-Match": etag})
