"""Answers that the web server in front is left to send, as `storage.handover` spells it."""

import re
from collections.abc import Mapping
from typing import BinaryIO

from flask import Response, request
from werkzeug.datastructures import Headers

from htsget_flask.preconditions import CONDITIONS
from htsget_flask.ranges import ByteRange
from htsget_flask.storage.handover import SharedFile

# What the web server tells of the file itself.
_LEFT_OUT: Mapping[str, str | None] = {"Content-Range": None, "Content-Length": None}
_PLAIN_RANGE = re.compile(r"bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")


def hand_over(response: Response, file: BinaryIO, span: ByteRange) -> bool:
    """Whether the web server in front was told, by the response, to send what it asks for of this range of the file.

    Of a whole file it makes the part itself, from the same request, which it must not understand in another way: what
    is conditional, and a Range that is not heeded or oddly written, stay here.
    """
    fields, ranged = request.headers, response.status_code == 206
    if not isinstance(file, SharedFile):
        return False
    if "Range" in fields and not (ranged and _PLAIN_RANGE.fullmatch(fields["Range"])):
        return False
    way = file.handover
    if fields.get("X-Sendfile-Type") != way.header or any(condition in fields for condition in CONDITIONS):
        return False
    told = file.handed_over(span, ranged=ranged)
    if told is None:
        return False
    response.status_code = 200
    response.response = ()
    names = {**_LEFT_OUT, **way.renamed}
    kept = [(names.get(name, name), value) for name, value in response.headers]
    response.headers = Headers(
        [(name, value) for name, value in kept if name] + [*told.items(), ("Content-Length", "0")]
    )
    return True
