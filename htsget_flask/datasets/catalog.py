"""From dataset ids to the files that storages hold; the first matching entry of the configuration wins."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from htsget_flask.config import DatasetConfig, PrefixConfig
from htsget_flask.datasets.source import DataFile, Source
from htsget_flask.errors import FileFaultError, NotFound, StorageError, UnsupportedFormat
from htsget_flask.formats.table import ANSWER_FORMATS, DEFAULT_FORMATS, ENDPOINTS, FORMATS, Format, answer_names
from htsget_flask.storage import Stat, Storage, is_hidden


class _PrefixEntry:
    def __init__(self, config: PrefixConfig, storage: Storage) -> None:
        self.config = config
        self._storage = storage

    def matches(self, dataset_id: str) -> bool:
        prefix = self.config.prefix
        if not dataset_id.startswith(prefix) or dataset_id.endswith("/"):
            return False
        # A file without a stem would be a suffix alone, such as `.bam`. Hidden files, such as the snapshots of a file
        # server, may have been withdrawn.
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
        """The key of the file that is served instead of this one, as its suffix comes earlier among its format's."""
        suffixes = source.format.suffixes
        position, suffix = next(item for item in enumerate(suffixes) if source.key.endswith(item[1]))
        # Most files have the first suffix, and then nothing is read.
        for other in suffixes[:position]:
            key = source.key.removesuffix(suffix) + other
            with contextlib.suppress(NotFound):
                self._storage.stat(key)
                return key
        return None

    def __str__(self) -> str:
        return f"prefix {self.config.prefix!r}"

    def _source(self, dataset_id: str, format_: Format, key: str) -> Source:
        config = self.config
        return Source(dataset_id, format_, config.storage, self._storage, key, None, config.never_inline)


class _DatasetEntry:
    def __init__(self, config: DatasetConfig, storages: Mapping[str, Storage]) -> None:
        self.config = config
        files = [*config.reads.items(), *config.variants.items()]
        self._sources = [
            Source(config.id, format_, file.storage, storages[file.storage], file.key, file.index, config.never_inline)
            for format_ in FORMATS.values()
            for name, file in files
            if name == format_.name
        ]

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
    """The datasets of the configuration; with `hints`, messages suggest what a client may have meant."""

    def __init__(
        self, entries: Sequence[PrefixConfig | DatasetConfig], storages: Mapping[str, Storage], *, hints: bool = True
    ) -> None:
        self._hints = hints
        self._prefixes: list[tuple[int, _PrefixEntry]] = []
        self._named: dict[str, tuple[int, _DatasetEntry]] = {}
        for position, config in enumerate(entries):
            if isinstance(config, PrefixConfig):
                self._prefixes.append((position, _PrefixEntry(config, storages[config.storage])))
            else:
                self._named.setdefault(config.id, (position, _DatasetEntry(config, storages)))

    def locate(self, endpoint: str, dataset_id: str, format_name: str | None, *, fresh: bool = True) -> DataFile:
        """The file of a dataset in a format; without `format_name`, in the first that it has, BAM and VCF first.

        Unless `fresh`, its version may be one that the storage remembers.

        Raises:
            NotFound: when there is no such dataset at the endpoint.
            UnsupportedFormat: when it exists in other formats only.
            FileFaultError: when the configuration names a file that does not exist: the fault is the operator's.
        """
        files = None if format_name is None else (format_name,)
        return self._first(endpoint, dataset_id, files, format_name, convert=False, fresh=fresh)

    def choose(
        self, endpoint: str, dataset_id: str, format_name: str | None, *, convert: bool, fresh: bool = True
    ) -> tuple[DataFile, str]:
        """The file to answer from, and the format of the answer: a file in this format wins over a conversion.

        Without `format_name` the format is BAM or VCF with `convert`, else that of the file that `locate` finds.

        Raises:
            NotFound, UnsupportedFormat, FileFaultError: as `locate` does; with `convert`, UnsupportedFormat when there
                is no file that can be converted either.
        """
        if not convert:
            file = self.locate(endpoint, dataset_id, format_name, fresh=fresh)
            return file, file.source.format.name
        name = format_name or DEFAULT_FORMATS[endpoint]
        return self._first(endpoint, dataset_id, ANSWER_FORMATS.get(name, ()), name, convert=True, fresh=fresh), name

    def _first(
        self,
        endpoint: str,
        dataset_id: str,
        files: Collection[str] | None,
        format_name: str | None,
        *,
        convert: bool,
        fresh: bool,
    ) -> DataFile:
        """The first file in any of the formats `files`, None for all; `format_name` is the requested one."""
        entry = self._entry(dataset_id)
        if entry is not None:
            for source in entry.sources(dataset_id, endpoint):
                if files is None or source.format.name in files:
                    stat = _stat(source, optional=isinstance(entry, _PrefixEntry), fresh=fresh)
                    if stat is not None:
                        return DataFile(source, stat)
            available = {source.format.name for source in self._available(entry, dataset_id, endpoint)}
            if available:
                names = " and ".join(answer_names(available, convert=convert))
                raise UnsupportedFormat(f"{dataset_id!r} is not available as {format_name}, only as {names}")
        raise NotFound(self._absence(endpoint, dataset_id, entry))

    def named(self, endpoint: str, dataset_id: str, format_name: str) -> list[Source]:
        """The files that a dataset may have in a format, whether or not they exist."""
        entry = self._entry(dataset_id)
        sources = [] if entry is None else entry.sources(dataset_id, endpoint)
        return [source for source in sources if source.format.name == format_name]

    def sources(self, *, on_fault: Callable[[OSError | StorageError], None] | None = None) -> Iterator[Source]:
        """All files that requests reach: those that the configuration names, and those found below its prefixes.

        `on_fault` is called with the error of a storage that cannot be listed; without it the error propagates.
        """
        for entry, source in self._existing(on_fault):
            if self._entry(source.id) is entry and entry.preferred_key(source) is None:
                yield source

    def unreachable(self, *, on_fault: Callable[[OSError | StorageError], None]) -> Iterator[tuple[Source, str]]:
        """The files of datasets that no request reaches, each with the reason; errors are handled as by `sources`."""
        for entry, source in self._existing(on_fault):
            first = self._entry(source.id)
            preferred = entry.preferred_key(source)
            if first is not None and first is not entry:
                # The first entry may serve the same file.
                served = first.sources(source.id, source.format.endpoint)
                if (source.storage_name, source.key) not in {(other.storage_name, other.key) for other in served}:
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
        """All files of a dataset, at all endpoints, each with its version or its fault.

        Raises:
            NotFound: when there is no such dataset.
        """
        entry = self._entry(dataset_id)
        files: list[tuple[Source, Stat | FileFaultError]] = []
        if entry is not None:
            for endpoint in ENDPOINTS:
                for source in entry.sources(dataset_id, endpoint):
                    stat: Stat | FileFaultError | None
                    try:
                        stat = _stat(source, optional=isinstance(entry, _PrefixEntry))
                    except FileFaultError as fault:
                        stat = fault
                    if stat is not None:
                        files.append((source, stat))
        if not files:
            raise NotFound(f"there is no dataset {dataset_id[:200]!r}")
        return files

    def entry_of(self, dataset_id: str) -> PrefixConfig | DatasetConfig | None:
        """The entry of the configuration that an id belongs to, whether or not the dataset exists."""
        entry = self._entry(dataset_id)
        return None if entry is None else entry.config

    def _entry(self, dataset_id: str) -> "_PrefixEntry | _DatasetEntry | None":
        named = self._named.get(dataset_id)
        for position, entry in self._prefixes:
            if (named is None or position < named[0]) and entry.matches(dataset_id):
                return entry
        return named[1] if named else None

    def _available(self, entry: "_PrefixEntry | _DatasetEntry", dataset_id: str, endpoint: str) -> Iterator[Source]:
        for source in entry.sources(dataset_id, endpoint):
            # A file with a fault exists.
            with contextlib.suppress(FileFaultError):
                if _stat(source, optional=True) is None:
                    continue
            yield source

    def _absence(self, endpoint: str, dataset_id: str, entry: "_PrefixEntry | _DatasetEntry | None") -> str:
        """The message for an absent dataset, with a suggestion."""
        message = f"there is no dataset {dataset_id[:200]!r} at /{endpoint}"
        if entry is None or not self._hints:
            return message
        other = "variants" if endpoint == "reads" else "reads"
        if next(self._available(entry, dataset_id, other), None):
            return f"{message}; it is at /{other}"
        for format_ in FORMATS.values():
            for suffix in format_.suffixes:
                stem = dataset_id.removesuffix(suffix)
                if stem != dataset_id and next(self._available(entry, stem, format_.endpoint), None):
                    return f"{message}; ids have no suffix of a format: /{format_.endpoint}/{stem}"
        return message


def _stat(source: Source, *, optional: bool, fresh: bool = False) -> Stat | None:
    try:
        return source.stat(source.key, fresh=fresh)
    except NotFound:
        if optional:
            return None
        raise FileFaultError(
            f"the {source.format.name} file that the configuration names does not exist", location=source.location
        ) from None
