"""Signed URLs: an expiry time and a signature over everything that determines the answer."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

# Other parameters may surround these: igv.js adds one.
_QUERY = re.compile(r"(?:.*&)?expires=([0-9]{1,12})&signature=([A-Za-z0-9_-]{43})(?:&.*)?", re.ASCII)
# The share of its lifetime in which a URL is reused, so that cached tickets and browsers' caches stay valid.
_REUSE_SHARE = 0.25

Parts = tuple[str, ...]


class UrlSigner:
    """Signs parts of texts and an expiry time by HMAC-SHA256; the first secret signs, all of them verify.

    URLs are valid for `lifetime` seconds, some for up to a quarter less.
    """

    def __init__(self, secrets: Sequence[str], lifetime: int, *, clock: Callable[[], float] = time.time) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._window = max(1, int(lifetime * _REUSE_SHARE))
        self._lifetime = lifetime
        self._clock = clock
        # Keys for sealing alone: signatures use the secrets themselves.
        keys = [hmac.digest(secret, b"places in lists", hashlib.sha256) for secret in self._secrets]  # words: ok
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])

    def expiry(self) -> int:
        """The expiry of URLs that are signed now, in seconds since the epoch; the same for a while."""
        now = int(self._clock())
        return now - now % self._window + self._lifetime

    def sign(self, *parts: str, expires: int) -> str:
        """The query that signs these parts until `expires`."""
        return f"expires={expires}&signature={_signature(self._secrets[0], parts, str(expires))}"

    def is_signed(self, query: str, *parts: str) -> bool:
        """Whether a query has a valid signature of these parts that has not expired."""
        match = _QUERY.fullmatch(query)
        # The text of the time is signed: the same time with leading zeros needs another signature.
        if match is None or int(match[1]) < self._clock() or query.count("signature=") > 1:
            return False
        given = match[2].encode()
        matches = [hmac.compare_digest(_signature(secret, parts, match[1]).encode(), given) for secret in self._secrets]
        return any(matches)

    def seal(self, text: str) -> str:
        """The text encrypted, for URLs that must not reveal it."""
        return self._fernet.encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """The text that was sealed.

        Raises:
            ValueError: when the text was not sealed with one of the secrets.
        """
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise ValueError("the text was not sealed here") from None


def block_parts(
    *, storage: str, key: str, etag: str, block: str, endpoint: str, format_name: str, dataset_id: str
) -> Parts:
    """The parts that name a data block: all that decides over its bytes. `block` is its segment of the URL's path."""
    return ("block", storage, key, etag, block, endpoint, format_name, dataset_id)


def file_parts(storage: str, key: str) -> Parts:
    """The parts that name a plain file."""
    return ("file", storage, key)


def sizes_parts(dataset_id: str, endpoints: Sequence[str]) -> Parts:
    """The parts that name the table of references of a dataset's files at some endpoints."""
    return ("sizes", dataset_id, *endpoints)


def has_signature(query: str) -> bool:
    """Whether a query has a signature, valid or not."""
    return "signature=" in query


def _signature(secret: bytes, parts: Sequence[str], expires: str) -> str:
    # With their lengths, so that different parts are never the same bytes.
    signed = "".join(f"{len(part)}:{part}" for part in (*parts, expires)).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=").decode()
