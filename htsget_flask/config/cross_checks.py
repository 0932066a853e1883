"""Faults between the parts of a configuration, found in its raw content: told together with those of single values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from htsget_flask.config.auth import access_faults, secret_files
from htsget_flask.config.models import Config, DatasetConfig, kind_of_dataset
from htsget_flask.config.storages import LocalStorageConfig
from htsget_flask.config.types import IN_FILE, is_url, meant_settings, secret_in

# What may be served beside datasets, or without any.
_OTHERS = (("files", "storages"), ("refget", "fastas"), ("refget", "store"))


def cross_faults(content: Any, base: Path, file: Path | None) -> Iterator[str]:
    """Each fault as a sentence, with its path; relative paths in the content count from `base`.

    `file` is the one that the content was read from.
    """
    if not isinstance(content, dict):
        return
    content = meant_settings(content, Config.model_fields)
    if not (content.get("datasets") or any(_setting(content, *path) for path in _OTHERS)):
        yield "the file: serves nothing: give it datasets, files.storages, refget.fastas or refget.store"
    storages = content.get("storages")
    storages = storages if isinstance(storages, dict) else {}
    yield from _storages_faults(storages, base)
    if not content.get("trusted_proxies"):
        yield from _sendfile_faults(storages)
    opened = _setting(content, "files", "storages")
    opened = opened if isinstance(opened, list) else []
    for place, name in enumerate(opened):
        yield from _storage_fault(f"files.storages[{place}]", name, storages)
        cache = _setting(content, "cache", "folder")
        cached = [base / cache] if isinstance(cache, str) else []
        private = [*secret_files(content.get("auth"), base), *filter(None, [file]), *cached]
        yield from _exposed_fault(f"files.storages[{place}]", name, storages, base, private)
    igv_js = _setting(content, "browser", "igv_js")
    if isinstance(igv_js, str) and not is_url(igv_js) and not (base / igv_js).is_file():
        yield f"browser.igv_js: there is no file {base / igv_js}"
    if "auth" in content and content["auth"] is None:
        # As without the section everybody would see everything; whoever wrote it means something else.
        yield "auth: is empty: give it its settings, or take it away, and everybody may see everything"
    yield from access_faults(content.get("auth"), base)
    fastas = _setting(content, "refget", "fastas")
    sources = {
        f"refget.fastas[{place}]": fasta for place, fasta in enumerate(fastas if isinstance(fastas, list) else [])
    }
    for where, source in {**sources, "refget.store": _setting(content, "refget", "store")}.items():
        if isinstance(source, dict):
            yield from _storage_fault(f"{where}.storage", source.get("storage"), storages)
    datasets = content.get("datasets")
    yield from _datasets_faults(datasets if isinstance(datasets, list) else [], storages, opened)


def _datasets_faults(datasets: list[Any], storages: dict[str, Any], opened: list[Any]) -> Iterator[str]:
    yield from _id_faults(datasets)
    for place, dataset in enumerate(datasets):
        if not isinstance(dataset, dict):
            continue
        path = f"datasets[{place}]"
        meant = meant_settings(dataset, DatasetConfig.model_fields)
        if kind_of_dataset(dataset) == "id" and not (meant.get("reads") or meant.get("variants")):
            yield f"{path}: names no file: give it reads or variants"
        named = [(path, dataset)]
        for kind in ("reads", "variants"):
            files = dataset.get(kind)
            if isinstance(files, dict):
                named += [
                    (f"{path}.{kind}.{format_name}", file)
                    for format_name, file in files.items()
                    if isinstance(file, dict)
                ]
        for where, entry in named:
            yield from _storage_fault(f"{where}.storage", entry.get("storage"), storages)
        yield from _shown_faults(path, dataset, opened)


def _id_faults(datasets: list[Any]) -> Iterator[str]:
    """Entries that no request can reach: they would be passed over without a word."""
    seen: dict[str, int] = {}
    for place, dataset in enumerate(datasets):
        if not isinstance(dataset, dict):
            continue
        prefix, dataset_id = dataset.get("prefix"), dataset.get("id")
        if isinstance(prefix, str) and "" in prefix.split("/")[:-1]:
            yield f"datasets[{place}].prefix: must not start with '/' or contain '//': no request reaches such ids"
        if not isinstance(dataset_id, str) or not dataset_id:
            continue
        where = f"datasets[{place}].id"
        if dataset_id == "service-info":
            yield f"{where}: service-info is what the service tells of itself: no request reaches a dataset of this id"
        if "" in dataset_id.split("/"):
            yield f"{where}: must not start or end with '/' or contain '//': no request reaches such an id"
        if dataset_id in seen:
            yield f"{where}: datasets[{seen[dataset_id]}] has this id: give all files of a dataset in one entry"
        seen.setdefault(dataset_id, place)
    yield from _shadow_faults(datasets)


def _shadow_faults(datasets: list[Any]) -> Iterator[str]:
    """Entries all of whose ids belong to an earlier prefix: the first entry that matches an id wins."""
    prefixes: list[tuple[int, str]] = []
    for place, dataset in enumerate(datasets):
        if not isinstance(dataset, dict):
            continue
        kind = kind_of_dataset(dataset)
        start = meant_settings(dataset, (kind,)).get(kind)
        if not isinstance(start, str):
            continue
        for earlier, prefix in prefixes:
            # A prefix has no hidden files.
            is_hidden = "/." in f"/{start.removeprefix(prefix)}"
            if start.startswith(prefix) and not is_hidden and (kind == "prefix" or start != prefix):
                remedy = "give it another prefix" if start == prefix else f"put it before datasets[{earlier}]"
                yield (
                    f"datasets[{place}].{kind}: no request reaches it, because datasets[{earlier}] has all ids that"
                    f" start with {prefix!r}: {remedy}"
                )
                break
        if kind == "prefix":
            prefixes.append((place, start))


def _storages_faults(storages: dict[Any, Any], base: Path) -> Iterator[str]:
    for name, storage in storages.items():
        root = storage.get("root") if isinstance(storage, dict) else None
        if isinstance(root, str) and not (base / root).is_dir():
            yield f"storages.{name}.root: there is no folder {base / root}"
        secret = storage.get("secret") if isinstance(storage, dict) else None
        if isinstance(secret, str) and secret.startswith(IN_FILE):
            try:
                secret_in(base, secret)
            except ValueError as error:
                yield f"storages.{name}.secret: {error}"
        if not isinstance(name, str) or not name or "/" in name:
            yield f"storages.{name}: a storage's name must not be empty or contain '/'"


def _sendfile_faults(storages: dict[Any, Any]) -> Iterator[str]:
    """Storages whose files a web server in front would send, where no web server in front is believed."""
    for name, storage in storages.items():
        if isinstance(storage, dict) and storage.get("sendfile"):
            yield f"storages.{name}.sendfile: needs trusted_proxies: else any client could ask for the files' paths"


def _exposed_fault(where: str, name: Any, storages: dict[Any, Any], base: Path, private: list[Path]) -> Iterator[str]:
    """Whether a storage all of whose files may be fetched holds the configuration, a secret of it, or the cache."""
    storage = storages.get(name) if isinstance(name, str) else None
    root = storage.get("root") if isinstance(storage, dict) else None
    if not isinstance(root, str):
        return
    settings = [entry.get("secret") for entry in storages.values() if isinstance(entry, dict)]
    named = [text for text in settings if isinstance(text, str) and text.startswith(IN_FILE)]
    for path in (*private, *(base / text.removeprefix(IN_FILE) for text in named)):
        yield from _fetched_fault(where, path, base / root)


def exposing_faults(config: Config, private: Path) -> Iterator[str]:
    """Which storages all of whose files may be fetched hold a file that is for nobody's eyes."""
    for place, name in enumerate(config.files.storages):
        storage = config.storages[name]
        if isinstance(storage, LocalStorageConfig):
            yield from _fetched_fault(f"files.storages[{place}]", private, storage.root)


def _fetched_fault(where: str, path: Path, root: Path) -> Iterator[str]:
    if path.resolve().is_relative_to(root.resolve()):
        yield f"{where}: {path} lies in this storage, and could be fetched: keep it elsewhere"


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


def _storage_fault(where: str, name: Any, storages: dict[Any, Any]) -> Iterator[str]:
    if isinstance(name, str) and name not in storages:
        yield f"{where}: there is no storage {name!r} (known: {', '.join(map(str, storages)) or 'none'})"
