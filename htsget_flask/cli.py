"""The command `htsget-flask`: it parses and calls."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from htsget_flask import __version__
from htsget_flask.array_file import distrust
from htsget_flask.commands.announcement import announce
from htsget_flask.commands.demo import write_demo
from htsget_flask.config import (
    Config,
    ConfigError,
    default_cache_folder,
    exposing_faults,
    folder_config,
    read_config,
    web_origin,
)
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.services import create_services
from htsget_flask.storage import Storage, VersionError

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


F = TypeVar("F", bound=Callable[..., None])


def _dataset_options(command: F) -> F:
    """What is served: a folder or a configuration."""
    command = click.option("--config", "config_path", type=_FILE, help="A YAML file; instead of DIR.")(command)
    return click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)(command)


def _web_origins(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    faults = []
    for origin in given:
        try:
            web_origin(origin)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise click.BadParameter("\n".join(faults))
    return given


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Serve BAM, CRAM, VCF and BCF files to htsget clients."""


@main.command()
@_dataset_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@click.option("--threads", default=32, show_default=True, type=click.IntRange(1), help="Threads in each process.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    callback=_web_origins,
    help="A further origin, such as https://igv.org, whose pages may read DIR besides those of this machine.",
)
@click.option("--certfile", type=_FILE, help="Serve https: the certificate, and those between it and its root.")
@click.option("--keyfile", type=_FILE, help="The certificate's private key.")
def serve(
    folder: Path | None,
    config_path: Path | None,
    host: str,
    port: int,
    workers: int | None,
    threads: int,
    origins: tuple[str, ...],
    certfile: Path | None,
    keyfile: Path | None,
) -> None:
    """Serve all files below DIR, or the datasets of a configuration, with gunicorn.

    DIR on 127.0.0.1 is for programs and web pages of this machine, and for pages of each --origin.
    """
    if folder is None and origins:
        raise click.UsageError("--origin goes with DIR; a configuration has cors.origins")
    if (certfile is None) != (keyfile is None):
        raise click.UsageError("--certfile and --keyfile go together")
    from htsget_flask.server import Server, settings, tls_settings  # noqa: PLC0415 - gunicorn is of no use to the other commands

    config = _config(folder, config_path, address=host, origins=origins)
    if certfile is not None and keyfile is not None:
        _check_tls(config, certfile, keyfile)
    for remark in config.remarks:
        click.echo(f"warning: {remark}", err=True)

    def announce_base(arbiter: Any) -> None:
        address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        scheme = "http" if certfile is None else "https"
        base = config.public_url or f"{scheme}://{address}:{arbiter.LISTENERS[0].sock.getsockname()[1]}/"
        announce(arbiter, config, base)

    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = settings(bind=bind, workers=workers, threads=threads)
    if certfile is not None and keyfile is not None:
        options |= tls_settings(certfile, keyfile)
    Server(config, {**options, "loglevel": "warning", "when_ready": announce_base}).run()


def _check_tls(config: Config, certfile: Path, keyfile: Path) -> None:
    from htsget_flask.commands.certificates import CertificateError, check_certificate  # noqa: PLC0415 - of no use without TLS

    if faults := list(exposing_faults(config, keyfile)):
        raise click.ClickException("\n".join(faults))
    try:
        warning = check_certificate(certfile, keyfile)
    except CertificateError as error:
        raise click.ClickException(str(error)) from None
    if warning is not None:
        click.echo(f"warning: {warning}", err=True)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def demo(folder: Path) -> None:
    """Write example data to DIR: one sample's reads, a cohort's variants, their reference."""
    try:
        write_demo(folder)
    except OSError as error:
        reason = f"{folder}: {error.strerror}: name a folder that can be written and has 10 MB of room"
        raise click.ClickException(reason) from error
    click.echo(f"example data is in {folder}")


@main.command()
@click.argument("words", metavar="[DIR | ID [REGION]]", nargs=-1)
@click.option("--config", "config_path", type=_FILE, help="A YAML file; instead of DIR.")
@click.option("--deep", is_flag=True, help="Follow tickets for some regions and compare their records with pysam's.")
@click.option("--as", "token", metavar="TOKEN", help="Explain what a bearer token opens; - reads it from stdin.")
def check(words: tuple[str, ...], config_path: Path | None, deep: bool, token: str | None) -> None:
    """Tell for each file below DIR, or of a configuration, whether it can be served, and how to mend it if not.

    Buckets are looked at first.

    With --as TOKEN: who the token is of, and whether it opens the dataset ID, or its REGION (NAME:FIRST-LAST); an empty
    token is for requests without one. The exit code is 0 if the dataset is open at /reads or /variants, else 1.
    """
    if token is not None:
        if config_path is None or not 1 <= len(words) <= 2:
            raise click.UsageError("--as TOKEN goes with --config FILE, an ID and perhaps a REGION")
        if token == "-":  # noqa: S105
            token = sys.stdin.readline().strip()
        _explain(_config(None, config_path), token, *words)
        return
    if len(words) > 1:
        raise click.UsageError("give either DIR or --config FILE")
    folder = _FOLDER.convert(words[0], None, click.get_current_context()) if words else None
    from htsget_flask.commands.check.report import report_files  # noqa: PLC0415 - pysam is of no use to the server

    if not report_files(_config(folder, config_path), deep=deep):
        raise SystemExit(1)


def _explain(config: Config, token: str, resource_id: str, region_text: str | None = None) -> None:
    from htsget_flask.commands.explain_access import explain_access  # noqa: PLC0415 - of no use to the other commands

    if config.auth is None:
        click.echo("there is no access control: everybody may see everything")
        return
    try:
        is_open = explain_access(config, config.auth, token, resource_id, region_text, echo=click.echo)
    except (FileFaultError, OSError, ServiceError, StorageError, ValueError, VersionError) as error:
        raise click.ClickException(str(error)) from None
    if not is_open:
        raise SystemExit(1)


@main.command()
@_dataset_options
def index(folder: Path | None, config_path: Path | None) -> None:
    """Build the indexes that files below DIR, or of a configuration, lack or that are older than their data.

    FASTA files get their .fai, and .gzi where they are compressed: other programs need them. A file that cannot be read
    or indexed is reported at the end; the others get their indexes, and the exit code is 1.
    """
    from htsget_flask.commands.index import (  # noqa: PLC0415 - pysam is of no use to the server
        build_fasta_indexes,
        build_index,
        unindexed,
        unindexed_fastas,
    )

    services = create_services(_config(folder, config_path))
    faults: list[str] = []
    remarks: list[str] = []

    def add_fault(error: Exception) -> None:
        faults.append(str(error))

    sources = list(unindexed(services.catalog.sources(on_fault=add_fault), add_fault))
    fastas = [fasta for fasta in unindexed_fastas(services) if fasta.storage.local_path(fasta.key) is not None]
    jobs: list[tuple[Storage, str, Callable[[], object], list[str]]] = []
    jobs += [(source.storage, source.key, partial(build_index, source), faults) for source in sources]
    jobs += [(fasta.storage, fasta.key, partial(build_fasta_indexes, fasta), remarks) for fasta in fastas]
    sizes = [storage.stat(key).size for storage, key, _, _ in jobs]
    built = 0
    with click.progressbar(length=sum(sizes), label=f"indexing {len(jobs)} files", file=sys.stderr) as progress:
        for (_, _, build, failed), size in zip(jobs, sizes, strict=True):
            try:
                build()
                built += 1
            except FileFaultError as error:
                failed.append(str(error))
            progress.update(size)
    for remark in remarks:
        click.echo(f"warning: {remark}", err=True)
    click.echo(f"{built} indexes built, {len(faults)} failed")
    if faults:
        raise click.ClickException("\n".join(faults))


@main.group()
def refget() -> None:
    """Prepare reference sequences for being served by their digests."""


_cache_option = click.option(
    "--config", "config_path", type=_FILE, help="A YAML file whose cache folder is used; else it is the default one."
)


@refget.command("index")
@click.argument("fastas", metavar="FASTA...", nargs=-1, required=True, type=_FILE)
@_cache_option
def refget_index(fastas: tuple[Path, ...], config_path: Path | None) -> None:
    """Compute the digests of the sequences in FASTA files and keep them beside each, or else in the cache folder.

    Those that are kept already are left alone.
    """
    from htsget_flask.commands.refget import index_fastas  # noqa: PLC0415 - of no use to the other commands

    with _told_faults() as on_fault:
        for path, kept, count in index_fastas(fastas, _cache_folder(config_path), _progress, on_fault):
            click.echo(f"{path}: {count:,} sequences, {f'digests in {kept}' if kept else 'digests cannot be kept'}")


@refget.command()
@click.argument("fastas", metavar="FASTA...", nargs=-1, required=True, type=_FILE)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_cache_option
def ingest(fastas: tuple[Path, ...], folder: Path, config_path: Path | None) -> None:
    """Write each sequence of FASTA files to a file of its own below DIR, where it is served fastest.

    Such a folder is also one that samtools reads as REF_CACHE. What is there already is left alone.
    """
    from htsget_flask.commands.refget import ingest_fastas  # noqa: PLC0415 - of no use to the other commands

    with _told_faults() as on_fault:
        for path, added, count in ingest_fastas(fastas, folder, _cache_folder(config_path), _progress, on_fault):
            click.echo(f"{path}: {count:,} sequences, {added:,} of them new")


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar, where somebody looks at it."""
    with click.progressbar(length=length, label=label, file=sys.stderr) as progress:
        yield progress.update


def _cache_folder(config_path: Path | None) -> Path | None:
    config = None if config_path is None else _config(None, config_path)
    folder = (config and config.cache.folder) or default_cache_folder()
    reason = distrust(folder)
    if reason is not None:
        click.echo(f"warning: the cache folder is not used: it {reason} [{folder}]", err=True)
    return folder if reason is None else None


@contextmanager
def _told_faults() -> Iterator[Callable[[Path, FileFaultError | OSError], None]]:
    """Tells at the end what was wrong with files, and fails then."""
    faults = []

    def told(path: Path, error: FileFaultError | OSError) -> None:
        faults.append(f"{error.filename or path}: {error.strerror}" if isinstance(error, OSError) else str(error))

    try:
        yield told
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror}") from error
    if faults:
        raise click.ClickException("\n".join(faults))


def _config(
    folder: Path | None, config_path: Path | None, *, address: str | None = None, origins: Sequence[str] = ()
) -> Config:
    if (folder is None) == (config_path is None):
        raise click.UsageError("give either DIR or --config FILE")
    try:
        if folder is not None:
            return folder_config(folder, address=address, origins=origins)
        return read_config(config_path)  # type: ignore[arg-type]
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
