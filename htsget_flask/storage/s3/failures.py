"""Failures of S3: which are transient, and what clients and the log are informed of."""

from collections.abc import Mapping
from typing import Any

import urllib3.exceptions
from botocore import exceptions as faults
from botocore.parsers import ResponseParserError

from htsget_flask.errors import StorageError

_TRANSIENT = (
    faults.ConnectionError,
    faults.HTTPClientError,
    faults.ResponseStreamingError,
    faults.IncompleteReadError,
    faults.ReadTimeoutError,
    faults.MetadataRetrievalError,
    faults.CredentialRetrievalError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
    OSError,
)
_TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "RequestTimeout",
        "RequestTimeoutException",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
    }
)
# Another attempt helps where the credentials are being renewed.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
# The code with which S3 refuses to read an archived object.
ARCHIVED = "InvalidObjectState"
# Messages to clients; {} is the storage's name.
NO_CREDENTIALS = "this server has no credentials for the storage {}"
EXPIRED_CREDENTIALS = "this server's credentials for the storage {} have expired"
_REASONS = {
    "AccessDenied": "the storage {} does not let this server read it",
    "AllAccessDisabled": "the storage {} does not let this server read it",
    "403": "the storage {} does not let this server read it",
    "NoSuchBucket": "the bucket of the storage {} does not exist",
    ARCHIVED: "the file is in the archive of the storage {}, and has to be restored first",
    "RequestTimeTooSkewed": "the clocks of this server and of the storage {} do not agree",
    "InvalidAccessKeyId": "the storage {} does not know this server's credentials",
    "SignatureDoesNotMatch": "the storage {} does not accept this server's credentials",
    "InvalidToken": "the storage {} does not accept this server's credentials",
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), NO_CREDENTIALS),
    **dict.fromkeys(EXPIRED, EXPIRED_CREDENTIALS),
}


def is_s3_failure(error: BaseException) -> bool:
    """Whether the failure is that of a request to S3, and not of this program."""
    # botocore raises a bare RuntimeError where the renewed credentials have expired already.
    return isinstance(error, (*_TRANSIENT, faults.ClientError, faults.BotoCoreError)) or type(error) is RuntimeError


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, faults.ClientError):
        return code_of(error) in _TRANSIENT_CODES or status_of(error) >= 500 or status_of(error) == 429
    return isinstance(error, _TRANSIENT) and not isinstance(error, faults.SSLError)


def storage_error(error: BaseException, storage: str, *, code: str | None = None) -> StorageError:
    """The failure for clients and the log; `code` replaces that of the error where a better one is known."""
    is_passing = code is None and is_transient(error)
    code = code or code_of(error)
    default = "the storage {} is unavailable" if is_passing else "the storage {} cannot be read"
    reason = _REASONS.get(code, default).format(repr(storage))
    return StorageError(reason, is_passing=is_passing, detail=_detail(code, error))


def archived_error(storage: str) -> StorageError:
    """The failure to read an archived object, where that is known without an attempt."""
    return StorageError(_REASONS[ARCHIVED].format(repr(storage)), is_passing=False, detail="not restored")


def code_of(error: BaseException) -> str:
    """S3's code for the failure; the HTTP status where there is none."""
    if not isinstance(error, faults.ClientError):
        return "ExpiredToken" if type(error) is RuntimeError else type(error).__name__
    return str(error.response.get("Error", {}).get("Code") or status_of(error))


def status_of(error: faults.ClientError) -> int:
    """The HTTP status of the response; 0 where there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _detail(code: str, error: BaseException) -> str:
    """The failure for the log, without messages: those of S3 may quote the signed text, others a URL."""
    if isinstance(error, faults.ClientError):
        metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
        return f"{error.operation_name}: {code}, status {status_of(error)}, request id {metadata.get('RequestId')}"
    return code
