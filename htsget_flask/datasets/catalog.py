"""From the ids that clients say to the files that storages hold; the first matching entry of the configuration wins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from htsget_flask.config import DatasetConfig, PrefixConfig
from htsget_flask.errors import FileFaultError, NotFound, StorageError, UnsupportedFormat
from htsget_flask.formats import ENDPOINTS, FORMATS, Format
from htsget_flask.storage import Stat, Storage, StoredFile, is_hidden


class Source(NamedTuple):
    """Where a dataset's file in one format lies, whether or not it exists; `index_key` where it is configured."""

    id: str
    format: Format
    storage_name: str
    storage: Storage
    key: str
    index_key: str | None
    never_inline: bool | None

    @property
    def index_keys(self) -> Sequence[str]:
        """Where the index may lie, in the order of preference."""
        return (self.index_key,) if self.index_key else self.format.index_keys(self.key)

    def stat(self, key: str, *, fresh: bool) -> Stat:
        """The version of the dataset's data or of an index; unless it has to be `fresh` one that is remembered.

        Raises:
            NotFound: when there is no such file.
            FileFaultError: when the system does not let it be looked at.
        """
        storage = self.storage
        try:
            return storage.stat(key, max_age=0 if fresh else storage.max_age, sibling_prefix=self._sibling_prefix)
        except OSError as error:
            raise self._unreadable(key, error) from error

    def open(self, key: str, *, etag: str) -> StoredFile:
        """One version of the dataset's data or of an index.

        Raises:
            NotFound, VersionError: when it does not exist, or not any more.
            FileFaultError: when the system does not let it be read.
        """
        try:
            return self.storage.open(key, etag=etag)
        except OSError as error:
            raise self._unreadable(key, error) from error

    def _unreadable(self, key: str, error: OSError) -> FileFaultError:
        what = "it" if key == self.key else f"the index of the {self.format.name} file"
        return FileFaultError(f"{what} cannot be read: {error.strerror}", location=self.storage.location(key))

    @property
    def _sibling_prefix(self) -> str | None:
        """What the usual keys of the dataset's data and indexes start with: elsewhere they are looked for together."""
        if not self.storage.reads_are_requests:
            return None
        suffix = next((suffix for suffix in self.format.suffixes if self.key.endswith(suffix)), None)
        return self.key if suffix is None else self.key.removesuffix(suffix) + "."

    @property
    def location(self) -> str:
        """The file for logs, never for clients."""
        return self.storage.location(self.key)


class DataFile(NamedTuple):
    """A file that exists, in its present version."""

    source: Source
    stat: Stat


class _PrefixEntry:
    def __init__(self, config: PrefixConfig, storage: Storage) -> None:
        self.config = config
        self._storage = storage

    def matches(self, dataset_id: str) -> bool:
        prefix = self.config.prefix
        if not dataset_id.startswith(prefix) or dataset_id.endswith("/"):
            return False
        # Without a name the file would be one that is only a suffix, such as `.bam`. What is hidden, such as the
        # snapshots of a file server, may be what was withdrawn.
        stem = dataset_id[len(prefix) :]
        return bool(stem) and not is_hidden(stem)

    def sources(self, dataset_id: str, endpoint: str) -> Iterator[Source]:
        stem = dataset_id[len(self.config.prefix) :]
        for format_ in FORMATS.values():
            if format_.endpoint == endpoint:
                for suffix in format_.suffixes:
                    yield self._source(dataset_id, format_, stem + suffix)

    def existing(self) -> Iterator[Source]:
        for key, _ in self._storage.entries():
            for format_ in FORMATS.values():
                for suffix in format_.suffixes:
                    if key.endswith(suffix):
                        dataset_id = self.config.prefix + key[: -len(suffix)]
                        if self.matches(dataset_id):
                            yield self._source(dataset_id, format_, key)

    def preferred_key(self, source: Source) -> str | None:
        """The key of another file that is served in the place of this one, which has a later suffix of its format."""
        suffixes = source.format.suffixes
        # Most files have the first suffix, and then nothing is read.
        for place, suffix in enumerate(suffixes):
            if source.key.endswith(suffix):
                stem = source.key.removesuffix(suffix)
                return next((stem + other for other in suffixes[:place] if self._holds(stem + other)), None)
        return None

    def _holds(self, key: str) -> bool:
        try:
            self._storage.stat(key)
        except NotFound:
            return False
        return True

    def __str__(self) -> str:
        return f"prefix {self.config.prefix!r}"

    def _source(self, dataset_id: str, format_: Format, key: str) -> Source:
        config = self.config
        return Source(dataset_id, format_, config.storage, self._storage, key, None, config.never_inline)


class _DatasetEntry:
    def __init__(self, config: DatasetConfig, storages: Mapping[str, Storage]) -> None:
        self.config = config
        self._sources = []
        for files in (config.reads, config.variants):
            for name, file in files.items():
                format_ = FORMATS[name]
                storage = storages[file.storage]
                self._sources.append(
                    Source(config.id, format_, file.storage, storage, file.key, file.index, config.never_inline)
                )
        order = list(FORMATS)
        self._sources.sort(key=lambda source: order.index(source.format.name))

    def sources(self, dataset_id: str, endpoint: str) -> Iterator[Source]:
        return (source for source in self._sources if source.format.endpoint == endpoint)

    def existing(self) -> Iterator[Source]:
        return iter(self._sources)

    def preferred_key(self, source: Source) -> str | None:
        """None: the configuration names one file for each format."""
        return None

    def __str__(self) -> str:
        return f"id {self.config.id!r}"


class Catalog:
    """The datasets of the configuration; with `hints` a message tells what a client may have meant."""

    def __init__(
        self,
        entries: Sequence[PrefixConfig | DatasetConfig],
        storages: Mapping[str, Storage],
        *,
        hints: bool = True,
    ) -> None:
        self._hints = hints
        self._prefixes: list[tuple[int, _PrefixEntry]] = []
        self._named: dict[str, tuple[int, _DatasetEntry]] = {}
        for place, config in enumerate(entries):
            if isinstance(config, PrefixConfig):
                self._prefixes.append((place, _PrefixEntry(config, storages[config.storage])))
            else:
                self._named.setdefault(config.id, (place, _DatasetEntry(config, storages)))

    def locate(self, endpoint: str, dataset_id: str, format_name: str | None, *, fresh: bool = True) -> DataFile:
        """The file of a dataset in a format; without one in the first that it has, the specification's default first.

        Unless it has to be `fresh` its version may be one that the storage remembers.

        Raises:
            NotFound: when there is no such dataset at the endpoint.
            UnsupportedFormat: when it exists in other formats only.
            FileFaultError: when the configuration names a file that is not there.
        """
        entry = self._entry(dataset_id)
        if entry is not None:
            sources = entry.sources(dataset_id, endpoint)
            for source in sources:
                if format_name in (None, source.format.name):
                    stat = _stat(source, optional=isinstance(entry, _PrefixEntry), fresh=fresh)
                    if stat is not None:
                        return DataFile(source, stat)
            present = [source.format.name for source in self._present(entry, dataset_id, endpoint)]
            if present:
                raise UnsupportedFormat(
                    f"{dataset_id!r} is not available as {format_name}; it is as {' and '.join(present)}"
                )
        raise NotFound(self._absence(endpoint, dataset_id, entry))

    def named(self, endpoint: str, dataset_id: str, format_name: str) -> list[Source]:
        """The files that a dataset may have in a format, whether or not they exist."""
        entry = self._entry(dataset_id)
        sources = [] if entry is None else entry.sources(dataset_id, endpoint)
        return [source for source in sources if source.format.name == format_name]

    def sources(self, *, on_fault: Callable[[OSError | StorageError], None] | None = None) -> Iterator[Source]:
        """All files that requests reach: those that the configuration names, and those found below its prefixes.

        Where a storage cannot be listed `on_fault` gets the error, and the others go on; without it the error
        propagates.
        """
        for entry, source in self._existing(on_fault):
            if self._entry(source.id) is entry and entry.preferred_key(source) is None:
                yield source

    def unreachable(self, *, on_fault: Callable[[OSError | StorageError], None]) -> Iterator[tuple[Source, str]]:
        """The files of datasets that no request reaches, each with the reason; errors as in `sources`."""
        for entry, source in self._existing(on_fault):
            first = self._entry(source.id)
            preferred = entry.preferred_key(source)
            if first is not None and first is not entry:
                # The first entry may serve the same file.
                reached = {(one.storage_name, one.key) for one in first.sources(source.id, source.format.endpoint)}
                if (source.storage_name, source.key) not in reached:
                    reason = f"the entry of {first} comes first and has the id {source.id!r}"
                    yield source, f"no request reaches it: {reason}; name the file in that entry, or rename it"
            elif preferred is not None:
                name = preferred.rpartition("/")[2]
                yield source, f"{name} is served as the {source.format.name} file of {source.id!r}; remove one of them"

    def _existing(
        self, on_fault: Callable[[OSError | StorageError], None] | None
    ) -> "Iterator[tuple[_PrefixEntry | _DatasetEntry, Source]]":
        ordered: list[tuple[int, _PrefixEntry | _DatasetEntry]] = [*self._prefixes, *self._named.values()]
        for _, entry in sorted(ordered, key=lambda item: item[0]):
            try:
                yield from ((entry, source) for source in entry.existing())
            except (OSError, StorageError) as error:
                if on_fault is None:
                    raise
                on_fault(error)

    def files(self, dataset_id: str) -> list[tuple[Source, Stat | FileFaultError]]:
        """All files of a dataset, whatever their endpoint; an error is what is wrong with one of them.

        Raises:
            NotFound: when there is no such dataset.
        """
        entry = self._entry(dataset_id)
        found: list[tuple[Source, Stat | FileFaultError]] = []
        if entry is not None:
            for endpoint in ENDPOINTS:
                for source in entry.sources(dataset_id, endpoint):
                    try:
                        stat = _stat(source, optional=isinstance(entry, _PrefixEntry))
                    except FileFaultError as fault:
                        found.append((source, fault))
                    else:
                        if stat is not None:
                            found.append((source, stat))
        if not found:
            raise NotFound(f"there is no dataset {dataset_id[:200]!r}")
        return found

    def entry_of(self, dataset_id: str) -> PrefixConfig | DatasetConfig | None:
        """The entry of the configuration that an id belongs to, whether or not there is such a dataset."""
        entry = self._entry(dataset_id)
        return None if entry is None else entry.config

    def _entry(self, dataset_id: str) -> "_PrefixEntry | _DatasetEntry | None":
        named = self._named.get(dataset_id)
        for place, entry in self._prefixes:
            if (named is None or place < named[0]) and entry.matches(dataset_id):
                return entry
        return named[1] if named else None

    def _present(self, entry: "_PrefixEntry | _DatasetEntry", dataset_id: str, endpoint: str) -> Iterator[Source]:
        for source in entry.sources(dataset_id, endpoint):
            try:
                if _stat(source, optional=True) is None:
                    continue
            except FileFaultError:
                # It is there, whatever is wrong with it.
                pass
            yield source

    def _absence(self, endpoint: str, dataset_id: str, entry: "_PrefixEntry | _DatasetEntry | None") -> str:
        """Why there is no such dataset, with what may have been meant."""
        message = f"there is no dataset {dataset_id[:200]!r} at /{endpoint}"
        if entry is None or not self._hints:
            return message
        other = "variants" if endpoint == "reads" else "reads"
        if next(self._present(entry, dataset_id, other), None):
            return f"{message}; it is at /{other}"
        for format_ in FORMATS.values():
            for suffix in format_.suffixes:
                stem = dataset_id.removesuffix(suffix)
                if stem != dataset_id and next(self._present(entry, stem, format_.endpoint), None):
                    return f"{message}; ids are without the format's suffix: /{format_.endpoint}/{stem}"
        return message


def _stat(source: Source, *, optional: bool, fresh: bool = False) -> Stat | None:
    try:
        return source.stat(source.key, fresh=fresh)
    except NotFound:
        if optional:
            return None
        raise FileFaultError(
            f"the {source.format.name} file that the configuration names is not there", location=source.location
        ) from None
