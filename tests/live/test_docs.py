"""The commands of the documents, each run as it is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from htsget_flask.browser.content_security import igv_js
from htsget_flask.config import folder_config
from tests.support.live.browser import igv_js_file, static_site, visit
from tests.support.live.documents import Block, DocumentReader, sections
from tests.support.live.server import Server
from tests.support.live.tools import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


@pytest.mark.parametrize("title", sections(TUTORIAL))
def test_the_tutorial(title: str, tmp_path: Path) -> None:
    with DocumentReader(tmp_path) as reader:
        for block in sections(TUTORIAL)[title]:
            reader.follow(block)


def test_the_page_for_igv_js(browser: "Browser", demo_server: Server, tmp_path: Path) -> None:
    (page,) = (block for block in sections(CLIENTS)["igv.js"] if block.language == "html")
    cdn = igv_js(folder_config(ROOT)).url
    assert cdn in page.text
    with DocumentReader(tmp_path, demo_server) as reader:
        reader.follow(page)
    with static_site(tmp_path) as url:
        answers = {cdn: igv_js_file().read_bytes(), f"{url}/favicon.ico": b""}
        with visit(browser, f"{url}/{page.file_name}", answers=answers) as visited:
            tracks = visited.tracks("alignment", "variant")
            assert visited.errors == []
            assert visited.alerts() == []
    assert tracks["reads"]["count"] == tracks["CRAM"]["count"] > 100
    assert tracks["variants"]["count"] > 3


def test_a_block_without_a_prompt_is_run() -> None:
    # A typing error in a language's name would take its commands out of these tests.
    known = {"sh", "console", "python", "pycon", "js", "json", "yaml", "html", "text", "java", "r"}
    for name in (README, CLIENTS, TUTORIAL):
        for title, blocks in sections(name).items():
            assert {block.language for block in blocks} <= known, (name, title)
