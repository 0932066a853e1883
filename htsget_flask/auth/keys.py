"""Public keys of issuers: JSON Web Key Sets (RFC 7517), fetched when they are needed and kept."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from htsget_flask.auth.outside import OutsideError
from htsget_flask.errors import ServiceUnavailable

log = logging.getLogger(__name__)

# The one algorithm that each kind of key is for: a token does not choose how its signature is checked.
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_SHORTEST_RSA = 2048
# A key that its issuer gave up is not trusted for longer, in seconds.
_MAX_AGE = 3600.0
# In seconds, between two tries.
_LONGEST_WITHOUT = 60.0

KeySource = Callable[[], Any]
"""Fetches a key set as JSON; raises OutsideError or OSError."""


@dataclass(frozen=True, slots=True)
class _Known:
    keys: Mapping[str, Mapping[str | None, jwt.PyJWK]]
    fetched: float


class Keys:
    """The keys of one issuer, for the algorithms that it may sign with.

    A key that is not known makes the set be fetched anew, at most once per `interval` seconds, whoever asks; while
    there are none at hand, at most once a minute where `interval` is longer.
    """

    def __init__(
        self,
        fetch: KeySource,
        algorithms: Sequence[str],
        *,
        issuer: str,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._algorithms = algorithms
        self._issuer = issuer
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _Known | None = None
        self._tried: float | None = None
        self._failed = False

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key that has this id and is for this algorithm; without an id the only one; None when there is none.

        Raises:
            ServiceUnavailable: when the key set cannot be had.
        """
        if algorithm not in self._algorithms:
            return None
        found = self._look_up(key_id, algorithm)
        if found is not None:
            return found
        with self._lock:
            found = self._look_up(key_id, algorithm)
            if found is not None:
                return found
            # However long the interval is, nobody's token can be verified while there are no keys.
            wait = self._interval if self._current() else min(self._interval, _LONGEST_WITHOUT)
            if self._tried is None or self._clock() - self._tried >= wait:
                self._refresh()
            if self._failed:
                raise ServiceUnavailable("the keys of the token's issuer cannot be had now")
            return self._look_up(key_id, algorithm)

    def _look_up(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        keys = self._current().get(algorithm, {})
        if key_id is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(key_id)

    def _current(self) -> Mapping[str, Mapping[str | None, jwt.PyJWK]]:
        known = self._known
        return {} if known is None or self._clock() - known.fetched >= _MAX_AGE else known.keys

    def _refresh(self) -> None:
        self._tried = self._clock()
        try:
            keys = _read(self._fetch())
        except (OutsideError, OSError, ValueError) as error:
            log.error("the keys of %s cannot be had: %s", self._issuer, error)
            self._failed = True
            return
        self._failed = False
        self._known = _Known(keys, self._tried)


def _read(content: Any) -> dict[str, dict[str | None, jwt.PyJWK]]:
    """The keys of a set by algorithm and id; those of other kinds, or for other uses, are left out."""
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError("this is no key set")
    keys: dict[str, dict[str | None, jwt.PyJWK]] = {}
    for entry in listed:
        if isinstance(entry, dict) and (algorithm := _algorithm(entry)):
            try:
                key = jwt.PyJWK(entry, algorithm=algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                continue
            if not isinstance(key.key, RSAPublicKey) or key.key.key_size >= _SHORTEST_RSA:
                keys.setdefault(algorithm, {})[entry.get("kid")] = key
    return keys


def _algorithm(entry: Mapping[str, Any]) -> str | None:
    """What a key is for; None for a key that is not for signatures of ours, or is not public."""
    if not all(isinstance(entry.get(name, ""), str) for name in ("kty", "crv", "kid")):
        return None
    kind = str(entry.get("kty"))
    algorithm = _ALGORITHMS.get((kind, None if kind == "RSA" else entry.get("crv")))
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm or "d" in entry:
        return None
    return algorithm
