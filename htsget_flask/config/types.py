"""Values that settings are made of."""

import re
import stat
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, model_validator

# What stands before the path of a file that holds a secret.
IN_FILE = "file:"

# What needs no quoting in the configuration of a web server, and cannot be guessed.
_SECRET = re.compile(r"[A-Za-z0-9_.+/=-]{16,256}")

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[([0-9a-f:.]+)\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


_PLACEHOLDER = "change-me"
_FEWEST_CHARACTERS = 6
_REMEDY = "make one with `umask 077; openssl rand -hex 32 > FILE` and name it as file:FILE"

# How alike a misspelt name and the right one are (difflib): `kye` and `key` are 0.67.
_NEAR = 0.65

# Between a name that is no setting and the setting that is meant, in the paths of pydantic's faults.
MEANT = "\0"
# Of settings that are one text or a list of them, as pydantic puts them into the paths of faults.
TEXT_TAGS = ("one text", "a list of texts")


def meant_settings(content: Mapping[Any, Any], known: Collection[str]) -> dict[Any, Any]:
    """The content in which each misspelt setting has its value under the right name too.

    So only the spelling is a fault, not also that the right one is missing. The misspelt name has `MEANT` and the right
    name appended.
    """
    free = [name for name in known if name not in content]
    settings = dict(content)
    for name, value in content.items():
        if isinstance(name, str) and name not in known and (close := get_close_matches(name, free, 1, _NEAR)):
            del settings[name]
            settings |= {close[0]: value, f"{name}{MEANT}{close[0]}": value}
    return settings


class Model(BaseModel):
    """Settings: those that do not exist are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _takes_what_is_meant(cls, content: Any) -> Any:
        if not isinstance(content, dict) or cls.model_config.get("extra") != "forbid":
            return content
        return meant_settings(content, cls.model_fields)


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


def _one_or_several(value: Any) -> str:
    return TEXT_TAGS[not isinstance(value, str)]


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
_WebOrigin = Annotated[str, AfterValidator(web_origin)]
WebOrigins = Annotated[
    Annotated[_WebOrigin, Tag(TEXT_TAGS[0])] | Annotated[list[_WebOrigin], Tag(TEXT_TAGS[1])],
    Discriminator(_one_or_several),
]
_Name = Annotated[str, Field(min_length=1)]
Names = Annotated[
    Annotated[_Name, Tag(TEXT_TAGS[0])] | Annotated[list[_Name], Field(min_length=1), Tag(TEXT_TAGS[1])],
    Discriminator(_one_or_several),
]


def _check_placeholder(text: str) -> None:
    if text.lower().startswith(_PLACEHOLDER):
        raise ValueError(f"is the placeholder of an example: {_REMEDY}")


def _check_secret(text: str) -> None:
    _check_placeholder(text)
    if not _SECRET.fullmatch(text):
        raise ValueError(f"must be {IN_FILE} and a path, or 16 to 256 letters, digits and characters of _-.+/=")
    if len(set(text)) < _FEWEST_CHARACTERS:
        raise ValueError(f"has fewer than {_FEWEST_CHARACTERS} different characters: {_REMEDY}")


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith(IN_FILE):
        _check_secret(text)
    return value


def _client_secret(value: SecretStr) -> SecretStr:
    _check_placeholder(value.get_secret_value())
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]
# Its issuer makes it: any text may be one.
ClientSecret = Annotated[SecretStr, Field(min_length=1), AfterValidator(_client_secret)]


def secret_in(base: Path, text: str) -> str:
    """The secret in the file that a setting names.

    Raises:
        ValueError: when it cannot be read, does not hold a secret alone, or can be changed by any user.
    """
    path = base / text.removeprefix(IN_FILE)
    try:
        check_writers(path)
        found = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {path}: {error.strerror}; {_REMEDY}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} does not hold a secret alone: {_REMEDY}") from None
    try:
        _check_secret(found)
    except ValueError as error:
        raise ValueError(f"the secret in {path} {error}") from None
    return found


def check_writers(path: Path) -> None:
    """Raise ValueError where any user of this machine may write the file, or replace it in its folder."""
    folder = path.parent
    # In a folder with the sticky bit a file is replaced by its owner alone.
    kept = path if folder.stat().st_mode & stat.S_ISVTX else folder
    for name in (path, kept):
        if name.stat().st_mode & stat.S_IWOTH:
            raise ValueError(f"any user of this machine may write {name}: run `chmod o-w` on it")
