"""The configuration: a YAML file as pydantic models, which every other module takes as given."""

import io
import os
import re
import tempfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)

KIB, MIB = 1 << 10, 1 << 20
# What needs no quoting in the configuration of a web server, and cannot be guessed.
_SECRET = re.compile(r"[A-Za-z0-9_.+/=-]{16,256}")
_FILE = "file:"

# Of the kinds of a genome, as pydantic puts them into the paths of faults.
_GENOME_TAGS = ("genome id", "genome files")


class ConfigError(Exception):
    """The configuration is not valid; the text has one line per fault, each with its path in the file."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be an absolute http or https URL without query and fragment")
    return value.rstrip("/") + "/"


def is_url(value: str) -> bool:
    """Whether the text is an absolute http or https URL, and not a path or key."""
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _relative_key(value: str) -> str:
    if any(segment in ("", ".", "..") for segment in value.split("/")):
        raise ValueError("must be a relative path without empty, '.' or '..' segments")
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith(_FILE) and not _SECRET.fullmatch(text):
        raise ValueError(f"must be {_FILE} and a path, or 16 to 256 letters, digits and characters of _-.+/=")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Key = Annotated[str, AfterValidator(_relative_key)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]


class LocalStorageConfig(_Model):
    """A folder of this machine."""

    type: Literal["local"]
    root: Path = Field(description="The folder; a relative one counts from the configuration file's own folder.")
    sendfile: Literal["x-accel", "x-sendfile"] | None = Field(
        None, description="How a web server in front takes over the sending of files: that of nginx, or of Apache."
    )
    url: BaseUrl | None = Field(None, description="Where a web server serves the folder to signed URLs.")
    secret: Secret | None = Field(None, description="What URLs are signed with, or `file:` and the file that holds it.")
    expires: int = Field(86_400, ge=1, description="Seconds for which a signed URL is good.")

    @model_validator(mode="after")
    def _signs_as_a_whole(self) -> "LocalStorageConfig":
        if (self.url is None) != (self.secret is None):
            raise ValueError("url and secret go together")
        return self


class FileConfig(_Model):
    """One data file."""

    storage: str
    key: Key
    index: Key | None = Field(None, description="The index's key; by default it is looked for beside the data file.")


class GenomeConfig(_Model):
    """A reference for the page: an indexed FASTA, by URLs, or by keys where a storage is named."""

    fasta: str
    index: str | None = Field(None, description="By default the FASTA's URL or key with .fai behind it.")
    name: str | None = None
    storage: str | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "GenomeConfig":
        for place in filter(None, (self.fasta, self.index)):
            _check_place(place, self.storage)
        return self


class TrackConfig(_Model, extra="allow"):
    """A further igv.js track for the page: its data by URL, or by key in a storage; all else is for igv.js."""

    url: str | None = None
    storage: str | None = None
    key: str | None = None
    index: str | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "TrackConfig":
        if (self.url is None) == (self.key is None) or (self.key is None) != (self.storage is None):
            raise ValueError("needs a url, or a storage and a key in it")
        for place in filter(None, (self.url, self.key, self.index)):
            _check_place(place, self.storage)
        return self


def _check_place(place: str, storage: str | None) -> None:
    if storage is not None:
        _relative_key(place)
    elif not is_url(place):
        raise ValueError(f"{place!r} must be an absolute http or https URL, or a storage be named that holds it")


def _kind_of_genome(value: Any) -> str:
    return _GENOME_TAGS[not isinstance(value, str)]


Genome = Annotated[
    Annotated[str, Tag(_GENOME_TAGS[0])] | Annotated[GenomeConfig, Tag(_GENOME_TAGS[1])],
    Discriminator(_kind_of_genome),
]


class PrefixConfig(_Model):
    """All datasets whose ids start with `prefix`: what follows it is the key, without the format's suffix."""

    prefix: str
    storage: str
    never_inline: bool | None = None
    description: str | None = None
    genome: Genome | None = Field(None, description="What the page shows the data on: a FASTA, or an igv.js genome id.")
    tracks: list[TrackConfig] = []


class DatasetConfig(_Model):
    """One dataset, its files named one by one."""

    id: str = Field(min_length=1)
    reads: dict[Literal["BAM", "CRAM"], FileConfig] = {}
    variants: dict[Literal["VCF", "BCF"], FileConfig] = {}
    never_inline: bool | None = None
    name: str | None = None
    description: str | None = None
    genome: Genome | None = Field(None, description="What the page shows the data on: a FASTA, or an igv.js genome id.")
    tracks: list[TrackConfig] = []


def _kind_of_dataset(value: Any) -> str:
    if isinstance(value, dict):
        return "prefix" if "prefix" in value and "id" not in value else "id"
    return "prefix" if isinstance(value, PrefixConfig) else "id"


DatasetEntry = Annotated[
    Annotated[PrefixConfig, Tag("prefix")] | Annotated[DatasetConfig, Tag("id")], Discriminator(_kind_of_dataset)
]


class HtsgetConfig(_Model):
    """How tickets are made."""

    inline_limit: int = Field(256 * KIB, ge=0, description="Most bytes that one ticket carries inline, before base64.")
    block_size: int = Field(128 * MIB, ge=MIB, description="Most bytes of a file behind one block URL.")
    never_inline: bool = Field(False, description="Put all data behind http URLs, for clients that refuse data: URLs.")
    strict_header_class: bool = Field(True, description="Refuse class=header together with other parameters.")
    max_post_bytes: int = Field(MIB, ge=1, description="Longest POST body accepted.")
    max_regions: int = Field(10_000, ge=1, description="Most regions accepted in one POST.")


class FilesConfig(_Model):
    """Plain files, below /files."""

    storages: list[str] = Field([], description="Storages all of whose files may be fetched.")
    listing: bool = Field(False, description="Tell which files these storages hold.")


class BrowserConfig(_Model):
    """The page with igv.js, at the service's root."""

    enabled: bool = True
    igv_js: str | None = Field(None, description="igv.js: a URL or a file; by default a pinned version from its CDN.")


class CacheConfig(_Model):
    """What is kept to answer faster."""

    max_bytes: int = Field(256 * MIB, ge=0, description="Memory per worker for headers, indexes and edge blocks.")
    folder: Path | None = Field(
        None,
        description="Where parsed indexes are kept between runs; by default below the user's cache folder.",
    )


class CorsConfig(_Model):
    """Which web pages may read the answers."""

    origins: str | list[str] = Field("*", description="Origins allowed, or * for all.")


class OrganizationConfig(_Model):
    """Who runs the service."""

    name: str = "unnamed"
    url: BaseUrl = "https://example.org/"


class ServiceConfig(_Model):
    """What GA4GH service-info tells of the service."""

    id: str = "org.example.htsget"
    name: str = "htsget_flask"
    description: str | None = None
    organization: OrganizationConfig = OrganizationConfig()
    contact_url: str | None = None
    documentation_url: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    environment: str | None = None


class Config(_Model):
    """The whole configuration."""

    public_url: BaseUrl | None = Field(
        None, description="What tickets point at; by default the address that the request itself used."
    )
    trusted_proxies: int = Field(0, ge=0, description="How many proxies in front set X-Forwarded-* headers.")
    storages: dict[str, LocalStorageConfig] = Field(min_length=1)
    datasets: list[DatasetEntry] = Field(min_length=1, description="First match wins.")
    htsget: HtsgetConfig = HtsgetConfig()
    browser: BrowserConfig = BrowserConfig()
    files: FilesConfig = FilesConfig()
    cache: CacheConfig = CacheConfig()
    cors: CorsConfig = CorsConfig()
    service: ServiceConfig = ServiceConfig()


def folder_config(folder: Path) -> Config:
    """The configuration that serves all files below a folder: its storage is named `data`, its ids are the paths.

    The files can be fetched as they are, and are listed.

    Raises:
        ConfigError: when there is no such folder.
    """
    return _validated(
        {
            "storages": {"data": {"type": "local", "root": str(folder)}},
            "datasets": [{"prefix": "", "storage": "data"}],
            "files": {"storages": ["data"], "listing": True},
        },
        base=Path.cwd(),
        source=str(folder),
    )


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
    return _validated({} if content is None else content, base=path.resolve().parent, source=str(path))


def default_cache_folder() -> Path:
    """The folder of this user for what can be made again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(home):
        return Path(home, "htsget_flask")
    return Path(tempfile.gettempdir(), f"htsget_flask-{os.getuid()}")


class _Loader(yaml.SafeLoader):
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
        return super().construct_mapping(node, deep)


def _validated(content: Any, *, base: Path, source: str) -> Config:
    faults = []
    config = None
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        faults = [f"{_dotted(fault['loc'])}: {_sentence(fault)}" for fault in error.errors()]
    faults += _cross_faults(content, base)
    if config is None or faults:
        raise ConfigError("\n".join(f"{source}: {fault}" for fault in faults))
    storages = {}
    for name, storage in config.storages.items():
        storages[name] = storage.model_copy(update={"root": base / storage.root})
        if storage.secret is not None and storage.secret.get_secret_value().startswith(_FILE):
            secret = SecretStr(_secret_in(base, storage.secret.get_secret_value()))
            storages[name] = storages[name].model_copy(update={"secret": secret})
    cache = config.cache
    if cache.folder is not None:
        cache = cache.model_copy(update={"folder": base / cache.folder})
    browser = config.browser
    if browser.igv_js is not None and not is_url(browser.igv_js):
        browser = browser.model_copy(update={"igv_js": str(base / browser.igv_js)})
    return config.model_copy(update={"storages": storages, "cache": cache, "browser": browser})


def _sentence(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such setting"
    if fault["type"] == "missing":
        return "is missing"
    return str(fault["msg"]).removeprefix("Value error, ")


def _dotted(location: tuple[int | str, ...]) -> str:
    """The path as a person writes it; the tags that pydantic puts in for the kinds of a dataset are not in the file."""
    parts: list[str] = []
    for place, part in enumerate(location):
        if (place == 2 and location[0] == "datasets" and part in ("prefix", "id")) or part in _GENOME_TAGS:
            continue
        parts.append(f"[{part}]" if isinstance(part, int) else f".{part}" if parts else part)
    return "".join(parts).replace(".[key]", " (the name)") or "the file"


def _cross_faults(content: Any, base: Path) -> Iterator[str]:
    """Faults between the parts, found in the raw content: they are told together with those of single values."""
    if not isinstance(content, dict):
        return
    storages = content.get("storages")
    storages = storages if isinstance(storages, dict) else {}
    yield from _storages_faults(storages, base)
    opened = _setting(content, "files", "storages")
    opened = opened if isinstance(opened, list) else []
    for place, name in enumerate(opened):
        yield from _storage_fault(f"files.storages[{place}]", name, storages)
    igv_js = _setting(content, "browser", "igv_js")
    if isinstance(igv_js, str) and not is_url(igv_js) and not (base / igv_js).is_file():
        yield f"browser.igv_js: there is no file {base / igv_js}"
    datasets = content.get("datasets")
    for place, dataset in enumerate(datasets if isinstance(datasets, list) else []):
        if not isinstance(dataset, dict):
            continue
        path = f"datasets[{place}]"
        if "prefix" not in dataset and not (dataset.get("reads") or dataset.get("variants")):
            yield f"{path}: names no file: give it reads or variants"
        named = [(path, dataset)]
        for kind in ("reads", "variants"):
            files = dataset.get(kind)
            if isinstance(files, dict):
                named += [(f"{path}.{kind}.{form}", file) for form, file in files.items() if isinstance(file, dict)]
        for where, entry in named:
            yield from _storage_fault(f"{where}.storage", entry.get("storage"), storages)
        yield from _shown_faults(path, dataset, opened)


def _storages_faults(storages: dict[Any, Any], base: Path) -> Iterator[str]:
    for name, storage in storages.items():
        root = storage.get("root") if isinstance(storage, dict) else None
        if isinstance(root, str) and not (base / root).is_dir():
            yield f"storages.{name}.root: there is no folder {base / root}"
        secret = storage.get("secret") if isinstance(storage, dict) else None
        if isinstance(secret, str) and secret.startswith(_FILE) and not _secret_in(base, secret):
            yield f"storages.{name}.secret: the file cannot be read, or does not hold a secret alone"
        if not isinstance(name, str) or not name or "/" in name:
            yield f"storages.{name}: a storage's name must not be empty or contain '/'"


def _setting(content: dict[Any, Any], section: str, name: str) -> Any:
    present = content.get(section)
    return present.get(name) if isinstance(present, dict) else None


def _shown_faults(path: str, dataset: dict[Any, Any], opened: list[Any]) -> Iterator[str]:
    """Faults of what browsers read as plain files."""
    tracks = dataset.get("tracks")
    tracks = tracks if isinstance(tracks, list) else []
    shown = {f"{path}.genome": dataset.get("genome")}
    shown |= {f"{path}.tracks[{place}]": track for place, track in enumerate(tracks)}
    for where, entry in shown.items():
        name = entry.get("storage") if isinstance(entry, dict) else None
        if isinstance(name, str) and name not in opened:
            yield f"{where}.storage: browsers cannot read {name!r}: it is not among files.storages"


def _secret_in(base: Path, text: str) -> str:
    """The secret in the file that a setting names; empty when it holds none."""
    try:
        found = (base / text.removeprefix(_FILE)).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if _SECRET.fullmatch(found) else ""


def _storage_fault(where: str, name: Any, storages: dict[Any, Any]) -> Iterator[str]:
    if isinstance(name, str) and name not in storages:
        yield f"{where}: there is no storage {name!r} (known: {', '.join(map(str, storages)) or 'none'})"
