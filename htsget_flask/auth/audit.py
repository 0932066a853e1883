"""The audit log: one line of JSON for each decision, without secrets."""

import errno
import logging
import os
import random
import re
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from htsget_flask.auth.caller import Caller
from htsget_flask.errors import ServiceUnavailable, without_signature
from htsget_flask.regions import Region

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@-]{1,64}", re.ASCII)
# A line of at most PIPE_BUF bytes (4,096) is written to a pipe atomically: four texts of 200 characters and 600 bytes,
# an address, these regions, and all else in less than 300 bytes.
_MAX_TEXT = 200
_MAX_ADDRESS = 64
_MAX_BYTES_PER_CHARACTER = 3
_MAX_REGIONS = 50
_MAX_REGIONS_BYTES = 1100
# Between two messages about a broken audit log, in s.
_REPORT_INTERVAL = 60.0

_Text = TypeVar("_Text", str, str | None)


class Origin(NamedTuple):
    """The origin of a request: the client's address, and an id that a proxy's log may share."""

    address: str | None
    request_id: str


def origin_of(environ: Mapping[str, Any], proxies: int) -> Origin:
    """The origin of a request, from the headers that this number of proxies in front adds to its WSGI environment.

    Without proxies the headers are ignored: the client itself would choose the content of the log.
    """
    # The rule of werkzeug's ProxyFix, without it: it takes longer than the log's line, and blocks and files need none.
    address = environ.get("REMOTE_ADDR") or None
    if proxies:
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if len(forwarded) >= proxies:
            address = forwarded[-proxies].strip() or address
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if _REQUEST_ID.fullmatch(request_id):
            return Origin(address, request_id)
    # Needs to be unique, not secret: a non-cryptographic generator will do.
    return Origin(address, f"{random.getrandbits(64):016x}")


class Audit:
    """Appends to a file, which processes may share, or to the standard error.

    A line that cannot be written fails its request: there is no answer without a record.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._clock = clock
        self._follows_failure = False
        self._next_report = clock()

    def write(
        self,
        caller: Caller | None,
        origin: Origin,
        endpoint: str,
        resource_id: str | None,
        regions: Sequence[Region] | None,
        decision: str,
        reason: str,
    ) -> None:
        """Append a line of less than 4,096 bytes; `caller` is None if it is unknown.

        Raises:
            ServiceUnavailable: when the line cannot be written as a whole.
        """
        line = orjson.dumps(
            {
                "time": datetime.now(timezone.utc),
                "subject": None if caller is None else _shorten(caller.subject),
                "issuer": None if caller is None else _shorten(caller.issuer),
                "endpoint": endpoint,
                "id": _shorten(None if resource_id is None else without_signature(resource_id)),
                "regions": None if regions is None else _region_texts(regions),
                "decision": decision,
                "reason": _shorten(reason),
                "request": origin.request_id,
                "address": _shorten(origin.address, _MAX_ADDRESS),
            },
            option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z,
        )
        if self._follows_failure:
            # This process, or another one that shares the file, may have written part of a line.
            line = b"\n" + line
        try:
            written = os.write(sys.stderr.fileno() if self._descriptor is None else self._descriptor, line)
            if written < len(line):
                raise OSError(errno.EIO, "only part of a line was written")
        except OSError as error:
            self._follows_failure = True
            if (now := self._clock()) >= self._next_report:
                self._next_report = now + _REPORT_INTERVAL
                log.error("requests fail because the audit log cannot be written: %s", error.strerror)
            raise ServiceUnavailable("the audit log is unavailable") from None
        self._follows_failure = False


def _region_texts(regions: Sequence[Region]) -> list[str]:
    """The first regions as texts, and the number of the others."""
    texts: list[str] = []
    room = _MAX_REGIONS_BYTES
    for region in regions:
        name = _shorten(region.reference_name)
        text = str(region if name is region.reference_name else region._replace(reference_name=name))
        # A single region always fits.
        room -= len(orjson.dumps(text)) + 1 if len(regions) > 1 else 0
        if room < 0 or len(texts) == _MAX_REGIONS:
            texts.append(f"and {len(regions) - len(texts)} more")
            break
        texts.append(text)
    return texts


def _shorten(text: _Text, length: int = _MAX_TEXT) -> _Text:
    """At most `length` characters of a text, with three bytes of JSON for each; an ellipsis stands for the rest.

    Lone surrogates, which JSON cannot encode, are replaced.
    """
    if text is None or (len(text) <= length and text.isascii() and text.isprintable()):
        return text
    text = text.encode("utf-8", "replace").decode()
    sizes = [len(orjson.dumps(character)) - 2 for character in text[:length]]
    count = bisect_right(list(accumulate(sizes)), length * _MAX_BYTES_PER_CHARACTER)
    return text if count == len(text) else f"{text[:count]}…"
