"""The files of datasets: their locations, and one version of a file."""

from collections.abc import Sequence
from typing import NamedTuple

from htsget_flask.errors import FileFaultError
from htsget_flask.formats.table import Format
from htsget_flask.storage import Stat, Storage, StoredFile


class Source(NamedTuple):
    """The location of a dataset's file in one format, whether or not it exists; `index_key` if it is configured."""

    id: str
    format: Format
    storage_name: str
    storage: Storage
    key: str
    index_key: str | None
    never_inline: bool | None

    @property
    def index_keys(self) -> Sequence[str]:
        """The keys that the index may have, in the order of preference."""
        return (self.index_key,) if self.index_key else self.format.index_keys(self.key)

    def stat(self, key: str, *, fresh: bool) -> Stat:
        """The current version of the dataset's data or of an index; unless `fresh`, one that the storage remembers.

        Raises:
            NotFound: when there is no such file.
            FileFaultError: when the system denies access to it.
        """
        storage = self.storage
        try:
            return storage.stat(key, max_age=0 if fresh else storage.max_age, sibling_prefix=self._sibling_prefix)
        except OSError as error:
            raise self._unreadable(key, error) from error

    def open(self, key: str, *, etag: str) -> StoredFile:
        """One version of the dataset's data or of an index.

        Raises:
            NotFound, VersionError: when it does not exist, or no longer does.
            FileFaultError: when the system denies access to it.
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
        """The common start of the usual keys of data and indexes: where reads are requests, one lists them together."""
        if not self.storage.reads_are_requests:
            return None
        suffix = next((suffix for suffix in self.format.suffixes if self.key.endswith(suffix)), None)
        return self.key if suffix is None else self.key.removesuffix(suffix) + "."

    @property
    def location(self) -> str:
        """The file for logs, never for clients."""
        return self.storage.location(self.key)


class DataFile(NamedTuple):
    """One version of a file that exists."""

    source: Source
    stat: Stat
