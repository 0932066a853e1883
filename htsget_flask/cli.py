"""The command `htsget-flask`: it parses and calls."""

from pathlib import Path

import click

from htsget_flask import __version__
from htsget_flask.app import create_services
from htsget_flask.config import Config, ConfigError, folder_config, read_config
from htsget_flask.demo import write_demo
from htsget_flask.examples import example_urls

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Serve BAM, CRAM, VCF and BCF files to htsget clients."""


@main.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@click.option("--config", "config_path", type=_FILE, help="A YAML file; instead of DIR.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@click.option("--threads", default=32, show_default=True, type=click.IntRange(1), help="Threads in each process.")
def serve(
    folder: Path | None, config_path: Path | None, host: str, port: int, workers: int | None, threads: int
) -> None:
    """Serve all files below DIR, or the datasets of a configuration, with gunicorn."""
    from htsget_flask.server import Server, settings  # noqa: PLC0415 - gunicorn is of no use to the other commands

    config = _config(folder, config_path)

    def announce(_: object) -> None:
        address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        base = config.public_url or f"http://{address}:{port}/"
        click.echo(f"htsget_flask {__version__} serves {base}\nTry:")
        for url in example_urls(create_services(config), base):
            click.echo(f"  {url}")
            if "?" in url:
                tool = "samtools" if "/reads/" in url else "bcftools"
                click.echo(f'  {tool} view "{url}"')

    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = settings(bind=bind, workers=workers, threads=threads)
    Server(config, {**options, "loglevel": "warning", "when_ready": announce}).run()


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def demo(folder: Path) -> None:
    """Write example data to DIR: one sample's reads, a cohort's variants, their reference."""
    write_demo(folder)
    click.echo(f"example data is in {folder}")


def _config(folder: Path | None, config_path: Path | None) -> Config:
    if (folder is None) == (config_path is None):
        raise click.UsageError("give either DIR or --config FILE")
    try:
        return folder_config(folder) if folder else read_config(config_path)  # type: ignore[arg-type]
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
