"""Services that are asked on the way: key sets, introspection, userinfo, policies."""

from collections.abc import Mapping
from typing import Any

import orjson
import urllib3

_MOST_BYTES = 4 << 20


class OutsideError(Exception):
    """A service does not answer as it should; the text names it, with nothing that was sent to it."""


class RefusedError(OutsideError):
    """A service refused what was sent to it: status 400, 401 or 403."""


class Outside:
    """JSON from HTTP services, over connections that are kept; redirects are not followed, nothing is tried twice."""

    def __init__(self, timeout: float) -> None:
        self._pool = urllib3.PoolManager(
            maxsize=8, timeout=urllib3.Timeout(connect=timeout, read=timeout), retries=False
        )

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """What a GET request is answered with."""
        return self._ask("GET", url, None, headers or {})

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Any:
        """What a POST request is answered with."""
        return self._ask("POST", url, body, headers)

    def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        place = url.partition("?")[0]
        try:
            response = self._pool.request(
                method,
                url,
                body=body,
                headers={"Accept": "application/json", **headers},
                preload_content=False,
                redirect=False,
            )
            try:
                content = response.read(_MOST_BYTES + 1)
            finally:
                response.drain_conn()
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OutsideError(f"{place} cannot be asked: {type(error).__name__}") from None
        if response.status != 200:
            kind = RefusedError if response.status in (400, 401, 403) else OutsideError
            raise kind(f"{place} answers with status {response.status}")
        if len(content) > _MOST_BYTES:
            raise OutsideError(f"{place} answers with more than {_MOST_BYTES} bytes")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise OutsideError(f"{place} answers with something that is not JSON") from None
