"""Signed URLs: what names all that decides over an answer, and a time, with a proof that this server wrote it."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_QUERY = re.compile(r"(?:.*&)?expires=([0-9]{1,12})&signature=([A-Za-z0-9_-]{43})(?:&.*)?", re.ASCII)
# For a part of its life a URL is handed out again: what is kept of a ticket, and browsers' caches, stay of use.
_SHARE_HANDED_OUT = 0.25

Parts = tuple[str, ...]


class UrlSigner:
    """HMAC-SHA256 over parts of texts and a time; the first secret signs, all of them verify.

    URLs are good for `lifetime` seconds, some for up to a quarter less.
    """

    def __init__(self, secrets: Sequence[str], lifetime: int, *, clock: Callable[[], float] = time.time) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._window = max(1, int(lifetime * _SHARE_HANDED_OUT))
        self._lifetime = lifetime
        self._clock = clock
        self._seals = MultiFernet([Fernet(_sealing_key(secret)) for secret in self._secrets])

    def expiry(self) -> int:
        """When URLs that are signed now end, in seconds since the epoch: the same for a while."""
        now = int(self._clock())
        return now - now % self._window + self._lifetime

    def sign(self, *parts: str, expires: int) -> str:
        """The query that proves these parts until a time."""
        return f"expires={expires}&signature={_signature(self._secrets[0], parts, str(expires))}"

    def is_signed(self, query: str, *parts: str) -> bool:
        """Whether a query proves these parts now."""
        found = _QUERY.fullmatch(query)
        # A time that is written in another way is another text: it would need a signature of its own.
        if found is None or int(found[1]) < self._clock() or query.count("signature=") > 1:
            return False
        given = found[2].encode()
        matches = [hmac.compare_digest(_signature(secret, parts, found[1]).encode(), given) for secret in self._secrets]
        return any(matches)

    def seal(self, text: str) -> str:
        """The text encrypted, for URLs: a name that may be handed out, but not be known."""
        return self._seals.encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """The text that was sealed.

        Raises:
            ValueError: when it was not sealed here.
        """
        try:
            return self._seals.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise ValueError("this was not sealed here") from None


def _sealing_key(secret: bytes) -> bytes:
    """A key of its own for each purpose."""
    return base64.urlsafe_b64encode(hmac.digest(secret, b"places in lists", hashlib.sha256))


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockName:
    """The name of a data block: all that decides over its bytes. `block` is its segment of the URL's path."""

    storage: str
    key: str
    etag: str
    block: str
    endpoint: str
    format_name: str
    dataset_id: str

    @property
    def parts(self) -> Parts:
        """The texts that are signed."""
        name = (self.storage, self.key, self.etag, self.block, self.endpoint, self.format_name, self.dataset_id)
        return ("block", *name)


def file_parts(storage: str, key: str) -> Parts:
    """What names a plain file."""
    return ("file", storage, key)


def sizes_parts(dataset_id: str, endpoints: Sequence[str]) -> Parts:
    """What names the table of the references of a dataset's files at some endpoints."""
    return ("sizes", dataset_id, *endpoints)


def names_signature(query: str) -> bool:
    """Whether a query has a signature, good or not."""
    return "signature=" in query


def _signature(secret: bytes, parts: Sequence[str], expires: str) -> str:
    # With their lengths: no two lists of parts are the same bytes.
    signed = "".join(f"{len(part)}:{part}" for part in (*parts, expires)).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=").decode()
