"""The command `htsget-flask`: parses the command line, calls commands/, prints."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from htsget_flask import __version__
from htsget_flask.array_file import distrust
from htsget_flask.config import (
    Config,
    ConfigError,
    default_cache_folder,
    describe_risks,
    exposing_faults,
    folder_config,
    read_config,
    web_origin,
)
from htsget_flask.errors import FileFaultError, ServiceError, StorageError
from htsget_flask.services import create_services
from htsget_flask.storage import VersionError

# Each command imports its module itself: none waits for the import of another one's gunicorn, pysam or boto3.
# ruff: noqa: PLC0415

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FOLDER = click.Path(file_okay=False, path_type=Path)

_folder_argument = click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
_config_option = click.option("--config", "config_path", type=_FILE, help="A YAML file, instead of DIR.")
_fastas_argument = click.argument("fastas", metavar="FASTA...", nargs=-1, required=True, type=_FILE)
_cache_option = click.option(
    "--config", "config_path", type=_FILE, help="Use the cache folder of this YAML file instead of the default one."
)


def _check_origins(_context: click.Context, _option: click.Parameter, origins: tuple[str, ...]) -> tuple[str, ...]:
    faults = []
    for origin in origins:
        try:
            web_origin(origin)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise click.BadParameter("\n".join(faults))
    return origins


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Serve BAM, CRAM, VCF and BCF files to htsget clients."""


@main.command()
@_folder_argument
@_config_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 means all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", type=click.IntRange(1), help="Number of processes.  [default: one per core]")
@click.option("--threads", default=32, show_default=True, type=click.IntRange(1), help="Threads per process.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    callback=_check_origins,
    help="An origin, such as https://igv.org, whose pages may read DIR in addition to those of this machine.",
)
@click.option("--certfile", type=_FILE, help="Serve https with this certificate chain.")
@click.option("--keyfile", type=_FILE, help="The private key of the certificate.")
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

    With DIR on 127.0.0.1, programs and web pages of this machine can read it, and pages of each --origin.
    """
    if folder is None and origins:
        raise click.UsageError("--origin can only be used with DIR; a configuration has cors.origins")
    if (certfile is None) != (keyfile is None):
        raise click.UsageError("--certfile and --keyfile have to be used together")
    from htsget_flask.commands.serve import CertificateError, check_certificate, run_server

    config, certificate = _config(folder, config_path, address=host, origins=origins), None
    if certfile is not None and keyfile is not None:
        certificate = certfile, keyfile
        _fail_if(list(exposing_faults(config, keyfile)))
        try:
            if warning := check_certificate(certfile, keyfile):
                _warn(warning)
        except CertificateError as error:
            raise click.ClickException(str(error)) from None
    _warn(*describe_risks(config))
    run_server(config, host=host, port=port, workers=workers, threads=threads, certificate=certificate, echo=click.echo)


@main.command()
@click.argument("folder", metavar="DIR", type=_NEW_FOLDER)
def demo(folder: Path) -> None:
    """Write example data to DIR: reads of one sample, variants of a cohort, their reference."""
    from htsget_flask.commands.demo import write_demo

    try:
        write_demo(folder)
    except OSError as error:
        reason = f"{folder}: {error.strerror}: choose a folder that can be written and has 10 MB of space"
        raise click.ClickException(reason) from error
    click.echo(f"example data is in {folder}")


@main.command()
@click.argument("words", metavar="[DIR | ID [REGION]]", nargs=-1)
@_config_option
@click.option("--deep", is_flag=True, help="Follow tickets for some regions, and compare their records with pysam's.")
@click.option("--as", "token", metavar="TOKEN", help="Explain what a bearer token opens; - reads it from stdin.")
def check(words: tuple[str, ...], config_path: Path | None, deep: bool, token: str | None) -> None:
    """Check that files below DIR, or of a configuration, can be served.

    Prints a line for each file, and the remedy for each fault. Buckets are checked first.

    With --as TOKEN: the bearer of the token, and whether it opens the dataset ID, or its REGION (NAME:FIRST-LAST); an
    empty token stands for requests without one. The exit code is 0 if /reads or /variants opens the dataset, else 1.
    """
    if token is not None:
        if config_path is None or not 1 <= len(words) <= 2:
            raise click.UsageError("--as TOKEN needs --config FILE and an ID, and may have a REGION")
        if token == "-":  # noqa: S105
            token = sys.stdin.readline().strip()
        from htsget_flask.commands.explain_access import explain_access

        try:
            is_good = explain_access(_config(None, config_path), token, *words, echo=click.echo)
        except (FileFaultError, OSError, ServiceError, StorageError, ValueError, VersionError) as error:
            raise click.ClickException(str(error)) from None
    else:
        if len(words) > 1:
            raise click.UsageError("give either DIR or --config FILE")
        from htsget_flask.commands.check.report import report_files

        folder = _FOLDER.convert(words[0], None, click.get_current_context()) if words else None
        is_good = report_files(_config(folder, config_path), deep=deep, echo=click.echo)
    if not is_good:
        raise SystemExit(1)


@main.command()
@_folder_argument
@_config_option
def index(folder: Path | None, config_path: Path | None) -> None:
    """Build missing and outdated indexes for files below DIR, or of a configuration.

    FASTA files get their .fai, and their .gzi if they are compressed, because other programs need them. A file that
    cannot be read or indexed is reported at the end; the others get their indexes, and the exit code is 1.
    """
    from htsget_flask.commands.index import find_jobs

    faults: list[str] = []
    warnings: list[str] = []
    jobs = find_jobs(create_services(_config(folder, config_path)), lambda error: faults.append(str(error)))
    built = 0
    with _progress(f"indexing {len(jobs)} files", sum(job.size for job in jobs)) as advance:
        for job in jobs:
            try:
                job.build()
                built += 1
            except FileFaultError as error:
                (faults if job.is_dataset else warnings).append(str(error))
            advance(job.size)
    _warn(*warnings)
    click.echo(f"{built} indexes built, {len(faults)} failed")
    _fail_if(faults)


@main.group()
def refget() -> None:
    """Prepare reference sequences to be served by their digests."""


@refget.command("index")
@_fastas_argument
@_cache_option
def refget_index(fastas: tuple[Path, ...], config_path: Path | None) -> None:
    """Compute the digests of the sequences in FASTA files, and save them next to each file or in the cache folder.

    Digests that are saved already are not computed again.
    """
    from htsget_flask.commands.refget import index_fasta

    cache_folder, faults = _cache_folder(config_path), list[str]()
    for path in fastas:
        with _collect_fault(path, faults):
            saved, count = index_fasta(path, cache_folder, _progress)
            click.echo(f"{path}: {count:,} sequences, {f'digests in {saved}' if saved else 'digests cannot be saved'}")
    _fail_if(faults)


@refget.command()
@_fastas_argument
@click.argument("folder", metavar="DIR", type=_NEW_FOLDER)
@_cache_option
def ingest(fastas: tuple[Path, ...], folder: Path, config_path: Path | None) -> None:
    """Write each sequence of FASTA files to its own file below DIR, from which it is served fastest.

    samtools can read such a folder as REF_CACHE. Files that exist already are not written again.
    """
    from htsget_flask.commands.refget import ingest_fasta
    from htsget_flask.sequences.store import StoreWriter

    cache_folder, faults = _cache_folder(config_path), list[str]()
    with _collect_fault(folder, faults):
        store = StoreWriter(folder)
        for path in fastas:
            with _collect_fault(path, faults):
                added, count = ingest_fasta(path, store, cache_folder, _progress)
                click.echo(f"{path}: {count:,} sequences, {added:,} of them new")
    _fail_if(faults)


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar, shown on a terminal only."""
    with click.progressbar(length=length, label=label, file=sys.stderr) as progress:
        yield progress.update


def _cache_folder(config_path: Path | None) -> Path | None:
    config = None if config_path is None else _config(None, config_path)
    folder = (config and config.cache.folder) or default_cache_folder()
    if reason := distrust(folder):
        _warn(f"the cache folder is not used: it {reason} [{folder}]")
        return None
    return folder


@contextmanager
def _collect_fault(path: Path, faults: list[str]) -> Iterator[None]:
    """Append the fault of a file or folder to `faults`, so that the others can be processed."""
    try:
        yield
    except FileFaultError as error:
        faults.append(str(error))
    except OSError as error:
        faults.append(f"{error.filename or path}: {error.strerror}")


def _warn(*warnings: str) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _fail_if(faults: Sequence[str]) -> None:
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
