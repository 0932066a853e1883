"""The settings, as pydantic models; docs/configuration.md tells of each."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)

from htsget_flask.config.auth import AuthConfig
from htsget_flask.config.storages import StorageConfig
from htsget_flask.config.types import (
    BaseUrl,
    HostName,
    Key,
    Model,
    WebOrigins,
    is_url,
    meant_settings,
    relative_key,
)

KIB, MIB = 1 << 10, 1 << 20

# Of the kinds of a genome, and of other settings that have kinds, as pydantic puts them into the paths of faults.
GENOME_TAGS = ("genome id", "genome files")
KIND_TAGS: Mapping[str | int, tuple[str, ...]] = {"storages": ("local", "s3"), "datasets": ("prefix", "id")}

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


class FileConfig(Model):
    """One data file."""

    storage: str
    key: Key
    index: Key | None = Field(None, description="The index's key; by default it is looked for beside the data file.")


class GenomeConfig(Model):
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


class TrackConfig(Model, extra="allow"):
    """A further igv.js track for the page: its data by URL, or by key in a storage; all else is for igv.js."""

    url: str | None = None
    storage: str | None = None
    key: str | None = None
    index: str | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "TrackConfig":
        nested = (self.model_extra or {}).get("tracks")
        if nested and self.url is self.key is self.storage is self.index is None:
            # igv.js's type `merged`.
            if not isinstance(nested, list) or not all(_has_url(track) for track in nested):
                raise ValueError("each of its tracks needs a url, an absolute http or https one")
            return self
        if (self.url is None) == (self.key is None) or (self.key is None) != (self.storage is None):
            raise ValueError("needs a url, a storage and a key in it, or tracks that have urls")
        for place in filter(None, (self.url, self.key, self.index)):
            _check_place(place, self.storage)
        return self


def _has_url(track: Any) -> bool:
    url = track.get("url") if isinstance(track, dict) else None
    return isinstance(url, str) and is_url(url)


def _check_place(place: str, storage: str | None) -> None:
    if storage is not None:
        relative_key(place)
    elif not is_url(place):
        raise ValueError(f"{place!r} must be an absolute http or https URL, or a storage be named that holds it")


def _kind_of_genome(value: Any) -> str:
    return GENOME_TAGS[not isinstance(value, str)]


Genome = Annotated[
    Annotated[str, Tag(GENOME_TAGS[0])] | Annotated[GenomeConfig, Tag(GENOME_TAGS[1])],
    Discriminator(_kind_of_genome),
]


class PrefixConfig(Model):
    """All datasets whose ids start with `prefix`: what follows it is the key, without the format's suffix."""

    prefix: str
    storage: str
    never_inline: bool | None = None
    description: str | None = None
    genome: Genome | None = Field(None, description="What the page shows the data on: a FASTA, or an igv.js genome id.")
    tracks: list[TrackConfig] = []


class DatasetConfig(Model):
    """One dataset, its files named one by one."""

    id: str = Field(min_length=1)
    reads: dict[Literal["BAM", "CRAM"], FileConfig] = {}
    variants: dict[Literal["VCF", "BCF"], FileConfig] = {}
    never_inline: bool | None = None
    name: str | None = None
    description: str | None = None
    genome: Genome | None = Field(None, description="What the page shows the data on: a FASTA, or an igv.js genome id.")
    tracks: list[TrackConfig] = []


def kind_of_dataset(value: Any) -> str:
    """Whether an entry is meant to name one dataset (`id`), or all that start with a prefix (`prefix`)."""
    if isinstance(value, dict):
        # Only entries with a prefix have a storage of their own.
        has_prefix = not meant_settings(value, ("prefix", "id")).keys().isdisjoint({"prefix", "storage"})
        return "prefix" if has_prefix and "id" not in value else "id"
    return "prefix" if isinstance(value, PrefixConfig) else "id"


DatasetEntry = Annotated[
    Annotated[PrefixConfig, Tag("prefix")] | Annotated[DatasetConfig, Tag("id")], Discriminator(kind_of_dataset)
]


class HtsgetConfig(Model):
    """How tickets are made."""

    inline_limit: int = Field(256 * KIB, ge=0, description="Most bytes that one ticket carries inline, before base64.")
    block_size: int = Field(128 * MIB, ge=MIB, description="Most bytes of a file behind one block URL.")
    never_inline: bool = Field(False, description="Put all data behind http URLs, for clients that refuse data: URLs.")
    strict_header_class: bool | None = Field(
        None, description="Refuse class=header together with other parameters; null: all but JBrowse 2's request."
    )
    max_post_bytes: int = Field(MIB, ge=1, description="Longest POST body accepted.")
    max_regions: int = Field(10_000, ge=1, description="Most regions accepted in one POST.")


class FilesConfig(Model):
    """Plain files, below /files."""

    storages: list[str] = Field([], description="Storages all of whose files may be fetched.")
    listing: bool = Field(False, description="Tell which files these storages hold.")


def _namespace(value: str) -> str:
    if not _NAMESPACE.fullmatch(value):
        raise ValueError("must be letters, digits and characters of _.-")
    return value


def _curie(value: str) -> str:
    namespace, colon, name = value.partition(":")
    if not (_NAMESPACE.fullmatch(namespace) and colon and name) or re.search(r"[\s/]", name):
        raise ValueError("must be a namespace, a colon and a name, such as insdc:CM000663.2")
    return value


Namespace = Annotated[str, AfterValidator(_namespace)]
Curie = Annotated[str, AfterValidator(_curie)]


class RefgetFastaConfig(Model):
    """FASTA files whose sequences are served by their digests: one of them, or all below a prefix."""

    storage: str
    key: Key | None = None
    prefix: str | None = Field(None, description="Instead of a key: what the keys of the files start with.")
    circular: list[str] = Field([], description="The names of sequences that are circular.")
    aliases: dict[str, list[Curie]] = Field({}, description="Further identifiers, by the names of sequences.")
    namespace: Namespace | None = Field(None, description="That of the names themselves: they are identifiers too.")

    @model_validator(mode="after")
    def _names_files(self) -> "RefgetFastaConfig":
        if (self.key is None) == (self.prefix is None):
            raise ValueError("needs either a key or a prefix")
        return self

    def names(self) -> list[str]:
        """The sequences that are named, each once."""
        return list(dict.fromkeys((*self.circular, *self.aliases)))


class RefgetStoreConfig(Model):
    """Sequences that are files of their own, as `htsget-flask refget ingest` writes them."""

    storage: str
    prefix: str = Field("", description="What the keys start with.")


class RefgetConfig(Model):
    """Reference sequences by their digests."""

    fastas: list[RefgetFastaConfig] = []
    store: RefgetStoreConfig | None = None
    subsequence_limit: int | None = Field(None, ge=1, description="Most letters of a part of a sequence.")
    circular_supported: bool = Field(True, description="Whether parts of circular sequences may go over their end.")


class BrowserConfig(Model):
    """The page with igv.js, at the service's root."""

    enabled: bool = True
    igv_js: str | None = Field(None, description="igv.js: a URL or a file; by default a pinned version from its CDN.")


class CacheConfig(Model):
    """What is kept to answer faster."""

    max_bytes: int = Field(256 * MIB, ge=0, description="Memory per worker for headers, indexes and edge blocks.")
    folder: Path | None = Field(
        None,
        description="Where parsed indexes are kept between runs; by default below the user's cache folder.",
    )


class CorsConfig(Model):
    """Which web pages may read the answers."""

    origins: WebOrigins = Field("*", description="Origins allowed, or * for all.")


class OrganizationConfig(Model):
    """Who runs the service."""

    name: str = "unnamed"
    url: BaseUrl = "https://example.org/"


class ServiceConfig(Model):
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


class Config(Model):
    """The whole configuration."""

    public_url: BaseUrl | None = Field(
        None, description="What tickets point at; by default the address that the request itself used."
    )
    trusted_proxies: int = Field(0, ge=0, description="How many proxies in front set X-Forwarded-* headers.")
    hosts: list[HostName] | None = Field(
        None, min_length=1, description="The hosts that requests may name, without ports; by default any."
    )
    storages: dict[str, StorageConfig] = Field(min_length=1)
    datasets: list[DatasetEntry] = Field([], description="First match wins.")
    htsget: HtsgetConfig = HtsgetConfig()
    refget: RefgetConfig = RefgetConfig()
    browser: BrowserConfig = BrowserConfig()
    files: FilesConfig = FilesConfig()
    cache: CacheConfig = CacheConfig()
    cors: CorsConfig = CorsConfig()
    service: ServiceConfig = ServiceConfig()
    auth: AuthConfig | None = Field(None, description="Who may see what; without it everybody may see everything.")

    _remarks: Sequence[str] = PrivateAttr(())

    @property
    def remarks(self) -> Sequence[str]:
        """What an operator should know about a valid configuration, each with its path."""
        return self._remarks
