"""The application with access control, and callers with tokens."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask.testing import FlaskClient

from tests.support.app import http_for
from tests.support.client import FlaskHttp, Response
from tests.support.issuer import AUDIENCE, Issuer

SECRET = "a-secret-of-tests-0123456789"
PUBLIC = {"ids": ["*"], "public": True}


def auth(folder: Path, issuer: Issuer, rules: Sequence[Mapping[str, Any]], **settings: Any) -> dict[str, Any]:
    """The section `auth` of a configuration, with the issuer's keys in a file next to the data."""
    keys = folder.parent / "jwks.json"
    keys.write_text(json.dumps(issuer.jwks))
    return {
        "secrets": [SECRET],
        "audit": str(folder.parent / "audit.log"),
        "issuers": [{"issuer": issuer.url, "audience": AUDIENCE, "jwks": str(keys)}],
        "passports": {"visa_issuers": [{"issuer": issuer.url, "jwks": str(keys)}]},
        "rules": list(rules),
        **settings,
    }


class Caller:
    """Requests with a token; signed URLs are requested without it, as clients do."""

    def __init__(self, http: FlaskHttp, token: str | None) -> None:
        self._http = http
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    @property
    def client(self) -> FlaskClient:
        """Flask's own client, for signed URLs."""
        return self._http.client

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        return self._http.get(url, {**self._authorization(url), **(headers or {})})

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        return self._http.post(url, body, {**self._authorization(url), **(headers or {})})

    def _authorization(self, url: str) -> Mapping[str, str]:
        return {} if "signature=" in urlsplit(url).query else self._headers


def guarded(folder: Path, issuer: Issuer, rules: Sequence[Mapping[str, Any]], **settings: Any) -> FlaskHttp:
    """A client of the application that serves a folder with these rules; `auth` holds more settings of that section."""
    more = settings.pop("auth", {})
    return http_for(folder, auth=auth(folder, issuer, rules, **more), **settings)


def audit(folder: Path) -> list[dict[str, Any]]:
    """The entries of the audit log."""
    return [json.loads(line) for line in (folder.parent / "audit.log").read_text().splitlines()]
