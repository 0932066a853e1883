"""The configuration: read from a YAML file, or made for a folder, with all its faults at once."""

import io
import os
import tempfile
from collections.abc import Hashable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError

from htsget_flask.config.auth import located
from htsget_flask.config.cross_checks import cross_faults
from htsget_flask.config.models import GENOME_TAGS, KIND_TAGS, Config
from htsget_flask.config.remarks import remarks
from htsget_flask.config.storages import LocalStorageConfig
from htsget_flask.config.types import IN_FILE, MEANT, TEXT_TAGS, is_url, secret_in

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class ConfigError(Exception):
    """The configuration is not valid; the text has one line per fault, each with its path in the file."""


def folder_config(folder: Path, *, address: str | None = None, origins: Sequence[str] = ()) -> Config:
    """The configuration that serves all files below a folder: its storage is named `data`, its ids are the paths.

    The files can be fetched as they are, and are listed. Where `address`, which the server listens on, is of the
    loopback interface, or where `origins` are named, only pages of this machine and of these origins may read them. On
    the loopback interface requests have to name a loopback host too: else a page of any site, whose name then resolves
    to 127.0.0.1 (DNS rebinding), would be of the server's own origin.

    Raises:
        ConfigError: when there is no such folder, or an origin is not one.
    """
    content: dict[str, Any] = {
        "storages": {"data": {"type": "local", "root": str(folder)}},
        "datasets": [{"prefix": "", "storage": "data"}],
        "files": {"storages": ["data"], "listing": True},
        "refget": {"fastas": [{"storage": "data", "prefix": ""}]},
    }
    is_loopback = address is not None and _is_loopback(address)
    if is_loopback:
        content["hosts"] = list(dict.fromkeys((*_LOOPBACK, f"[{address}]" if ":" in str(address) else address)))
    if is_loopback or origins:
        local = [f"{scheme}://{host}:*" for scheme in ("http", "https") for host in _LOOPBACK]
        content["cors"] = {"origins": [*local, *origins]}
    return _validated(content, base=Path.cwd(), source=str(folder))


def read_config(path: Path) -> Config:
    """The configuration in a YAML file.

    Raises:
        ConfigError: with all faults at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        # As a stream: of a string, an error would quote the line, and that may be the one with a secret.
        content = yaml.load(io.StringIO(text), _Loader)  # noqa: S506 - a SafeLoader, stricter
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return _validated({} if content is None else content, base=path.resolve().parent, source=str(path), file=path)


def default_cache_folder() -> Path:
    """The folder of this user for what can be made again."""
    # XDG Base Directory Specification: relative paths are ignored.
    for home in (os.environ.get("XDG_CACHE_HOME", ""), os.path.join(os.path.expanduser("~"), ".cache")):
        if os.path.isabs(home):
            return Path(home, "htsget_flask")
    return Path(tempfile.gettempdir(), f"htsget_flask-{os.getuid()}")


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


# libyaml's parser, where it is installed: rules may list 200,000 regions.
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """YAML in which a key may stand only once: of two, the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return content


def _validated(content: Any, *, base: Path, source: str, file: Path | None = None) -> Config:
    faults = []
    config = None
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        faults = [f"{_dotted(fault['loc'])}: {_sentence(fault)}" for fault in error.errors()]
    faults += cross_faults(content, base, file)
    if config is None or faults:
        raise ConfigError("\n".join(f"{source}: {fault}" for fault in faults))
    storages = {}
    for name, storage in config.storages.items():
        storages[name] = storage
        if not isinstance(storage, LocalStorageConfig):
            continue
        storages[name] = storage.model_copy(update={"root": base / storage.root})
        if storage.secret is not None and storage.secret.get_secret_value().startswith(IN_FILE):
            secret = SecretStr(secret_in(base, storage.secret.get_secret_value()))
            storages[name] = storages[name].model_copy(update={"secret": secret})
    cache = config.cache
    if cache.folder is not None:
        cache = cache.model_copy(update={"folder": base / cache.folder})
    browser = config.browser
    if browser.igv_js is not None and not is_url(browser.igv_js):
        browser = browser.model_copy(update={"igv_js": str(base / browser.igv_js)})
    auth = None if config.auth is None else located(config.auth, base)
    located_config = config.model_copy(update={"storages": storages, "cache": cache, "browser": browser, "auth": auth})
    located_config._remarks = tuple(remarks(config, base))
    return located_config


def _sentence(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        _, _, meant = str(fault["loc"][-1]).partition(MEANT)
        return f"there is no such setting; did you mean {meant}?" if meant else "there is no such setting"
    if fault["type"] in ("model_type", "dict_type"):
        return "must be settings, each with its name"
    if fault["type"] == "missing":
        return "is missing"
    return str(fault["msg"]).removeprefix("Value error, ")


def _dotted(location: tuple[int | str, ...]) -> str:
    """The path as a person writes it; the tags that pydantic puts in for kinds are not in the file."""
    parts: list[str] = []
    for place, part in enumerate(location):
        if (place == 2 and part in KIND_TAGS.get(location[0], ())) or part in GENOME_TAGS or part in TEXT_TAGS:
            continue
        name = str(part).partition(MEANT)[0]
        parts.append(f"[{part}]" if isinstance(part, int) else f".{name}" if parts else name)
    return "".join(parts).replace(".[key]", " (the name)") or "the file"
