"""A file that is the only one of its dataset, served in this process, and what the programs print of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.support import referenced
from tests.support.app import http_for
from tests.support.client import SUFFIXES, FlaskHttp, Record, Region, scan
from tests.support.files import GOOD
from tests.support.files.spans import SPANS
from tests.support.live.regions import endpoint_of, record_span
from tests.support.random_regions import random_regions
from tests.support.view import complete, view, view_all

# In bytes, and the last one in rows. Two edges have a BGZF block between them.
_SMALL_LIMITS = {
    "ticket._LONGEST_CUT": 1 << 16,
    "record_spans._BGZF_STEP": 20_000,
    "record_spans._CRAM_STEP": 10_000,
    "record_spans._LONGEST_INLINE": 9_000,
    "record_spans._LONGEST_SEARCH": 150_000,
    "record_spans._MAX_ROWS": 1,
}


class ServedFile:
    """The file of a maker of `GOOD`, `SPANS` or `referenced.OPTIONS`, or a given one.

    Some of the latter's CRAM files need a reference, which is served too.
    """

    def __init__(self, name: str, folder: Path, *, path: Path | None = None) -> None:
        self.name, self.folder = name, folder
        data = folder / "data"
        data.mkdir(exist_ok=True)
        self.reference: Path | None = None
        if name in referenced.OPTIONS:
            (folder / "reference").mkdir()
            self.reference = referenced.write_reference(folder / "reference" / "reference.fa")
            path = referenced.write_cram(name, data / "sample.cram", self.reference)
        self.path = path or {**GOOD, **SPANS}[name](data)
        self.format = next(format_ for format_, suffix in SUFFIXES.items() if self.path.name.endswith(suffix))
        self.ticket_path = f"/{endpoint_of(self.format)}/{self.path.name.removesuffix(SUFFIXES[self.format])}"
        self._printed = complete(self.path, folder)

    def serve(self, *, with_reference: bool = True, **settings: Any) -> FlaskHttp:
        """A new application that serves the file, and its reference, with a cache that other ones share."""
        folders = {"data": self.path.parent}
        if self.reference is not None:
            folders["reference"] = self.reference.parent
            if with_reference:
                settings = {"refget": {"fastas": [{"storage": "reference", "prefix": ""}]}, **settings}
        storages = {name: {"type": "local", "root": str(folder)} for name, folder in folders.items()}
        settings = {"cache": {"folder": str(self.folder / "cache")}, **settings}
        return http_for(self.path.parent, storages=storages, **settings)

    @cached_property
    def lines(self) -> list[str]:
        """What the programs print of the whole file."""
        return view(self._printed, self.format, reference=self.reference)

    def expected(self, regions: Sequence[Region]) -> list[str]:
        """What the programs print of regions of the file."""
        if len(regions) == 1:
            return view(self._printed, self.format, regions[0], reference=self.reference)
        return view_all(self._printed, self.format, regions, reference=self.reference)

    def regions(self, count: int, seed: str = "") -> list[Region]:
        """Random regions of the file."""
        if self.reference is None:
            records = scan(self.path, self.format)
        else:
            spans = ((record_span(line, "reads"), line) for line in self.lines)
            records = tuple(Record(span.reference_name, span.start or 0, span.end or 0, line) for span, line in spans)
        return random_regions(records, count, seed=f"{self.path.name}{seed}")

    def answer(self, format_name: str) -> Path:
        """Where answers are written: with the name of the file, from which htslib makes names that CRAM lacks."""
        folder = self.folder / "answers"
        folder.mkdir(exist_ok=True)
        return folder / f"{self.path.name.removesuffix(SUFFIXES[self.format])}{SUFFIXES[format_name]}"

    def delivered(self, body: bytes, format_name: str) -> list[str]:
        """The lines that the programs print of an answer; only CRAM is read with the reference."""
        path = self.answer(format_name)
        path.write_bytes(body)
        return view(path, format_name, reference=self.reference if format_name == "CRAM" else None)


@contextmanager
def small_limits() -> Iterator[None]:
    """Answers are split at sizes as small as the files of tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _SMALL_LIMITS.items():
            patch.setattr(f"htsget_flask.htsget.{name}", value)
        yield


def is_empty(region: Region) -> bool:
    """Whether a region has no position: it has no records, and only GET allows it."""
    return region[2] is not None and (region[1] or 0) >= region[2]
