"""Loading of the configuration, from a YAML file or for a folder."""

import io
import os
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from htsget_flask.config.cross_checks import cross_faults
from htsget_flask.config.models import Config
from htsget_flask.config.types import SUGGESTION, TEXT_TAGS, is_loopback

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Tags that pydantic adds to the locations of errors, for the kinds of a storage and of an entry of datasets.
_KIND_TAGS: Mapping[str | int, tuple[str, ...]] = {"storages": ("local", "s3"), "datasets": ("prefix", "id")}


class ConfigError(Exception):
    """The configuration is not valid; the text has one line per fault, each with the path of its setting."""


def folder_config(folder: Path, *, address: str | None = None, origins: Sequence[str] = ()) -> Config:
    """The configuration that serves all files below a folder: its storage is named `data`, its ids are the paths.

    The files can be fetched as they are, and are listed. If the server listens on a loopback `address`, or if there are
    `origins`, only pages of this machine and of these origins may read them. On a loopback address requests have to
    name a loopback host too: otherwise a page of any site could have its name resolve to 127.0.0.1 (DNS rebinding), and
    share the server's origin.

    Raises:
        ConfigError: when there is no such folder, or an origin is not valid.
    """
    content: dict[str, Any] = {
        "storages": {"data": {"type": "local", "root": str(folder)}},
        "datasets": [{"prefix": "", "storage": "data"}],
        "files": {"storages": ["data"], "listing": True},
        "refget": {"fastas": [{"storage": "data", "prefix": ""}]},
    }
    is_local = address is not None and is_loopback(address)
    if is_local:
        content["hosts"] = list(dict.fromkeys((*_LOOPBACK, f"[{address}]" if ":" in str(address) else address)))
    if is_local or origins:
        local = [f"{scheme}://{host}:*" for scheme in ("http", "https") for host in _LOOPBACK]
        content["cors"] = {"origins": [*local, *origins]}
    return _validated(content, base=Path.cwd(), source=str(folder))


def read_config(path: Path) -> Config:
    """The configuration in a YAML file.

    Raises:
        ConfigError: when the file cannot be read or is not valid; with all faults, as far as they can be found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        # An error in a string would quote the line, which may hold a secret; an error in a stream does not.
        content = yaml.load(io.StringIO(text), _Loader)  # noqa: S506 - a SafeLoader, stricter
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return _validated({} if content is None else content, base=path.resolve().parent, source=str(path), file=path)


def default_cache_folder() -> Path:
    """The cache folder of the current user."""
    # XDG Base Directory Specification: relative paths are ignored.
    for home in (os.environ.get("XDG_CACHE_HOME", ""), os.path.join(os.path.expanduser("~"), ".cache")):
        if os.path.isabs(home):
            return Path(home, "htsget_flask")
    return Path(tempfile.gettempdir(), f"htsget_flask-{os.getuid()}")


# libyaml's parser if it is installed: rules may list 200,000 regions.
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """YAML in which a key may occur only once: PyYAML would drop the first of two silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return content


def _validated(content: Any, *, base: Path, source: str, file: Path | None = None) -> Config:
    """The configuration with its paths resolved and its secrets read.

    All faults of single settings are reported at once, or else all faults between settings.
    """
    try:
        config = Config.model_validate(content, context={"base": base})
    except ValidationError as error:
        faults = [f"{_dotted(fault['loc'])}: {_sentence(fault)}" for fault in error.errors()]
    else:
        faults = list(cross_faults(config, file))
    if faults:
        raise ConfigError("\n".join(f"{source}: {fault}" for fault in faults))
    return config


def _sentence(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        _, _, suggestion = str(fault["loc"][-1]).partition(SUGGESTION)
        return f"there is no such setting; did you mean {suggestion}?" if suggestion else "there is no such setting"
    if fault["type"] in ("model_type", "dict_type"):
        return "must be settings, each with its name"
    if fault["type"] == "missing":
        return "is missing"
    return str(fault["msg"]).removeprefix("Value error, ")


def _dotted(location: tuple[int | str, ...]) -> str:
    """The path as a person writes it, without the tags that pydantic adds for kinds of settings."""
    parts: list[str] = []
    for depth, part in enumerate(location):
        if (depth == 2 and part in _KIND_TAGS.get(location[0], ())) or part in TEXT_TAGS:
            continue
        name = str(part).partition(SUGGESTION)[0]
        parts.append(f"[{part}]" if isinstance(part, int) else f".{name}" if parts else name)
    return "".join(parts).replace(".[key]", " (the name)") or "the file"
