"""The error vocabulary: answers to clients (`ServiceError`), and faults of files, formats and storages."""

import re

# A client that encodes the `?` of a signed URL puts the signature into the path.
_SIGNATURE = re.compile(r"(signature=)[^&\s]+", re.IGNORECASE)


def without_signature(text: str) -> str:
    """A text from a request, fit for a log: without the signatures of URLs."""
    return _SIGNATURE.sub(r"\1…", text)


def printable(text: str) -> str:
    """A text as one line of a log: without signatures, and with unprintable characters escaped."""
    text = without_signature(text)
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class ServiceError(Exception):
    """An answer other than success; the class name is the error type on the wire, `status` its HTTP status."""

    status: int

    def __init_subclass__(cls, *, status: int) -> None:
        cls.status = status

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidAuthentication(ServiceError, status=401):
    """The authorization provided is invalid."""


class PermissionDenied(ServiceError, status=403):
    """Authorization is required to access the resource."""


class NotFound(ServiceError, status=404):
    """The resource requested does not exist."""


class PayloadTooLarge(ServiceError, status=413):
    """The POST request is larger than this server accepts."""


class UnsupportedFormat(ServiceError, status=400):
    """The dataset does not exist in the format requested."""


class InvalidInput(ServiceError, status=400):
    """The request parameters do not adhere to the specification."""


class InvalidRange(ServiceError, status=400):
    """The requested range cannot be satisfied."""


class Gone(ServiceError, status=410):
    """The version of the file that a block URL was made for does not exist any more."""


class ServiceUnavailable(ServiceError, status=503):
    """The server cannot answer now; the same request may succeed later."""


class InternalServerError(ServiceError, status=500):
    """The server failed; the message reveals no internals."""


class FormatError(Exception):
    """A file violates its format's specification; the message is fit for a client and names no path."""


class FileFaultError(Exception):
    """A file of a dataset cannot be served as it is.

    `reason` is fit for a client; `location` names the file for the log and never leaves the server.
    """

    def __init__(self, reason: str, *, location: str) -> None:
        super().__init__(printable(f"{location}: {reason}"))
        self.reason = reason
        self.location = location


class StorageError(Exception):
    """A storage failed.

    `reason` is fit for a client and names the storage; `is_passing`: the same request may succeed later. `detail` is
    for the log: the storage's own message, without secrets.
    """

    def __init__(self, reason: str, *, is_passing: bool, detail: str) -> None:
        super().__init__(printable(f"{reason} ({detail})"))
        self.reason = reason
        self.is_passing = is_passing
