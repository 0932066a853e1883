"""The settings, as pydantic models; docs/configuration.md is generated from them."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

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
    constraint,
)

KIB, MIB = 1 << 10, 1 << 20

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_CURIE = re.compile(rf"{_NAMESPACE.pattern}:[^\s/]+")

Namespace = Annotated[str, constraint(_NAMESPACE.fullmatch, "must be letters, digits and characters of _.-")]
Curie = Annotated[
    str, constraint(_CURIE.fullmatch, "must be a namespace, a colon and a name, such as insdc:CM000663.2")
]
StorageName = Annotated[str, constraint(lambda name: name and "/" not in name, "must not be empty or contain '/'")]


class HtsgetConfig(Model):
    """Tickets and data blocks."""

    inline_limit: int = Field(256 * KIB, ge=0)
    """The most bytes, before base64, that one ticket carries inline: the header, and regions of few BGZF blocks. All
    else gets a URL."""
    block_size: int = Field(128 * MIB, ge=MIB)
    """A range of a file with more bytes than this is split where BGZF blocks start, so that clients can fetch in
    parallel and retry."""
    never_inline: bool = False
    """Deliver all data by http URLs: IGV desktop refuses `data:` URLs for variants. A request can also choose this
    ([`inline=false`](clients.md#igv-desktop))."""
    exact: bool | Literal["all"] = True
    """Whether the answer for a region holds exactly the records that overlap it. `false`: whole chunks of the index,
    with records before and after the region. `all`: the containers of CRAM are cut too, where the reference sequences
    are among [those served](#reference-sequences)."""
    convert: bool = True
    """Answer in formats that a dataset has no file of: CRAM as BAM, BCF as VCF, VCF and BCF as plain text (VCFTEXT).
    CRAM needs its reference sequences among [those served](#reference-sequences). A request that names no format is
    then answered with BAM or VCF."""
    strict_header_class: bool | None = None
    """Which requests with `class=header` and parameters other than `format` are InvalidInput, as the specification
    requires. Unset: all except JBrowse 2's, `referenceName=na` alone, where the file has no reference `na`. `true`:
    that one too. `false`: none, the answer is the header."""
    max_post_bytes: int = Field(MIB, ge=1)
    """The most bytes of a POST body; more are answered with PayloadTooLarge."""
    max_regions: int = Field(10_000, ge=1)
    """The most regions in a POST body; more are answered with PayloadTooLarge."""


class ConvertConfig(Model):
    """Records that are converted or decoded."""

    concurrency: int = Field(2, ge=1, le=64)
    """How many data blocks each worker decodes at the same time, in one process each. Further requests wait, and are
    answered with status 503 after some seconds."""


class FilesConfig(Model):
    """Plain files at `/files`."""

    storages: list[str] = []
    """Storages **all** of whose files may be fetched by everybody that reaches the server, or that
    [rules](#access-control) allow, whether or not a dataset names them. Hidden ones, with a name or a folder's name
    that starts with a dot, are not served. The configuration and the files of secrets must lie elsewhere."""
    listing: bool = False
    """List the files of these storages at `/files/<storage>/` and `/files/<storage>/<folder>/`, as HTML pages and as
    JSON ([clients.md](clients.md#plain-files))."""


class RefgetFastaConfig(Model):
    """FASTA files whose sequences are served: one file, or all below a prefix."""

    storage: str
    """The storage that holds the files."""
    key: Key | None = None
    """The path of a FASTA file in the storage; its name may be any."""
    prefix: str | None = None
    """Instead of `key`: the start of several FASTA files' paths. If two entries name a file, the first one counts."""
    circular: list[str] = []
    """The names of circular sequences. `check` and the log report names that no file of the entry has."""
    aliases: dict[str, list[Curie]] = {}
    """Further identifiers, lists by the names of sequences: `{chr1: ["insdc:CM000663.2"]}`."""
    namespace: Namespace | None = None
    """Makes the names identifiers too: with `insdc` the sequence `BK006935.2` is also at
    `/sequence/insdc:BK006935.2`."""

    def model_post_init(self, context: Any, /) -> None:
        if (self.key is None) == (self.prefix is None):
            raise ValueError("needs either a key or a prefix")

    def names(self) -> list[str]:
        """The names of sequences in `circular` and `aliases`, each once."""
        return list(dict.fromkeys((*self.circular, *self.aliases)))


class RefgetStoreConfig(Model):
    """A sequence store, as `htsget-flask refget ingest` writes it."""

    storage: str
    """The storage that holds the output of [`htsget-flask refget ingest`](deployment.md#reference-sequences)."""
    prefix: str = ""
    """The start of its keys; a folder's path ends with a slash."""


class RefgetConfig(Model):
    """Reference sequences at `/sequence`."""

    fastas: list[RefgetFastaConfig] = []
    """The FASTA files."""
    store: RefgetStoreConfig | None = None
    """The sequence store."""
    subsequence_limit: int | None = Field(None, ge=1)
    """The most bases of a part of a sequence; more are refused (416), except for all of it."""
    circular_supported: bool = True
    """Serve parts of circular sequences across their origin; otherwise these get status 501."""


class BrowserConfig(Model):
    """The page with igv.js, at the service's root."""

    enabled: bool = True
    """Whether there is a page."""
    igv_js: UrlOrFile | None = None
    """igv.js as a URL, or as a file of this machine, which this service then delivers ([closed
    networks](deployment.md#closed-networks)); a relative path counts from the configuration file's folder. By default a
    pinned version from jsdelivr, with its hash."""


class CacheConfig(Model):
    """Memory and files that make answers faster."""

    max_bytes: int = Field(256 * MIB, ge=0)
    """Memory of each worker for headers, indexes, blocks at the edges of regions and, of buckets, pages of 1 MiB, with
    their keys, in bytes. The least recently used ones go first."""
    folder: ResolvedPath | None = None
    """Where parsed indexes and the digests of sequences are kept, one file each, mapped into memory by all workers, and
    directories of BGZF blocks, a file for each 32 MiB of data in which regions were requested (of at most 100 kB); by
    default `$XDG_CACHE_HOME/htsget_flask` if that is an absolute path, or `~/.cache/htsget_flask`. A file is made again
    when the data or the index changes, or when it is damaged. Indexes are kept in each worker's own memory instead if
    the folder is not writable, belongs to a user other than the server's or root, or is writable for others; the log
    says so at the start. It must not lie in a storage of plain files."""


class CorsConfig(Model):
    """Web pages that may read the answers."""

    origins: WebOrigins = "*"
    """The origins of pages that may read the answers: `"*"`, or a list of origins in full: `https://igv.org`,
    `http://localhost:8000`, `http://localhost:*` for any port, or `"null"` for pages from files. There are no other
    patterns, and nothing follows host and port, not even `/`."""


class OrganizationConfig(Model):
    """The organization that runs the service."""

    name: str = "unnamed"
    """The organization's name."""
    url: BaseUrl = "https://example.org/"
    """The organization's web address."""


class ServiceConfig(Model):
    """GA4GH service-info."""

    id: str = "org.example.htsget"
    """Reverse domain name."""
    name: str = "htsget_flask"
    """Name for people."""
    description: str | None = None
    """Description for people."""
    organization: OrganizationConfig = OrganizationConfig()
    """The organization that runs the service."""
    contact_url: str | None = None
    """A web address or `mailto:`."""
    documentation_url: str | None = None
    """Web address of the service's documentation."""
    created_at: str | None = None
    """Time of the service's start, RFC 3339."""
    updated_at: str | None = None
    """Time of its last change, RFC 3339."""
    environment: str | None = None
    """Such as `production` or `test`."""


class Config(Model):
    """The whole configuration."""

    public_url: BaseUrl | None = None
    """The service's URL in tickets; by default the address that each request used. Set it when clients reach the server
    at another address than the server sees."""
    trusted_proxies: int = Field(0, ge=0)
    """How many proxies in front set `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`. These headers are
    trusted from this number of proxies, and from nobody if it is 0; so is `X-Request-ID`, for [the audit
    log](access.md#the-audit-log)."""
    hosts: list[HostName] | None = Field(None, min_length=1)
    """The hosts that requests may name, without ports: `[htsget.example.org]`, IPv6 addresses in brackets; by default
    any. Requests for other hosts, also for `/health`, are answered with 421. With a trusted proxy the host is the one
    that it forwards."""
    storages: dict[StorageName, StorageConfig] = Field(min_length=1)
    """Folders and buckets by name: [storages](#storages)."""
    datasets: list[DatasetEntry] = []
    """The datasets, of which the first match wins: [datasets](#datasets)."""
    htsget: HtsgetConfig = HtsgetConfig()
    """[Tickets and data blocks](#htsget)."""
    convert: ConvertConfig = ConvertConfig()
    """[Conversion](#convert)."""
    refget: RefgetConfig = RefgetConfig()
    """[Reference sequences](#reference-sequences)."""
    browser: BrowserConfig = BrowserConfig()
    """[The page](#the-page) with igv.js."""
    files: FilesConfig = FilesConfig()
    """[Plain files](#files)."""
    cache: CacheConfig = CacheConfig()
    """[Memory and files](#cache) that make answers faster."""
    cors: CorsConfig = CorsConfig()
    """[Web pages](#cors) that may read the answers."""
    service: ServiceConfig = ServiceConfig()
    """[Service information](#service-information)."""
    auth: AuthConfig | None = None
    """[Access control](#access-control); without it everything is public."""

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
