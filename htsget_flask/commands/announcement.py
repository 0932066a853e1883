"""What `serve` prints once it listens: its address, and URLs to try."""

import os
import signal
from typing import Any

import click

from htsget_flask import __version__
from htsget_flask.commands.examples import example_urls
from htsget_flask.config import Config
from htsget_flask.services import create_services

# Seconds; a file that takes longer to open ends the search for examples.
_LONGEST_SEARCH = 20


def announce(arbiter: Any, config: Config, base: str) -> None:
    """Print the service's URL, and have examples printed by a process that opens files for them.

    No file decides whether and when the service starts: one may take hours to open, with the interpreter locked.
    gunicorn's first process calls this before it makes workers. It has no threads then, so that it can be forked.
    """
    click.echo(f"htsget_flask {__version__} serves {base}")
    if os.fork():
        return
    try:
        for number in arbiter.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(_LONGEST_SEARCH)
        for listener in arbiter.LISTENERS:
            listener.sock.close()
        click.echo("\n".join(_examples(config, base)), nl=False)
    except Exception:
        arbiter.log.exception("no example URLs were found")
    finally:
        os._exit(0)


def _examples(config: Config, base: str) -> list[str]:
    lines = []
    for url in example_urls(create_services(config), base):
        lines.append(f"  {url}")
        if "?" in url and "/sequence/" not in url:
            tool = "samtools" if "/reads/" in url else "bcftools"
            lines.append(f'  {tool} view "{url}"')
    return ["Try:", *lines, ""] if lines else []
