"""Answers that the web server in front is left to send, as `storage.handover` spells it."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from htsget_flask.ranges import ByteRange
from htsget_flask.storage.sendfile import SendableFile
from htsget_flask.web.answer import Answer
from htsget_flask.web.preconditions import CONDITIONS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# What the web server tells of the file itself.
_LEFT_OUT: Mapping[str, str | None] = {"Content-Range": None, "Content-Length": None}
_PLAIN_RANGE = re.compile(r"bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")


def hand_over(environ: "WSGIEnvironment", answer: Answer, file: BinaryIO, span: ByteRange) -> bool:
    """Whether the web server in front was told, by the answer, to send what it asks for of this range of the file.

    Of a whole file it makes the part itself, from the same request, which it must not understand in another way: what
    is conditional, and a Range that is not heeded or oddly written, stay here.
    """
    if not isinstance(file, SendableFile):
        return False
    way, ranged = file.handover, answer.status == 206
    if environ.get("HTTP_X_SENDFILE_TYPE") != way.header or any(condition in environ for condition in CONDITIONS):
        return False
    if "HTTP_RANGE" in environ and not (ranged and _PLAIN_RANGE.fullmatch(environ["HTTP_RANGE"])):
        return False
    told = file.handed_over(span, ranged=ranged)
    if told is None:
        return False
    names = {**_LEFT_OUT, **way.renamed}
    kept = {names.get(name, name): value for name, value in answer.fields.items()}
    answer.status = 200
    answer.fields = {name: value for name, value in kept.items() if name} | told | {"Content-Length": "0"}
    return True
