"""What the page may load, and from where: the URL of igv.js and the Content-Security-Policy."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from htsget_flask.config import Config, GenomeConfig, is_url
from htsget_flask.storage import Storage

_CDN = "https://cdn.jsdelivr.net/npm/igv@3.8.10/dist/igv.esm.min.js"
_INTEGRITY = "sha384-lqA549GhtA7chGwVsX0JtBzYKXKrqa7GrV2jfhqtarMvl7VPMCKBvJFvKuu3Lygv"
_ORIGIN = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+")


class IgvJs(NamedTuple):
    """The URL of igv.js, or its path relative to the page; and its hash, if known."""

    url: str
    integrity: str | None


def igv_js(config: Config) -> IgvJs:
    """The igv.js of the configuration."""
    configured = config.browser.igv_js
    if configured is None:
        return IgvJs(_CDN, _INTEGRITY)
    return IgvJs(configured if is_url(configured) else "page/igv.js", None)


def content_security_policy(config: Config, base: str, storages: Iterable[Storage]) -> str:
    """The policy (W3C CSP Level 3): what the page needs, and nothing else.

    `base` is the URL of this service. igv.js creates style elements; it reads data from this service and from the
    origins of the configuration's storages, genomes and tracks.
    """
    script = urlsplit(igv_js(config).url)
    scripts = [f"{script.scheme}://{script.netloc}{quote(script.path, safe='/@%')}"] if script.netloc else []
    readable = {origin for url in (base, *_external_urls(config, storages)) for origin in _ORIGIN.findall(url)[:1]}
    # For a genome of igv.js's own list, that list decides about the origin.
    anywhere = ["https:"] if any(isinstance(entry.genome, str) for entry in config.datasets) else []
    policy = {
        "default-src": ["'none'"],
        # igv.js decodes CRAM in WebAssembly.
        "script-src": ["'self'", "'wasm-unsafe-eval'", *scripts],
        "style-src": ["'self'", "'unsafe-inline'"],
        # igv.js's cursors, and the image that users save.
        "img-src": ["data:", "blob:"],
        "connect-src": ["'self'", *sorted(readable), *anywhere],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{directive} {' '.join(sources)}" for directive, sources in policy.items())


def _external_urls(config: Config, storages: Iterable[Storage]) -> Iterator[str]:
    """The URLs of the configuration's genomes and tracks, and the origins that deliver the storages' bytes."""
    yield from filter(None, (storage.origin for storage in storages))
    for entry in config.datasets:
        if isinstance(entry.genome, GenomeConfig) and entry.genome.storage is None:
            yield from filter(is_url, (entry.genome.fasta, entry.genome.index or ""))
        yield from filter(is_url, _texts_in([track.model_dump() for track in entry.tracks]))


def _texts_in(value: object) -> Iterator[str]:
    """The texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)
