"""Types of settings: each validates one value, and resolves the path of a file against the configuration's folder."""

import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationInfo,
    model_validator,
)

# Precedes the path of a file that holds a secret.
_IN_FILE = "file:"

# These characters need no quoting in the configuration of a web server; 16 of them cannot be guessed.
_SECRET = re.compile(r"[A-Za-z0-9_.+/=-]{16,256}")

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[([0-9a-f:.]+)\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

_PLACEHOLDER = "change-me"
_MIN_DIFFERENT_CHARACTERS = 6
_REMEDY = "make one with `umask 077; openssl rand -hex 32 > FILE` and name it as file:FILE"

# The least similarity (difflib) of a misspelt name to the right one: `kye` and `key` have 0.67.
_MIN_SIMILARITY = 0.65

# Separates a misspelt name from the suggested setting in the locations of pydantic's errors.
SUGGESTION = "\0"
# Tags of settings that are a text or something else, which pydantic adds to the locations of errors; not names in YAML.
TEXT_TAGS = ("\0text", "\0no text")
TEXT_OR_OTHER = Discriminator(lambda value: TEXT_TAGS[not isinstance(value, str)])


def correct_spelling(content: Mapping[Any, Any], names: Collection[str]) -> dict[Any, Any]:
    """Add the value of each misspelt setting under the right name too.

    So only the spelling is a fault, and the right setting is not missing as well. The misspelt name gets `SUGGESTION`
    and the right name appended.
    """
    free = [name for name in names if name not in content]
    settings = dict(content)
    for name, value in content.items():
        if isinstance(name, str) and name not in names:
            close = get_close_matches(name, free, 1, _MIN_SIMILARITY)
            if close:
                del settings[name]
                settings |= {close[0]: value, f"{name}{SUGGESTION}{close[0]}": value}
    return settings


class Model(BaseModel):
    """Settings: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _correct_spelling(cls, content: Any) -> Any:
        if not isinstance(content, dict) or cls.model_config.get("extra") != "forbid":
            return content
        return correct_spelling(content, cls.model_fields)


def constraint(holds: Callable[[Any], object], message: str) -> AfterValidator:
    """A validator of a condition on values; `message` is for those that do not meet it, with `{}` for the value."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(message.format(value))
        return value

    return AfterValidator(check)


def is_url(value: str) -> bool:
    """Whether the text is an absolute http or https URL, and not a path or key."""
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def is_loopback(host: str) -> bool:
    """Whether a host's name or IP address is that of this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _base_url(value: str) -> str:
    """An absolute URL with a slash at its end."""
    parts = urlsplit(value)
    if not is_url(value) or parts.query or parts.fragment:
        raise ValueError("must be an absolute http or https URL without query and fragment")
    return value.rstrip("/") + "/"


def relative_key(value: str) -> str:
    """The key of a file in a storage.

    Raises:
        ValueError: when the text is not a normalized relative path.
    """
    if any(segment in ("", ".", "..") for segment in value.split("/")):
        raise ValueError("must be a relative path without empty, '.' or '..' segments")
    return value


def _folder_key(value: str) -> str:
    """A prefix of keys: empty, or a relative path with a slash at its end."""
    return value and relative_key(value.removesuffix("/")) + "/"


def _normalized_origin(value: str) -> str:
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
            raise ValueError(f"{value!r} does not name a host: {error}") from error
    return f"{text}:*" if is_any_port else text.removesuffix(_DEFAULT_PORTS.get(parts[1], ""))


def web_origin(value: str) -> str:
    """An origin of web pages as browsers serialize it (RFC 6454 6.2), `null`, or `*` for all; `:*` means any port.

    Raises:
        ValueError: for anything else: browsers send no origin with a path, and there are no other patterns.
    """
    return value if value in ("*", "null") else _normalized_origin(value)


def _host_name(value: str) -> str:
    """A host as requests name it (RFC 9110 7.2), in lower case and without a port."""
    try:
        return _normalized_origin(f"http://{value}:*").removeprefix("http://").removesuffix(":*")
    except ValueError:
        raise ValueError(f"{value!r} must be a host's name or address without a port; IPv6 in brackets") from None


Url = Annotated[str, constraint(is_url, "must be an absolute http or https URL")]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Key = Annotated[str, AfterValidator(relative_key)]
FolderKey = Annotated[str, AfterValidator(_folder_key)]
HostName = Annotated[str, AfterValidator(_host_name)]
_WebOrigin = Annotated[str, AfterValidator(web_origin)]
WebOrigins = Annotated[
    Annotated[_WebOrigin, Tag(TEXT_TAGS[0])] | Annotated[list[_WebOrigin], Tag(TEXT_TAGS[1])], TEXT_OR_OTHER
]
Names = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1),
]


def _resolve(path: str | Path, info: ValidationInfo) -> Path:
    """The path, relative to the folder that the validation's context names as `base`, or else to the current one."""
    return Path((info.context or {}).get("base", ""), path)


def _url_or_file(value: str, info: ValidationInfo) -> str:
    if is_url(value):
        return value
    path = _resolve(value, info)
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path}, or it cannot be reached")
    return str(path)


def _check_key_set(location: str) -> str:
    if not is_url(location):
        _check_writers(Path(location))
    return location


def _audit_log(value: str, info: ValidationInfo) -> str:
    return value if value == "stderr" else str(_resolve(value, info))


ResolvedPath = Annotated[Path, AfterValidator(_resolve)]
ExistingFolder = Annotated[ResolvedPath, constraint(os.path.isdir, "there is no folder {}, or it cannot be reached")]
UrlOrFile = Annotated[str, AfterValidator(_url_or_file)]
KeySet = Annotated[UrlOrFile, AfterValidator(_check_key_set)]
AuditLog = Annotated[str, Field(min_length=1), AfterValidator(_audit_log)]


class SecretText(SecretStr):
    """A secret, and the file that it was read from, if it was."""

    def __init__(self, secret: str, file: Path | None = None) -> None:
        super().__init__(secret)
        self.file = file


def _read_secret(value: SecretText, info: ValidationInfo) -> SecretText:
    """The secret, read from its file if the setting names one."""
    text = value.get_secret_value()
    if not text.startswith(_IN_FILE):
        return value
    path = _resolve(text.removeprefix(_IN_FILE), info)
    try:
        _check_writers(path)
        return SecretText(path.read_text(encoding="utf-8").strip(), path)
    except OSError as error:
        raise ValueError(f"the file cannot be read: {path}: {error.strerror}; {_REMEDY}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} does not hold a secret alone: {_REMEDY}") from None


def _check_signing_secret(value: SecretText) -> SecretText:
    text = value.get_secret_value()
    name = "" if value.file is None else f"the secret in {value.file} "
    if not _SECRET.fullmatch(text):
        raise ValueError(f"{name}must be {_IN_FILE} and a path, or 16 to 256 letters, digits and characters of _-.+/=")
    if len(set(text)) < _MIN_DIFFERENT_CHARACTERS:
        raise ValueError(f"{name}has fewer than {_MIN_DIFFERENT_CHARACTERS} different characters: {_REMEDY}")
    return value


# Any text, as the issuer of tokens chose it.
ClientSecret = Annotated[
    SecretText,
    AfterValidator(_read_secret),
    constraint(SecretText.get_secret_value, "must not be empty"),
    constraint(
        lambda secret: not secret.get_secret_value().lower().startswith(_PLACEHOLDER),
        f"is the placeholder of an example: {_REMEDY}",
    ),
]
Secret = Annotated[ClientSecret, AfterValidator(_check_signing_secret)]


def _check_writers(path: Path) -> None:
    """Raise ValueError if any user of this machine may write the file, or replace it in its folder."""
    folder = path.parent
    # In a folder with the sticky bit only its owner can replace a file.
    replaceable_by = path if folder.stat().st_mode & stat.S_ISVTX else folder
    for name in (path, replaceable_by):
        if name.stat().st_mode & stat.S_IWOTH:
            raise ValueError(f"any user of this machine may write {name}: run `chmod o-w` on it")
