"""An issuer of tokens and visas with an HTTP server (key set, userinfo, introspection), and a policy service."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "htsget"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
CLIENT = ("htsget-server", "a secret: with ä")


@dataclass
class Key:
    """A key pair with an id."""

    key_id: str
    algorithm: str
    size: int = 2048

    @cached_property
    def private(self) -> Any:
        if self.algorithm == "RS256":
            return rsa.generate_private_key(65537, self.size)
        return ec.generate_private_key(ec.SECP256R1()) if self.algorithm == "ES256" else _ed25519()

    @property
    def public_pem(self) -> bytes:
        format_ = serialization.PublicFormat.SubjectPublicKeyInfo
        pem: bytes = self.private.public_key().public_bytes(serialization.Encoding.PEM, format_)
        return pem

    @property
    def jwk(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        content: dict[str, Any] = json.loads(kinds[self.algorithm].to_jwk(self.private.public_key()))
        return {**content, "kid": self.key_id, "use": "sig", "alg": self.algorithm}


def _ed25519() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@dataclass
class Issuer:
    """Signs tokens and visas; its server records the requested paths and the inputs of policy decisions."""

    url: str = "https://issuer.example.org"
    keys: list[Key] = field(default_factory=lambda: [Key(f"key {name}", name) for name in ALGORITHMS])
    requested_paths: list[str] = field(default_factory=list)
    policy_inputs: list[Any] = field(default_factory=list)
    passports: dict[str, list[str]] = field(default_factory=dict)
    opaque: dict[str, dict[str, Any]] = field(default_factory=dict)
    decide: Callable[[Mapping[str, Any]], Any] = lambda _: {}
    is_broken: bool = False
    delay: float = 0

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.jwk for key in self.keys]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a valid token, with changes; None removes a claim."""
        now = int(time.time())
        good = {"iss": self.url, "sub": "ada", "aud": AUDIENCE, "iat": now, "exp": now + 600}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(self, algorithm: str = "RS256", *, headers: Mapping[str, Any] | None = None, **changed: Any) -> str:
        """A token that this issuer signed."""
        key = next(key for key in self.keys if key.algorithm == algorithm)
        return jwt.encode(
            self.claims(**changed), key.private, algorithm, headers={"kid": key.key_id, **dict(headers or {})}
        )

    def visa(
        self,
        value: str,
        *,
        headers: Mapping[str, Any] | None = None,
        visa: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> str:
        """A visa document token of this issuer."""
        good = {
            "type": "ControlledAccessGrants",
            "asserted": int(time.time()) - 60,
            "value": value,
            "source": "https://dac.example.org",
            "by": "dac",
        }
        content = {name: claim for name, claim in {**good, **dict(visa or {})}.items() if claim is not None}
        claims = {"aud": None, "ga4gh_visa_v1": content, **changed}
        return self.token(headers={"jku": self.jwks_url, "typ": "vnd.ga4gh.visa+jwt", **dict(headers or {})}, **claims)


def unsigned(claims: Mapping[str, Any], header: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token with any header and any signature."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self.server.issuer.requested_paths.append(self.path)
        if self.server.issuer.is_broken:
            self.answer(500, {})
        elif self.path == "/jwks":
            self.answer(200, self.server.issuer.jwks)
        elif self.path == "/userinfo":
            self.userinfo()
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        self.server.issuer.requested_paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.issuer.delay)
        if self.server.issuer.is_broken:
            self.answer(500, {})
        elif self.path == "/introspect":
            self.introspect(parse_qs(body.decode())["token"][0])
        else:
            policy_input = json.loads(body)["input"]
            self.server.issuer.policy_inputs.append(policy_input)
            self.answer(200, self.server.issuer.decide(policy_input))

    def userinfo(self) -> None:
        token = str(self.headers["Authorization"]).removeprefix("Bearer ")
        subject = jwt.decode(token, options={"verify_signature": False})["sub"]
        if subject == "nobody":
            self.answer(401, {})
            return
        reported = "another subject" if subject == "mallory" else subject
        self.answer(200, {"sub": reported, "ga4gh_passport_v1": self.server.issuer.passports.get(subject, [])})

    def introspect(self, token: str) -> None:
        expected = base64.b64encode(b"htsget-server:a+secret%3A+with+%C3%A4").decode()
        if self.headers["Authorization"] != f"Basic {expected}":
            self.answer(401, {})
            return
        self.answer(200, self.server.issuer.opaque.get(token, {"active": False}))

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, issuer: Issuer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = issuer

    def handle_error(self, *_: object) -> None:
        """Ignore clients that close the connection early."""


@contextmanager
def serving_issuer() -> Iterator[Issuer]:
    """An issuer with its server."""
    issuer = Issuer()
    with _Server(issuer) as server:
        issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
