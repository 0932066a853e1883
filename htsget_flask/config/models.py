"""The settings, as pydantic models; docs/configuration.md is generated from them."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from htsget_flask.config.auth import AuthConfig
from htsget_flask.config.datasets import DatasetEntry
from htsget_flask.config.storages import LocalStorageConfig, StorageConfig
from htsget_flask.config.types import (
    BaseUrl,
    HostName,
    Key,
    Model,
    ResolvedPath,
    SecretText,
    UrlOrFile,
    WebOrigins,
)

KIB, MIB = 1 << 10, 1 << 20

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


class HtsgetConfig(Model):
    """Tickets and data blocks."""

    inline_limit: int = Field(
        256 * KIB,
        ge=0,
        description="The most bytes, before base64, that one ticket carries inline: the header, and regions of few BGZF"
        " blocks. All else gets a URL.",
    )
    block_size: int = Field(
        128 * MIB,
        ge=MIB,
        description="A range of a file with more bytes than this is split where BGZF blocks start, so that clients can"
        " fetch in parallel and retry.",
    )
    never_inline: bool = Field(
        False,
        description="Deliver all data by http URLs: IGV desktop refuses `data:` URLs for variants. A request can also"
        " choose this ([`inline=false`](clients.md#igv-desktop)).",
    )
    strict_header_class: bool | None = Field(
        None,
        description="Which requests with `class=header` and parameters other than `format` are InvalidInput, as the"
        " specification requires. Unset: all except JBrowse 2's, `referenceName=na` alone, where the file has no"
        " reference `na`. `true`: that one too. `false`: none, the answer is the header.",
    )
    max_post_bytes: int = Field(
        MIB, ge=1, description="The most bytes of a POST body; more are answered with PayloadTooLarge."
    )
    max_regions: int = Field(
        10_000, ge=1, description="The most regions in a POST body; more are answered with PayloadTooLarge."
    )


class FilesConfig(Model):
    """Plain files at `/files`."""

    storages: list[str] = Field(
        [],
        description="Storages **all** of whose files may be fetched by everybody that reaches the server, or that"
        " [rules](#access-control) allow, whether or not a dataset names them. Hidden ones, with a name or a folder's"
        " name that starts with a dot, are not served. The configuration and the files of secrets must lie elsewhere.",
    )
    listing: bool = Field(
        False,
        description="List the files of these storages at `/files/<storage>/` and `/files/<storage>/<folder>/`, as HTML"
        " pages and as JSON ([clients.md](clients.md#plain-files)).",
    )


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
    """FASTA files whose sequences are served: one file, or all below a prefix."""

    storage: str = Field(description="The storage that holds the files.")
    key: Key | None = Field(None, description="The path of a FASTA file in the storage; its name may be any.")
    prefix: str | None = Field(
        None,
        description="Instead of `key`: the start of the paths of several FASTA files. If two entries name a file, the"
        " first one counts.",
    )
    circular: list[str] = Field(
        [],
        description="The names of circular sequences. `check` and the log report names that no file of the entry has.",
    )
    aliases: dict[str, list[Curie]] = Field(
        {}, description='Further identifiers, lists by the names of sequences: `{chr1: ["insdc:CM000663.2"]}`.'
    )
    namespace: Namespace | None = Field(
        None,
        description="Makes the names identifiers too: with `insdc` the sequence `BK006935.2` is also at"
        " `/sequence/insdc:BK006935.2`.",
    )

    @model_validator(mode="after")
    def _check_files(self) -> "RefgetFastaConfig":
        if (self.key is None) == (self.prefix is None):
            raise ValueError("needs either a key or a prefix")
        return self

    def names(self) -> list[str]:
        """The names of sequences in `circular` and `aliases`, each once."""
        return list(dict.fromkeys((*self.circular, *self.aliases)))


class RefgetStoreConfig(Model):
    """A sequence store, as `htsget-flask refget ingest` writes it."""

    storage: str = Field(
        description="The storage that holds the output of [`htsget-flask refget ingest`]"
        "(deployment.md#reference-sequences)."
    )
    prefix: str = Field("", description="The start of its keys; a folder's path ends with a slash.")


class RefgetConfig(Model):
    """Reference sequences at `/sequence`."""

    fastas: list[RefgetFastaConfig] = Field([], description="The FASTA files.")
    store: RefgetStoreConfig | None = Field(None, description="The sequence store.")
    subsequence_limit: int | None = Field(
        None, ge=1, description="The most bases of a part of a sequence; more are refused (416), except for all of it."
    )
    circular_supported: bool = Field(
        True,
        description="Serve parts of circular sequences across their origin; otherwise these get status 501.",
    )


class BrowserConfig(Model):
    """The page with igv.js, at the service's root."""

    enabled: bool = Field(True, description="Whether there is a page.")
    igv_js: UrlOrFile | None = Field(
        None,
        description="igv.js as a URL, or as a file of this machine, which this service then delivers"
        " ([closed networks](deployment.md#closed-networks)); a relative path counts from the configuration file's"
        " folder. By default a pinned version from jsdelivr, with its hash.",
    )


class CacheConfig(Model):
    """Memory and files that make answers faster."""

    max_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="Memory of each worker for headers, indexes and edge blocks with their keys, in bytes. The least"
        " recently used ones go first.",
    )
    folder: ResolvedPath | None = Field(
        None,
        description="Where parsed indexes and the digests of sequences are kept, one file each, mapped into memory by"
        " all workers; by default `$XDG_CACHE_HOME/htsget_flask` if that is an absolute path, or"
        " `~/.cache/htsget_flask`. A file is made again when the data or the index changes, or when it is damaged."
        " Indexes are kept in each worker's own memory instead if the folder is not writable, belongs to a user other"
        " than the server's or root, or is writable for others; the log says so at the start. It must not lie in a"
        " storage of plain files.",
    )


class CorsConfig(Model):
    """Web pages that may read the answers."""

    origins: WebOrigins = Field(
        "*",
        description='The origins of pages that may read the answers: `"*"`, or a list of origins in full:'
        ' `https://igv.org`, `http://localhost:8000`, `http://localhost:*` for any port, or `"null"` for pages from'
        " files. There are no other patterns, and nothing follows host and port, not even `/`.",
    )


class OrganizationConfig(Model):
    """The organization that runs the service."""

    name: str = Field("unnamed", description="The organization's name.")
    url: BaseUrl = Field("https://example.org/", description="The organization's web address.")


class ServiceConfig(Model):
    """GA4GH service-info."""

    id: str = Field("org.example.htsget", description="Reverse domain name.")
    name: str = Field("htsget_flask", description="Name for people.")
    description: str | None = Field(None, description="Description for people.")
    organization: OrganizationConfig = Field(
        OrganizationConfig(), description="The organization that runs the service."
    )
    contact_url: str | None = Field(None, description="A web address or `mailto:`.")
    documentation_url: str | None = Field(None, description="Web address of the service's documentation.")
    created_at: str | None = Field(None, description="Time of the service's start, RFC 3339.")
    updated_at: str | None = Field(None, description="Time of its last change, RFC 3339.")
    environment: str | None = Field(None, description="Such as `production` or `test`.")


def _storage_name(value: str) -> str:
    if not value or "/" in value:
        raise ValueError("a storage's name must not be empty or contain '/'")
    return value


class Config(Model):
    """The whole configuration."""

    public_url: BaseUrl | None = Field(
        None,
        description="The service's URL in tickets; by default the address that each request used. Set it when clients"
        " reach the server at another address than the server sees.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        description="How many proxies in front set `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`. These"
        " headers are trusted from this number of proxies, and from nobody if it is 0; so is `X-Request-ID`, for"
        " [the audit log](access.md#the-audit-log).",
    )
    hosts: list[HostName] | None = Field(
        None,
        min_length=1,
        description="The hosts that requests may name, without ports: `[htsget.example.org]`, IPv6 addresses in"
        " brackets; by default any. Requests for other hosts, also for `/health`, are answered with 421. With a trusted"
        " proxy the host is the one that it forwards.",
    )
    storages: dict[Annotated[str, AfterValidator(_storage_name)], StorageConfig] = Field(
        min_length=1, description="Folders and buckets by name: [storages](#storages)."
    )
    datasets: list[DatasetEntry] = Field(
        [], description="The datasets, of which the first match wins: [datasets](#datasets)."
    )
    htsget: HtsgetConfig = Field(HtsgetConfig(), description="[Tickets and data blocks](#htsget).")
    refget: RefgetConfig = Field(RefgetConfig(), description="[Reference sequences](#reference-sequences).")
    browser: BrowserConfig = Field(BrowserConfig(), description="[The page](#the-page) with igv.js.")
    files: FilesConfig = Field(FilesConfig(), description="[Plain files](#files).")
    cache: CacheConfig = Field(CacheConfig(), description="[Memory and files](#cache) that make answers faster.")
    cors: CorsConfig = Field(CorsConfig(), description="[Web pages](#cors) that may read the answers.")
    service: ServiceConfig = Field(ServiceConfig(), description="[Service information](#service-information).")
    auth: AuthConfig | None = Field(
        None, description="[Access control](#access-control); without it everything is public."
    )

    _remarks: Sequence[str] = PrivateAttr(())

    @property
    def remarks(self) -> Sequence[str]:
        """Risks of a valid configuration that its operator should know, each with its path."""
        return self._remarks

    def secrets(self) -> Iterator[tuple[str, SecretText]]:
        """Each secret, with the path of its setting."""
        for name, storage in self.storages.items():
            if isinstance(storage, LocalStorageConfig) and storage.secret is not None:
                yield f"storages.{name}.secret", storage.secret
        if self.auth is not None:
            for index, secret in enumerate(self.auth.secrets):
                yield f"auth.secrets[{index}]", secret
            if self.auth.introspection is not None:
                yield "auth.introspection.client_secret", self.auth.introspection.client_secret
