"""Public keys of issuers: JSON Web Key Sets (RFC 7517), fetched on demand and cached for a short time."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from htsget_flask.auth.http_client import UpstreamError
from htsget_flask.errors import ServiceUnavailable

log = logging.getLogger(__name__)

# The algorithm of each kind of key: a token must not choose how its signature is verified.
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_MIN_RSA_BITS = 2048
# All in s. How long a key set is used when no newer one is available.
_MAX_AGE = 3600.0
# Between a failure and the next try, if the interval is longer.
_RETRY_INTERVAL = 60.0
# The longest duration of a fetch.
_MAX_FETCH_SECONDS = 10.0
# How long a request waits for a key set that another thread fetches.
_FETCH_TIMEOUT = 1.0
_UNAVAILABLE = "the issuer's signing keys are unavailable"


class SigningKey(NamedTuple):
    """A public key, and the SHA-256 of its encoding (SubjectPublicKeyInfo, DER)."""

    jwk: jwt.PyJWK
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _KeySet:
    """Keys by algorithm and id, with the time of their fetch."""

    keys: Mapping[str, Mapping[str | None, SigningKey]]
    fingerprints: frozenset[bytes]
    fetched: float


class Keys:
    """The keys of one issuer, for the algorithms that it may sign with.

    `fetch` returns the key set as JSON within ten seconds, or raises UpstreamError or OSError. A key set that is older
    than `interval` seconds is fetched again before it is used, by one thread. While that thread fetches, the others use
    the earlier set for up to ten seconds more; without a set they wait for at most one second. If the fetch fails, the
    earlier set is used until it is an hour old, and the next try is `interval` seconds later, or a minute if that is
    less. Age alone triggers a fetch, an unknown key does not: `interval` bounds how long a new key is unknown, how long
    a removed one is trusted, and how many fetches forged tokens cause.
    """

    def __init__(
        self,
        fetch: Callable[[], Any],
        algorithms: Sequence[str],
        *,
        issuer: str,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._algorithms = algorithms
        self._issuer = issuer
        self._interval = min(interval, _MAX_AGE)
        self._clock = clock
        # Held by the thread that fetches. No other thread waits for it longer than `_FETCH_TIMEOUT`.
        self._fetching = threading.Lock()
        self._newest: _KeySet | None = None
        self._due = clock()
        self._failed = False

    def find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        """The key with this id for this algorithm, or without an id the only one; None if there is none.

        Raises:
            ServiceUnavailable: when the key set is unavailable.
        """
        if algorithm not in self._algorithms:
            return None
        key = _pick(self._current(), key_id, algorithm)
        if key is None and self._fetching.locked():
            # The key may be in the set that another thread is fetching.
            self._await_fetch()
            key = _pick(self._current(), key_id, algorithm)
        if key is None and self._failed:
            raise ServiceUnavailable(_UNAVAILABLE)
        return key

    def trusts(self, fingerprint: bytes) -> bool:
        """Whether the key with this fingerprint is still in the issuer's key set.

        Raises:
            ServiceUnavailable: when the key set is unavailable.
        """
        return fingerprint in self._current().fingerprints

    def _current(self) -> _KeySet:
        now = self._clock()
        newest = self._newest
        if newest is None or now >= self._due:
            if self._fetching.acquire(blocking=False):
                try:
                    if self._clock() >= self._due:
                        self._refresh()
                finally:
                    self._fetching.release()
            elif newest is None or now - newest.fetched >= _MAX_AGE or now - self._due >= _MAX_FETCH_SECONDS:
                self._await_fetch()
            newest = self._newest
        if newest is None or now - newest.fetched >= _MAX_AGE:
            raise ServiceUnavailable(_UNAVAILABLE)
        return newest

    def _await_fetch(self) -> None:
        if not self._fetching.acquire(timeout=_FETCH_TIMEOUT):
            raise ServiceUnavailable(_UNAVAILABLE)
        self._fetching.release()

    def _refresh(self) -> None:
        started = self._clock()
        try:
            keys = _parse_key_set(self._fetch())
        except (UpstreamError, OSError, ValueError) as error:
            log.error("the signing keys of %s are unavailable: %s", self._issuer, error)
            self._failed = True
        else:
            self._failed = False
            fingerprints = frozenset(key.fingerprint for by_id in keys.values() for key in by_id.values())
            self._newest = _KeySet(keys, fingerprints, started)
        # From the end of the fetch: otherwise a slow issuer with a short interval would get requests without a pause.
        self._due = self._clock() + (min(self._interval, _RETRY_INTERVAL) if self._failed else self._interval)


def _pick(key_set: _KeySet, key_id: str | None, algorithm: str) -> SigningKey | None:
    keys = key_set.keys.get(algorithm, {})
    if key_id is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(key_id)


def _parse_key_set(content: Any) -> dict[str, dict[str | None, SigningKey]]:
    """The keys of a set by algorithm and id, without keys of other kinds or for other uses."""
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError("this is not a key set")
    keys: dict[str, dict[str | None, SigningKey]] = {}
    for entry in entries:
        if isinstance(entry, dict) and (algorithm := _algorithm(entry)):
            try:
                jwk = jwt.PyJWK(entry, algorithm=algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                continue
            if not isinstance(jwk.key, RSAPublicKey) or jwk.key.key_size >= _MIN_RSA_BITS:
                encoded = jwk.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                keys.setdefault(algorithm, {})[entry.get("kid")] = SigningKey(jwk, hashlib.sha256(encoded).digest())
    return keys


def _algorithm(entry: Mapping[str, Any]) -> str | None:
    """The algorithm of a key; None if the key is not for our signatures, or not public (RFC 7517 section 4)."""
    if not all(isinstance(entry.get(name, ""), str) for name in ("kty", "crv", "kid")):
        return None
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    kind = str(entry.get("kty"))
    algorithm = _ALGORITHMS.get((kind, None if kind == "RSA" else entry.get("crv")))
    return algorithm if entry.get("alg", algorithm) == algorithm and "d" not in entry else None
