"""The commands of the documents, each run as it is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live.documents import Block, DocumentReader, sections
from tests.support.live.server import Server

pytestmark = pytest.mark.live

README, CLIENTS, TUTORIAL = "README.md", "docs/clients.md", "docs/tutorial.md"
# Of these sections each block stands alone; in the tutorial and the start they follow each other.
EXAMPLES = [
    pytest.param(block, id=f"{name}-{title}-{number}")
    for name, titles in ((README, ("One example per client",)), (CLIENTS, None))
    for title, blocks in sections(name).items()
    if titles is None or title in titles
    for number, block in enumerate(blocks)
    if block.language in ("sh", "python")
]


@pytest.fixture
def reader(tmp_path: Path, demo_folder: Path) -> Iterator[DocumentReader]:
    """A reader with the example data in the folder `data`."""
    shutil.copytree(demo_folder, tmp_path / "data", copy_function=shutil.copy2)
    with DocumentReader(tmp_path) as reader:
        yield reader


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_for_clients(block: Block, demo_server: Server, tmp_path: Path) -> None:
    with DocumentReader(tmp_path, demo_server) as reader:
        reader.follow(block)


@pytest.mark.parametrize("title", ["Quickstart", "Your own data"])
def test_the_readme(reader: DocumentReader, title: str) -> None:
    blocks = [block for block in sections(README)[title] if block.language == "sh"]
    assert blocks
    for block in blocks:
        reader.follow(block)
    assert reader.follow(Block("sh", f"curl {reader.url}/reads/NA00001"))


def test_a_block_without_a_prompt_is_run() -> None:
    # A typing error in a language's name would take its commands out of these tests.
    known = {"sh", "console", "python", "pycon", "js", "json", "yaml", "html", "text", "ini", "nginx", "apache"}
    for name in (README, CLIENTS):
        for title, blocks in sections(name).items():
            assert {block.language for block in blocks} <= known, (name, title)
