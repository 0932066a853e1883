"""The settings of datasets, and of the genomes and tracks that the page shows with them."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from htsget_flask.config.types import (
    TEXT_OR_OTHER,
    TEXT_TAGS,
    Key,
    Model,
    constraint,
    correct_spelling,
    is_url,
    relative_key,
)


class FileConfig(Model):
    """A data file."""

    storage: str
    """The storage that holds the file."""
    key: Key
    """The file's path in the storage."""
    index: Key | None = None
    """The index's path in the storage; by default it is searched for next to the file."""


class GenomeConfig(Model):
    """The reference genome of a dataset for the page: an indexed FASTA file."""

    fasta: str
    """The FASTA's URL, or its path in the storage. One that ends in `.gz` or `.bgz` needs its `.gzi` next to it."""
    index: str | None = None
    """The index's URL or path; by default the FASTA's with `.fai` appended."""
    name: str | None = None
    """Its name in igv.js; by default the FASTA's."""
    storage: str | None = None
    """The storage, among `files.storages`; by default there are URLs."""

    def model_post_init(self, context: Any, /) -> None:
        for location in filter(None, (self.fasta, self.index)):
            _check_location(location, self.storage)


class TrackConfig(Model, extra="allow"):
    """A further igv.js track for the page: all settings but these are handed to igv.js."""

    url: str | None = None
    """URL of the data. igv.js's `type: merged` has none; each of the track's own `tracks` has one."""
    storage: str | None = None
    """Instead of `url`: a storage among `files.storages`."""
    key: str | None = None
    """The file's path in the storage. With access control a caller needs a [grant for this
    file](access.md#who-may-see-what)."""
    index: str | None = None
    """The index's URL, or its path in the storage."""

    def model_post_init(self, context: Any, /) -> None:
        nested = (self.model_extra or {}).get("tracks")
        if nested and self.url is self.key is self.storage is self.index is None:
            # igv.js's type `merged`.
            if not isinstance(nested, list) or not all(_has_url(track) for track in nested):
                raise ValueError("each of its tracks needs a url, an absolute http or https one")
            return
        if (self.url is None) == (self.key is None) or (self.key is None) != (self.storage is None):
            raise ValueError("needs a url, a storage and a key in it, or tracks that have urls")
        for location in filter(None, (self.url, self.key, self.index)):
            _check_location(location, self.storage)


def _has_url(track: Any) -> bool:
    url = track.get("url") if isinstance(track, dict) else None
    return isinstance(url, str) and is_url(url)


def _check_location(location: str, storage: str | None) -> None:
    if storage is not None:
        relative_key(location)
    elif not is_url(location):
        raise ValueError(f"{location!r} must be an absolute http or https URL, or needs a storage that holds it")


Genome = Annotated[Annotated[str, Tag(TEXT_TAGS[0])] | Annotated[GenomeConfig, Tag(TEXT_TAGS[1])], TEXT_OR_OTHER]
Prefix = Annotated[
    str,
    constraint(
        lambda prefix: "" not in prefix.split("/")[:-1],
        "must not start with '/' or contain '//': no request reaches such ids",
    ),
]
DatasetId = Annotated[
    str,
    Field(min_length=1),
    constraint(lambda id_: id_ != "service-info", "service-info is an endpoint: no request reaches such a dataset"),
    constraint(
        lambda id_: "" not in id_.split("/"),
        "must not start or end with '/' or contain '//': no request reaches such an id",
    ),
]


class _EntryConfig(Model):
    """What both kinds of entry have."""

    never_inline: bool | None = None
    """Deliver all data by http URLs; by default as `htsget.never_inline`."""
    description: str | None = None
    """The page's description of the entry's datasets."""
    genome: Genome | None = None
    """The reference genome for the page: the id of a genome that igv.js knows, or an indexed FASTA file; by default a
    FASTA file that is found, see [the page](#the-page)."""
    tracks: list[TrackConfig] = []
    """Further igv.js tracks that the page shows with each dataset."""


class PrefixConfig(_EntryConfig):
    """All datasets whose ids start with a prefix: the rest of the id is the key without the format's suffix."""

    prefix: Prefix
    """The start of the ids; may be empty."""
    storage: str
    """The storage in which the rest of an id is searched for."""


class DatasetConfig(_EntryConfig):
    """One dataset whose files are named."""

    id: DatasetId
    """The id."""
    reads: dict[Literal["BAM", "CRAM"], FileConfig] = {}
    """Files of reads by format: `BAM`, `CRAM`."""
    variants: dict[Literal["VCF", "BCF"], FileConfig] = {}
    """Files of variants by format: `VCF`, `BCF`."""
    name: str | None = None
    """The dataset's name on the page; by default the id."""

    def model_post_init(self, context: Any, /) -> None:
        if not (self.reads or self.variants):
            raise ValueError("names no file: give it reads or variants")


def _entry_tag(value: Any) -> str:
    if isinstance(value, dict):
        # Only entries with a prefix have a storage.
        has_prefix = not correct_spelling(value, ("prefix", "id")).keys().isdisjoint({"prefix", "storage"})
        return "prefix" if has_prefix and "id" not in value else "id"
    return "prefix" if isinstance(value, PrefixConfig) else "id"


DatasetEntry = Annotated[
    Annotated[PrefixConfig, Tag("prefix")] | Annotated[DatasetConfig, Tag("id")], Discriminator(_entry_tag)
]
