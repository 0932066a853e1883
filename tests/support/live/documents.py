"""The commands of a document, run as its reader would run them.

A fenced block of `sh` or `python` is run as it stands, apart from the port; `yaml`, `json` and `html` whose first line
is a comment with a file name become that file. What needs root, Docker or the internet has a prompt (`console`,
`pycon`) and is not run. A line with the comment `# refused` or `# fails` has to fail.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support.live.server import Server, free_port, running
from tests.support.live.tools import ROOT, tool

PORT = "8080"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_FILE_NAME = re.compile(r"(?:#|<!--) (\S+\.(?:yaml|json|html))\b")
_SERVER = re.compile(r"make serve\b|htsget-flask serve\b")
_FAILURE = re.compile(r"^(.+?) +# (?:refused|fails)\b.*$", re.MULTILINE)
_STAMP = re.compile(r"\$\(VENV\)/([\w-]+\.stamp)")
_PROGRAM = re.compile(r"^(?:[A-Z_]+=\S+ )*(samtools|bcftools|curl|htsget|rclone|wget|openssl)\b", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    text: str

    @property
    def is_server(self) -> bool:
        """Whether it starts a server, with its last line."""
        return self.language == "sh" and bool(_SERVER.match(self.text.splitlines()[-1]))

    @property
    def file_name(self) -> str | None:
        """The file that the block is the content of, by the comment in its first line."""
        found = _FILE_NAME.match(self.text)
        return found[1] if found and self.language in ("yaml", "json", "html") else None


def sections(name: str) -> dict[str, list[Block]]:
    """The blocks of a document, by the headings of its sections."""
    _, *parts = _HEADING.split((ROOT / name).read_text(encoding="utf-8"))
    return {title: [*_blocks(text)] for title, text in zip(parts[::2], parts[1::2], strict=True)}


def _blocks(text: str) -> Iterator[Block]:
    yield from (Block(found[1], found[2]) for found in _FENCE.finditer(text))


class DocumentReader:
    """Runs blocks one after the other in a folder, which is also its home; servers that it starts run until the end."""

    def __init__(self, folder: Path, server: Server | None = None, *, checkout: Path = ROOT) -> None:
        self._folder = folder
        self._server = server
        self._port = free_port() if server is None else server.port
        self._stack = ExitStack()
        self._checkout = checkout
        # A program that ends with 0 for an HTTP error would hide it.
        (folder / ".curlrc").write_text("fail\n", encoding="utf-8")

    def __enter__(self) -> "DocumentReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL of the server that runs."""
        return f"http://127.0.0.1:{self._port}"

    def text(self, block: Block) -> str:
        """What the block says, with the port of this reader's server."""
        return block.text.replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{self._port}")

    def follow(self, block: Block) -> str:
        """Do what the block says; the output of its commands, which have to succeed."""
        if block.file_name:
            (self._folder / block.file_name).write_text(self.text(block), encoding="utf-8")
        elif block.is_server:
            *lines, last = self.text(block).splitlines(keepends=True)
            self._run_shell("".join(lines))
            self._start(last)
        elif block.language == "sh":
            for program in _PROGRAM.findall(block.text):
                tool(program)
            return self._run_shell(self.text(block))
        elif block.language == "python":
            return self._run(sys.executable, "-c", self.text(block))
        return ""

    def _start(self, command: str) -> None:
        self._stack.close()
        self._port = free_port()
        cwd = self._folder
        if command.startswith("make "):
            cwd = self._checkout
        else:
            command = f"{command.partition('#')[0].strip()} --port {self._port}"
        folder = self._folder / f"server-{self._port}"
        folder.mkdir()
        arguments = ["/bin/bash", "-c", f"exec {command}"]
        environment = self._environment()
        self._server = self._stack.enter_context(
            running(arguments, folder=folder, port=self._port, cwd=cwd, environment=environment)
        )

    def _run_shell(self, text: str) -> str:
        # With `!` alone the shell would go on where a command does not fail.
        return self._run("/bin/bash", "-euo", "pipefail", "-c", _FAILURE.sub(r"if \1; then exit 99; fi", text))

    def _run(self, *command: str) -> str:
        ended = subprocess.run(
            command,
            cwd=self._folder,
            env={**os.environ, **self._environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stdout[-1000:], ended.stderr.decode(errors="replace")[-2000:])
        return ended.stdout.decode(errors="replace")

    def _environment(self) -> Mapping[str, str]:
        programs = os.path.dirname(sys.executable)
        return {
            "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath), "/usr/sbin"]),
            "HOME": str(self._folder),
            "CURL_HOME": str(self._folder),
            "MAKEFLAGS": f"-- PORT={self._port} VENV={self._installed()}",
        }

    def _installed(self) -> Path:
        """A folder that `make` takes for its environment: this one, and up to date."""
        folder = self._folder / "venv"
        if not folder.is_dir():
            folder.mkdir()
            for path in Path(sys.prefix).iterdir():
                if path.suffix != ".stamp":
                    (folder / path.name).symlink_to(path)
            for name in _STAMP.findall((self._checkout / "Makefile").read_text(encoding="utf-8")):
                (folder / name).touch()
        return folder
