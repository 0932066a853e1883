"""Bodies that the web server in front sends: X-Accel-Redirect and X-Sendfile."""

import re

from htsget_flask.ranges import ByteRange
from htsget_flask.storage import StoredFile
from htsget_flask.web.answer import Answer, Environ
from htsget_flask.web.preconditions import CONDITIONS

_PLAIN_RANGE = re.compile(r"bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")


def let_front_send(environ: Environ, answer: Answer, file: StoredFile, span: ByteRange) -> bool:
    """Turn the answer into an X-Accel-Redirect or X-Sendfile if the server in front can send these bytes; True if so.

    That server names its method in X-Sendfile-Type of each request: other clients would get an empty body. Of a whole
    file it cuts the range itself, from the same request. Conditional requests, and a Range that is ignored or unusually
    written, stay here: both servers have to understand the request in the same way.
    """
    headers = file.sendfile_headers(span)
    if headers is None or environ.get("HTTP_X_SENDFILE_TYPE") != headers.method:
        return False
    if not environ.keys().isdisjoint(CONDITIONS):
        return False
    if "HTTP_RANGE" in environ and not (answer.status == 206 and _PLAIN_RANGE.fullmatch(environ["HTTP_RANGE"])):
        return False
    # The web server sets Content-Range itself.
    names = {"Content-Range": None, **headers.renamed}
    fields = {new: value for name, value in answer.fields.items() if (new := names.get(name, name))}
    answer.status, answer.fields = 200, {**fields, **headers.fields, "Content-Length": "0"}
    return True
