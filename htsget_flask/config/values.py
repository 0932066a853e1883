"""Values that settings are made of."""

import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

# What stands before the path of a file that holds a secret.
IN_FILE = "file:"

# What needs no quoting in the configuration of a web server, and cannot be guessed.
_SECRET = re.compile(r"[A-Za-z0-9_.+/=-]{16,256}")

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[([0-9a-f:.]+)\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Model(BaseModel):
    """Settings: those that do not exist are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_url(value: str) -> bool:
    """Whether the text is an absolute http or https URL, and not a path or key."""
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def base_url(value: str) -> str:
    """An absolute URL with a slash at its end.

    Raises:
        ValueError: when it is none.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be an absolute http or https URL without query and fragment")
    return value.rstrip("/") + "/"


def relative_key(value: str) -> str:
    """The key of a file in a storage.

    Raises:
        ValueError: when it is none.
    """
    if any(segment in ("", ".", "..") for segment in value.split("/")):
        raise ValueError("must be a relative path without empty, '.' or '..' segments")
    return value


def _folder(value: str) -> str:
    """A prefix of keys: empty, or a relative path with a slash at its end."""
    return value and relative_key(value.removesuffix("/")) + "/"


def _spelled_origin(value: str) -> str:
    is_any_port = value.endswith(":*")
    text = value.lower().removesuffix(":*")
    parts = _ORIGIN.fullmatch(text)
    if parts is None or int(parts[3] or 0) > 0xFFFF or (is_any_port and parts[3]):
        raise ValueError(
            f"{value!r} must be * or null, or scheme://host, scheme://host:port or scheme://host:* and nothing after it"
        )
    if parts[2] is not None:
        try:
            text = text.replace(parts[2], IPv6Address(parts[2]).compressed)
        except ValueError as error:
            raise ValueError(f"{value!r} names no host: {error}") from error
    return f"{text}:*" if is_any_port else text.removesuffix(_DEFAULT_PORTS.get(parts[1], ""))


def web_origin(value: str) -> str:
    """An origin of web pages as browsers spell it (RFC 6454 6.2), `null`, or `*` for all; `:*` stands for any port.

    Raises:
        ValueError: when it is none; browsers know no other patterns, and no origin with a path.
    """
    return value if value in ("*", "null") else _spelled_origin(value)


def _web_origins(value: str | list[str]) -> str | list[str]:
    return web_origin(value) if isinstance(value, str) else [web_origin(origin) for origin in value]


def host_name(value: str) -> str:
    """A host as requests name it (RFC 9110 7.2), in lower case and without a port.

    Raises:
        ValueError: when it is not one.
    """
    try:
        return _spelled_origin(f"http://{value}:*").removeprefix("http://").removesuffix(":*")
    except ValueError:
        raise ValueError(f"{value!r} must be a host's name or address without a port; IPv6 in brackets") from None


BaseUrl = Annotated[str, AfterValidator(base_url)]
Key = Annotated[str, AfterValidator(relative_key)]
Folder = Annotated[str, AfterValidator(_folder)]
HostName = Annotated[str, AfterValidator(host_name)]
WebOrigins = Annotated[str | list[str], AfterValidator(_web_origins)]


def is_secret(text: str) -> bool:
    """Whether the text may be a secret."""
    return _SECRET.fullmatch(text) is not None


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith(IN_FILE) and not is_secret(text):
        raise ValueError(f"must be {IN_FILE} and a path, or 16 to 256 letters, digits and characters of _-.+/=")
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]


def secret_in(base: Path, text: str) -> str:
    """The secret in the file that a setting names; empty when it holds none."""
    try:
        found = (base / text.removeprefix(IN_FILE)).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if is_secret(found) else ""
