"""The audit log: one line of JSON for each decision, and no secret in any."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import orjson

from htsget_flask.auth.caller import Caller
from htsget_flask.regions import Region

_MOST_REGIONS = 50


class Audit:
    """Appends to a file, which several processes may share, or without one to the standard error.

    What cannot be written is an error of the request: nothing is answered that is not on record.
    """

    def __init__(self, path: Path | None) -> None:
        self._descriptor = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def write(
        self,
        caller: Caller | None,
        endpoint: str,
        resource_id: str | None,
        regions: Sequence[Region] | None,
        *,
        decision: str,
        reason: str,
        request_id: str,
    ) -> None:
        """Add a line; `caller` is None where it is not known who asks."""
        named = None if regions is None else [_printable(str(region)) for region in regions[:_MOST_REGIONS]]
        if named is not None and regions is not None and len(regions) > _MOST_REGIONS:
            named.append(f"and {len(regions) - _MOST_REGIONS} more")
        line = orjson.dumps(
            {
                "time": datetime.now(timezone.utc),
                "subject": None if caller is None else caller.subject,
                "issuer": None if caller is None else caller.issuer,
                "endpoint": endpoint,
                "id": None if resource_id is None else _printable(resource_id),
                "regions": named,
                "decision": decision,
                "reason": reason,
                "request": request_id,
            },
            option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z,
        )
        os.write(sys.stderr.fileno() if self._descriptor is None else self._descriptor, line)


def _printable(text: str) -> str:
    """The text, in which lone surrogates, which JSON has not, are replaced."""
    return text.encode("utf-8", "replace").decode()
